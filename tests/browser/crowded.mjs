// crowded.mjs - the dashboard on a bad night: many plugins, routes, crashes and alerts, generations, a rollout, and
// names of all lengths, on a screen of WIDTH x HEIGHT.
//
//   node crowded.mjs ADMIN SITE DIR WIDTH HEIGHT [PICTURES]
//
// ADMIN and SITE are URLs of the server that test_dashboard_crowded.c starts; its folder is DIR. The first time, what
// there is to see is made to happen. Says "ok".
import assert from 'node:assert/strict';
import { copyFileSync, renameSync } from 'node:fs';
import { get } from 'node:http';
import { findFaults, timeRedraws } from './layout.mjs';
import { asMachine, browse, complaints, eventually, go, logIn, open, tokenOf, VIEWS } from './page.mjs';

const [, , admin, site, dir, ...rest] = process.argv;
const [width, height] = rest.map(Number);
const pictures = rest[2];
const operator = tokenOf(dir);
const longest = (letter) => letter.repeat(63);
const ask = async (path) => {
  const answer = await asMachine(admin, operator, path);
  assert.ok(answer.ok, `${path}: ${answer.status}`);
  return answer.json();
};
const act = (path, json = {}) => asMachine(admin, operator, path, 'POST', json); // what it came to is looked at

// ---- what has happened ----

const statusNow = () => ask('/api/v1/status');

const held = new AbortController();

async function makeItHappen() {
  const path = `/crash/${'a_path_that_somebody_has_found_useful/'.repeat(5)}`;
  for (const fault of ['segv', 'abort', 'fpe', 'segv']) {
    for (const at of ['on_request', 'on_response', 'on_log']) await fetch(`${site}${path}?fault=${fault}&at=${at}`, { headers: { 'X-Long': 'x'.repeat(900) } });
  }
  const rollout = { plugin: longest('W'), rollout: { key: 'request', steps: ['1%', '5%', '20%', '50%', '90%'].map((canary) => ({ canary, for: '1h', samples: 500 })) } };
  const rolloutNow = () => ask('/api/v1/rollout');
  copyFileSync(`${dir}/v2.so`, `${dir}/app.so.new`);
  renameSync(`${dir}/app.so.new`, `${dir}/app.so`);
  await act('/api/v1/rollout', rollout);
  await eventually('the rollout has begun', async () => (await rolloutNow()).phase === 'stepping');
  await act('/api/v1/rollout/abort');
  await eventually('the rollout is over', async () => (await rolloutNow()).result === 'aborted');
  await eventually('another has begun', async () => { // when the first one is tidied up, and the admin process with it
    await act('/api/v1/rollout', rollout);
    return (await rolloutNow()).phase === 'stepping';
  });
  // Two generations: the older one has a request that does not end before the pictures are taken.
  fetch(`${site}/h/hold`, { signal: held.signal }).catch(() => 0);
  const asAnother = () => new Promise((done) => { get(`${site}/h/held`, { agent: false }, (answer) => done(answer.statusCode)); });
  await eventually('a request is held', async () => await asAnother() === 200); // by some worker: so each time another connection
  const before = (await statusNow()).generation;
  await eventually('a reload begins', async () => (await act('/api/v1/reload')).ok);
  await eventually('it is done', async () => {
    const { generation, workers } = await statusNow();
    return generation > before && new Set(workers.map((w) => w.generation)).size === 2;
  });
}

if ((await statusNow()).generation === 1) await makeItHappen();

// ---- how it looks ----

const browser = await browse();
const page = await open(browser, { viewport: { width, height }, colorScheme: width < 800 ? 'dark' : 'light' });
await logIn(page, admin, operator);
await page.getByText(/ is firing, for 2\d sets of labels$/).waitFor(); // one line, not one for each

const faults = [];
const slowest = { view: '', ms: 0 };
async function look(name) {
  await page.waitForTimeout(250); // what it asks for is there, and water stands still
  for (const fault of await page.evaluate(findFaults)) faults.push(`${name} at ${width}: ${fault}`);
  const ms = await page.evaluate(timeRedraws, 5);
  if (ms > slowest.ms) Object.assign(slowest, { view: name, ms });
  if (pictures) await page.screenshot({ path: `${pictures}/crowded-${width}-${name.replaceAll(' ', '-')}.png`, fullPage: true });
}

for (const name of VIEWS) {
  await go(page, name);
  if (name === 'Reload') {
    await page.getByRole('button', { name: 'Preview' }).click();
    await page.getByRole('heading', { name: /What would change/ }).waitFor();
  }
  if (name === 'Crashes') await page.getByText(/^The latest 100 of \d+ records\.$/).waitFor();
  await look(name);
  // On a wide screen nothing has to be scrolled for, and headers are those of columns for who cannot see it.
  if (width > 800 && ['Overview', 'Plugins', 'Crashes', 'Alerts', 'Events'].includes(name)) {
    assert.equal(await page.getByRole('columnheader', { name: 'Plugin' }).count(), { Overview: 2, Alerts: 0 }[name] ?? 1);
    for (const [inner, outer] of await page.locator('.scroll').evaluateAll((all) => all.map((e) => [e.scrollWidth, e.clientWidth]))) {
      if (inner > outer) faults.push(`${name} at ${width}: a table is ${inner} wide, and has ${outer}`);
    }
  }
}
await go(page, 'Plugins');
await page.getByRole('link', { name: longest('f') }).click();
await page.getByRole('heading', { level: 1, name: longest('f') }).waitFor();
await look('a plugin');
await go(page, 'Crashes');
await page.getByRole('row', { name: /SIGSEGV in on_request/ }).filter({ hasText: longest('f') }).first().getByRole('link').click();
await page.getByText('The way of the error up the chain').waitFor();
await look('a crash');
console.log(`figure: ${width} px: the slowest redraw is that of ${slowest.view}: ${slowest.ms.toFixed(1)} ms`);

held.abort();
await browser.close();
assert.deepEqual(faults, []);
assert.deepEqual(complaints, []);
console.log('ok');
