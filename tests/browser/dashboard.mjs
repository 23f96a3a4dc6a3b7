// dashboard.mjs - the dashboard in a real browser: each view, one story, no complaint on the console.
//
//   node dashboard.mjs ADMIN SITE DIR [PICTURES]
//
// ADMIN and SITE are URLs of one server, whose folder is DIR: its tokens are there, and v1.so and v2.so,
// two versions of the plugin whose object is DIR/app.so. Says "ok" at the end; fails with what was wrong.
import assert from 'node:assert/strict';
import { copyFileSync, readFileSync, renameSync } from 'node:fs';
import { createRequire } from 'node:module';
import { asMachine, browse, complaints, eventually, go, logIn, open, tokenOf, VIEWS } from './page.mjs';

const [, , admin, site, dir, pictures] = process.argv;
const operator = tokenOf(dir);
const reader = tokenOf(dir, 'read');
const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const browser = await browse();

const picture = async (page, name) => {
  if (pictures) await page.screenshot({ path: `${pictures}/${name}.png` });
};

// What can be checked by machine of what a reader with other eyes, or none, needs: names, roles, order of
// headings, contrast, focus.
async function checkReadable(page, what, rules = null) {
  await page.evaluate(axe); // not as a script of the page: its policy allows none but its own
  const { violations } = await page.evaluate((only) => globalThis.axe.run(document, { resultTypes: ['violations'], ...(only ? { runOnly: only } : {}) }), rules);
  assert.deepEqual(violations.map((v) => `${v.id}: ${v.nodes[0].html.slice(0, 200)}`), [], what);
}

const ask = async (path) => (await fetch(site + path)).status;

const deploy = (version) => {
  copyFileSync(`${dir}/${version}.so`, `${dir}/app.so.new`);
  renameSync(`${dir}/app.so.new`, `${dir}/app.so`);
};

// ---- who gets in ----

const page = await open(browser);
await page.goto(admin);
await page.getByLabel('Token').waitFor();
await checkReadable(page, 'the login');
await page.getByLabel('Token').fill('not the token, surely');
await page.getByRole('button', { name: 'Log in' }).click();
await page.getByText('That is not a token of this server.').waitFor();
await logIn(page, admin, operator);

// ---- each view, well, in both colours ----

assert.equal(await ask('/app'), 200);
for (const name of VIEWS) {
  await go(page, name);
  await page.waitForTimeout(60);
  await checkReadable(page, name);
}
await page.getByLabel('Colours').selectOption('dark');
for (const name of ['Overview', 'Reload', 'Config']) { // all kinds of things that have colours
  await go(page, name);
  await checkReadable(page, `${name}, dark`, ['color-contrast']); // the rest is as it was
}
await page.getByLabel('Colours').selectOption('light');

// ---- the story: a bad version is deployed, seen, taken out, and replaced ----

await go(page, 'Reload');
deploy('v2');
await page.getByRole('button', { name: 'Preview' }).click();
await page.getByText('It can be loaded').waitFor();
await page.getByText('plugins.app (object)').waitFor();
await picture(page, 'dashboard-reload');
await page.getByRole('button', { name: 'Load it' }).click();
await page.getByRole('heading', { name: 'Result' }).waitFor();
await page.getByText('generation 2', { exact: true }).waitFor();

await go(page, 'Overview');
const load = setInterval(() => fetch(`${site}/app`).catch(() => 0), 20); // what it answers is seen on the page
const other = setInterval(() => fetch(`${site}/other`).catch(() => 0), 20);
await page.getByRole('row', { name: /^app/ }).getByText(/blocked|Out/).waitFor();
await page.getByText("plugin 'app'").first().waitFor();
assert.equal(await ask('/other'), 200);
await page.waitForTimeout(pictures ? 20000 : 0);
await picture(page, 'dashboard-overview');
await checkReadable(page, 'Overview, with a plugin out of order');
await go(page, 'Chains');
await page.getByRole('region', { name: 'Chain of main' }).getByRole('link', { name: /app.*(blocked|Out)/s }).waitFor();
await picture(page, 'dashboard-chains');
await checkReadable(page, 'Chains, with a plugin out of order');

await go(page, 'Crashes');
await page.getByRole('row', { name: /SIGSEGV in on_request/ }).first().getByRole('link').click();
await page.getByText('go_wrong()').first().waitFor();
await page.getByText('The way of the error up the chain').waitFor();
await page.getByText('GET /app HTTP/1.1').waitFor();
await picture(page, 'dashboard-crash');
await checkReadable(page, 'a crash');

await go(page, 'Plugins');
await page.getByRole('link', { name: 'app', exact: true }).click();
await page.getByRole('button', { name: 'Take out' }).click();
await page.locator('h1 .state', { hasText: 'Taken out' }).waitFor();
assert.equal(await ask('/app'), 503);
await page.getByRole('button', { name: 'Put back' }).click();
await eventually('it is put back', async () => (await page.locator('h1 .state', { hasText: 'Taken out' }).count()) === 0);
await page.getByLabel('Log level').selectOption('debug');
await page.getByText('The log level of app is debug.').waitFor();

