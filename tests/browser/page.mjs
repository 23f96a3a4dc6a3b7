// page.mjs - what the scripts share: a browser, pages that note what goes wrong in them, ways to wait.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { chromium } from 'playwright-core';

export const browse = (...more) => chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: ['--no-sandbox', ...more] });

export const tokenOf = (dir, name = 'admin') => readFileSync(`${dir}/${name}.token`, 'utf8').trim();

// What pages said on their consoles, and what was thrown in them. Empty, in the end.
export const complaints = [];

export async function open(browser, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 860 }, colorScheme: 'light', ...options });
  const page = await context.newPage();
  page.setDefaultTimeout(15000);
  // That nobody listens for a moment, while one admin process follows another, is no fault of the page.
  page.on('console', (m) => {
    if (m.type() === 'error' && !/ERR_(CONNECTION|INCOMPLETE|EMPTY|NETWORK)|status of 401/.test(m.text())) complaints.push(m.text());
  });
  page.on('pageerror', (e) => complaints.push(String(e)));
  page.on('dialog', (d) => d.accept());
  return page;
}

export async function logIn(page, admin, token) {
  await page.goto(admin);
  await page.getByLabel('Token').fill(token);
  await page.getByRole('button', { name: 'Log in' }).press('Enter');
  await page.getByRole('heading', { name: 'Overview' }).waitFor();
}

export const VIEWS = ['Overview', 'Chains', 'Plugins', 'Crashes', 'Alerts', 'Releases', 'Reload', 'Workers', 'Events', 'Config'];

export async function go(page, name) {
  await page.getByRole('navigation').getByRole('link', { name: new RegExp(`^${name}`) }).click();
  await page.getByRole('heading', { level: 1, name }).waitFor();
}

export async function eventually(what, check) {
  for (let i = 0; i < 150; i++) {
    if (await check()) return;
    await new Promise((done) => setTimeout(done, 100));
  }
  assert.fail(`never came true: ${what}`);
}

// A request of a machine, by the operators' token; json is its body. A connection may end under it while one admin
// process follows another: then once more, so that what acts may be done twice.
export async function asMachine(admin, token, path, method = 'GET', json = undefined) {
  const headers = { Authorization: `Bearer ${token}`, ...(json === undefined ? {} : { 'Content-Type': 'application/json' }) };
  for (let tries = 0; ; tries++) {
    try {
      return await fetch(admin + path, { method, headers, body: json === undefined ? undefined : JSON.stringify(json) });
    } catch (problem) {
      if (tries === 20) throw problem;
      await new Promise((done) => setTimeout(done, 100));
    }
  }
}
