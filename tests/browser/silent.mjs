// silent.mjs - an open page when the admin process dies, when the server stands still, and when it is gone.
//
//   node silent.mjs ADMIN SITE DIR MASTER [PICTURES]
//
// ADMIN and SITE are URLs of a server with a plugin `app`, whose folder is DIR and whose master is process MASTER, which
// is ended; another one is started and ended as well, with $BULKHEAD. Says "ok".
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { asMachine, browse, complaints, eventually, go, logIn, open, tokenOf } from './page.mjs';

const [, , admin, , dir, masterText, pictures] = process.argv;
const operator = tokenOf(dir);
const statusNow = async () => (await asMachine(admin, operator, '/api/v1/status')).json();
const browser = await browse();
const page = await open(browser);
const banner = page.getByText('The server does not answer.');
const isLive = async () => {
  await page.getByText('● live').waitFor();
  await banner.waitFor({ state: 'detached' });
};

await logIn(page, admin, operator);
await isLive();

// ---- the admin process dies: another one takes its place, and the page goes on with it ----

const first = (await statusNow()).admin.pid;
await go(page, 'Workers');
process.kill(first, 'SIGKILL');
await page.getByText('○ reconnecting…').waitFor();
await eventually('another admin process', async () => (await statusNow()).admin.pid !== first);
await isLive();
assert.equal(await page.getByRole('heading', { level: 1, name: 'Workers' }).count(), 1);

// ---- it stands still: connections stay, and nothing comes ----

const second = (await statusNow()).admin.pid;
process.kill(second, 'SIGSTOP');
try {
  await banner.waitFor({ timeout: 20000 });
  await page.getByText('○ waiting…').waitFor();
} finally {
  process.kill(second, 'SIGCONT');
}
await isLive();

// ---- the server is gone, and comes back: sessions are gone with it ----

await go(page, 'Overview');
await page.getByText('All is well').waitFor();
process.kill(Number(masterText), 'SIGTERM');
await banner.waitFor({ timeout: 20000 });
await page.getByText('! no answer').waitFor();
await page.getByText(/All of this is as it was at /).waitFor();
assert.equal(await page.getByText('All is well').count(), 0);
if (pictures) await page.screenshot({ path: `${pictures}/silent.png` });
await page.setViewportSize({ width: 390, height: 844 });
if (pictures) await page.screenshot({ path: `${pictures}/silent-phone.png` });
assert.ok(await page.evaluate(() => document.documentElement.scrollWidth) <= 390);
await page.setViewportSize({ width: 1280, height: 860 });
await eventually('the server has ended', () => { // it is somebody else's to bury: until then it has no command line
  try {
    return readFileSync(`/proc/${masterText}/cmdline`, 'utf8') === '';
  } catch {
    return true;
  }
});

const server = spawn(process.env.BULKHEAD, ['run', '-c', `${dir}/bulkhead.yaml`], { cwd: dir, stdio: 'ignore', env: { ...process.env, RUNTIME_DIRECTORY: dir } });
try {
  await page.getByLabel('Token').waitFor({ timeout: 30000 });
  await page.getByLabel('Token').fill(operator);
  await page.getByRole('button', { name: 'Log in' }).click();
  await isLive();
} finally {
  server.kill('SIGTERM');
  await once(server, 'exit');
}
await browser.close();
assert.deepEqual(complaints, []);
console.log('ok');