// What the rules of alerts have made of it: one receiver was told, the other is not there.
await go(page, 'Alerts');
const alert = page.getByRole('row', { name: /app_crashes/ });
await alert.getByText('Firing').waitFor();
await alert.getByText(/^chat .*arrived/).waitFor();
await alert.getByText(/^pager .*on its way/).waitFor();
await page.getByRole('row', { name: /^pager webhook/ }).getByText(/Not reached/).waitFor();
await page.getByRole('row', { name: /no_such/ }).getByText('No data').waitFor();
await checkReadable(page, 'Alerts, firing');
await picture(page, 'dashboard-alerts');
await page.getByLabel('Colours').selectOption('dark');
await checkReadable(page, 'Alerts, firing, dark', ['color-contrast']);
await picture(page, 'dashboard-alerts-dark');
await page.getByLabel('Colours').selectOption('light');
await go(page, 'Events');
await page.getByRole('row', { name: /alert firing .*app_crashes/ }).waitFor();

deploy('v1');
await go(page, 'Reload');
await page.getByRole('button', { name: 'Preview' }).click();
await page.getByText('It can be loaded').waitFor();
await page.getByRole('button', { name: 'Load it' }).click();
await page.getByText('generation 3', { exact: true }).waitFor();
await go(page, 'Plugins');
await page.getByRole('link', { name: 'app', exact: true }).click();
await page.getByRole('button', { name: 'Put back' }).click({ timeout: 2000 }).catch(() => 0); // it may be by now
await eventually('it serves again', async () => (await ask('/app')) === 200);
clearInterval(load);
clearInterval(other);

// ---- another one: the bad version is tried on a part of the requests, and rolled back by itself ----

await eventually('clients are served again', async () => (await ask('/app')) === 200);
deploy('v2');
const started = await asMachine(admin, operator, '/api/v1/rollout', 'POST',
  { plugin: 'app', rollout: { key: 'request', steps: [{ canary: '10%', for: '1m', samples: 500 }] } });
assert.equal(started.status, 202, await started.text());
await go(page, 'Releases');
await page.getByRole('heading', { name: /Rollout of app .*Step 1 of 1/ }).waitFor();
await page.getByText('canary 10%').first().waitFor();
await checkReadable(page, 'a rollout');
await picture(page, 'dashboard-rollout');
let failed = 0;
await eventually('it is rolled back', async () => {
  const answers = await Promise.all(Array.from({ length: 5 }, () => ask('/app')));
  failed += answers.filter((status) => status === 500).length;
  return (await page.getByRole('heading', { name: /Rolled back/ }).count()) === 1;
});
assert.ok(failed >= 1 && failed <= 15, `${failed} requests failed`);
assert.equal(await ask('/app'), 200);
await go(page, 'Events');
await page.getByRole('row', { name: /rollout rolled back/ }).waitFor();

await go(page, 'Workers');
const pid = await page.getByRole('row', { name: /serving/ }).first().getByRole('cell').nth(3).textContent();
await page.getByRole('button', { name: 'Recycle all' }).click();
await eventually('a fresh worker', async () => (await page.getByRole('row', { name: /serving/ }).first().getByRole('cell').nth(3).textContent()) !== pid);

// ---- by keyboard ----

await page.goto(`${admin}/#/overview`);
await page.reload();
await page.getByRole('heading', { name: 'Overview' }).waitFor();
await page.keyboard.press('Tab');
assert.equal(await page.evaluate(() => document.activeElement.className), 'skip');
await page.getByRole('link', { name: 'Chains' }).focus();
await page.keyboard.press('Enter');
await page.getByRole('heading', { name: 'Chains' }).waitFor();
assert.equal(await page.evaluate(() => document.activeElement.id), 'main');
// What is focused stays so while the page is brought up to date.
await page.getByRole('region', { name: 'Chain of main' }).getByRole('link').first().focus();
await page.waitForTimeout(1500);
assert.equal(await page.evaluate(() => document.activeElement.nodeName), 'A');

// ---- on a phone, dark, for who may only look ----

const phone = await open(browser, { viewport: { width: 390, height: 844 }, colorScheme: 'dark', hasTouch: true });
await logIn(phone, admin, reader);
for (const name of VIEWS) {
  await go(phone, name);
  const width = await phone.evaluate(() => document.documentElement.scrollWidth);
  assert.ok(width <= 390, `${name} is ${width} wide`);
  if (name === 'Chains') await picture(phone, 'dashboard-phone');
}
await go(phone, 'Workers');
assert.equal(await phone.getByRole('button', { name: 'Recycle' }).count(), 0);

// ---- out ----

await page.getByRole('button', { name: 'Log out' }).click();
await page.getByLabel('Token').waitFor();
assert.equal(await page.evaluate(async () => (await fetch('/api/v1/status')).status), 401);

await browser.close();
assert.deepEqual(complaints, []);
console.log('ok');
