// crowded.mjs - the dashboard on a bad night: many plugins, long names, a thousand records, a narrow screen,
// and then no server.
//
//   node crowded.mjs ADMIN DIR PID [PICTURES]
//
// ADMIN is the URL of a server whose folder is DIR and whose master is PID, which is ended. Says "ok".
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { chromium } from 'playwright-core';

const [, , admin, dir, pid, pictures] = process.argv;
const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: ['--no-sandbox'] });
const page = await (await browser.newContext({ viewport: { width: 360, height: 740 }, colorScheme: 'dark' })).newPage();
page.setDefaultTimeout(15000);
await page.goto(admin);
await page.getByLabel('Token').fill(readFileSync(`${dir}/admin.token`, 'utf8').trim());
await page.getByRole('button', { name: 'Log in' }).click();
await page.getByRole('heading', { name: 'Overview' }).waitFor();

const widthOf = () => page.evaluate(() => document.documentElement.scrollWidth);
const picture = async (name) => { if (pictures) await page.screenshot({ path: `${pictures}/${name}.png` }); };

for (const name of ['Overview', 'Chains', 'Plugins', 'Crashes', 'Alerts', 'Releases', 'Reload', 'Workers', 'Events', 'Config']) {
  await page.getByRole('navigation').getByRole('link', { name: new RegExp(`^${name}`) }).click();
  await page.getByRole('heading', { level: 1, name }).waitFor();
  assert.ok(await widthOf() <= 360, `${name} is ${await widthOf()} wide`);
  await picture(`crowded-${name}`);
}

// What is beside a long name can be seen: on a wide screen the table needs no scrolling.
await page.setViewportSize({ width: 1280, height: 860 });
await page.goto(`${admin}/#/plugins`);
await page.getByRole('columnheader', { name: 'Memory' }).waitFor();
const table = page.locator('.scroll').first();
const [inner, outer] = await table.evaluate((e) => [e.scrollWidth, e.clientWidth]);
assert.ok(inner <= outer, `the table of plugins is ${inner} wide, and has ${outer}`);
await page.goto(`${admin}/#/crashes`);
await page.getByText('The latest 100 of 1000 records.').waitFor();

// Nobody must take what stands there for what is.
process.kill(Number(pid), 'SIGTERM');
await page.getByText('The server does not answer.').waitFor({ timeout: 30000 });
await page.getByText('! no answer').waitFor();
await picture('crowded-gone');

await browser.close();
console.log('ok');
