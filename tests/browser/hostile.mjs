// hostile.mjs - the dashboard against texts that mean harm, and against pages of others, in a real browser.
//
//   node hostile.mjs ADMIN SITE DIR [PICTURES]
//
// ADMIN and SITE are URLs of the server that test_dashboard_hostile.c starts; its folder is DIR. Says "ok".
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { connect } from 'node:net';
import { asMachine, browse, complaints, eventually, go, logIn, open, tokenOf, VIEWS } from './page.mjs';

const [, , admin, site, dir, pictures] = process.argv;
const operator = tokenOf(dir);
const adminPort = new URL(admin).port;
const statusNow = async () => (await asMachine(admin, operator, '/api/v1/status')).json();
const browser = await browse('--host-resolver-rules=MAP evil.test 127.0.0.1');

// ---- texts: of plugins, of clients, of files ----

const HARM = ['<img src=x onerror="boom(1)">', '</script><script>boom(2)</script>', '"><svg onload=boom(3)>', "javascript:boom(4)//'", '\u202Egnorw si siht\u202C', '<iframe srcdoc="<script>boom(5)</script>">', '{{boom(6)}}${boom(7)}'];

// As they are, in the head of a request: no client library would send them.
async function sendRaw(target, headers) {
  const socket = connect(Number(new URL(site).port), '127.0.0.1');
  socket.end(Buffer.from(`GET ${target} HTTP/1.1\r\nHost: a\r\n${headers.map(([k, v]) => `${k}: ${v}\r\n`).join('')}Connection: close\r\n\r\n`));
  let answer = '';
  socket.on('data', (bytes) => { answer += bytes; });
  await once(socket, 'close');
  return Number(answer.slice(9, 12));
}

for (const text of HARM) {
  const coded = encodeURIComponent(text);
  const told = await fetch(`${site}/log?event=harm&say=${coded}`);
  assert.equal(await told.text(), '0 0\n');
  await fetch(`${site}/log?level=1&say=${coded}`);
  await fetch(`${site}/figures?do=add&l=${coded}`);
}
assert.equal(await sendRaw(`/app/${encodeURIComponent(HARM[0])}?q=<script>`.replace('<script>', '%3Cscript%3E'), HARM.map((text, i) => [`X-Harm-${i}`, text])), 500);

// Nothing runs: no function that a text calls, no element that a text makes, no request for what it names, and the
// policy, which would have stopped it, has had nothing to do.
const requests = [];
const page = await open(browser);
page.on('request', (request) => requests.push(request.url()));
await page.addInitScript(() => {
  globalThis.boomed = [];
  globalThis.boom = (n) => globalThis.boomed.push(n);
  document.addEventListener('securitypolicyviolation', (e) => globalThis.boomed.push(`policy: ${e.violatedDirective} ${e.blockedURI}`));
});
page.on('dialog', (dialog) => complaints.push(`a dialog: ${dialog.message()}`));
await logIn(page, admin, operator);

const seen = {};
async function look(name) {
  await page.waitForTimeout(200);
  const found = await page.evaluate(() => ({ boomed: globalThis.boomed, made: [...document.querySelectorAll('#app img, #app script, #app iframe, #app object, #app embed, #app [onerror], #app [onload], #app [srcdoc], #app a[href^="javascript"]')].map((e) => e.outerHTML), text: document.getElementById('app').innerText }));
  assert.deepEqual(found.boomed, [], name);
  assert.deepEqual(found.made, [], name);
  seen[name] = found.text;
  if (pictures) await page.screenshot({ path: `${pictures}/hostile-${name.replaceAll(' ', '-')}.png`, fullPage: true });
}
// `text` stands there, or the part of it that nothing has to be done about: the log and events have `?` for what turns
// the order of letters, the page has its number.
const harmless = (text) => text.replace(/[\u202A-\u202E]/g, '');
const shows = (name, text) => {
  assert.ok(!/[\u202A-\u202E]/.test(seen[name]), `${name} shows what turns letters around`);
  assert.ok(seen[name].includes(harmless(text)), `${name} does not show ${text}, but\n${seen[name].slice(-1500)}`);
};

await eventually('the alerts fire', async () => (await (await asMachine(admin, operator, '/api/v1/alerts')).json()).alerts.filter((a) => a.state === 'firing').length === HARM.length);
writeFileSync(`${dir}/bulkhead.yaml`, `${readFileSync(`${dir}/bulkhead.yaml`, 'utf8')}"${HARM[0].replaceAll('"', '\\"')}": 1\n`);
for (const name of VIEWS) {
  await go(page, name);
  if (name === 'Reload') {
    await page.getByRole('button', { name: 'Preview' }).click();
    await page.getByText(/Failed at/).waitFor();
  }
  if (name === 'Crashes') await page.getByRole('row', { name: /SIG/ }).first().waitFor();
  await look(name);
}
for (const text of HARM) {
  shows('Events', `harm: ${harmless(text)}`.replace('harm: gnorw', 'gnorw'));
  shows('Alerts', `l=${harmless(text)}`.replace('l=gnorw', 'gnorw'));
}
shows('Reload', '<img src=x onerror=');
shows('Config', HARM[1]);
shows('Releases', 'app 1<img src=x onerror=boom(1)>');
await go(page, 'Plugins');
await page.getByRole('link', { name: 'app', exact: true }).click();
await page.getByRole('heading', { level: 1, name: 'app' }).waitFor();
await look('a plugin');
shows('a plugin', HARM[1]);
await go(page, 'Crashes');
await page.getByRole('row', { name: /app/ }).first().getByRole('link').click();
await page.getByText('The way of the error up the chain').waitFor();
await look('a crash');
for (const text of HARM) shows('a crash', text);
assert.match(seen['a crash'], /⟨U\+202E⟩gnorw si siht⟨U\+202C⟩|\?gnorw si siht\?/);

// ---- what the page gives away: nothing in URLs, nothing in storage but the colours ----

await page.getByLabel('Colours').selectOption('dark');
assert.ok(requests.length > 20);
for (const url of requests) {
  assert.ok(url.startsWith(`${admin}/`) && /^\/(|assets\/[a-z]+\.(js|css|svg)|api\/v1\/[^<>]*)$/.test(new URL(url).pathname), url);
  assert.ok(!url.includes(operator), url);
}
const kept = await page.evaluate(() => ({ local: { ...localStorage }, session: { ...sessionStorage }, cookie: document.cookie, href: location.href, html: document.documentElement.outerHTML }));
assert.deepEqual([kept.local, kept.session, kept.cookie], [{ theme: 'dark' }, {}, '']);
assert.ok(!kept.href.includes(operator) && !kept.html.includes(operator));

// ---- pages of others, while an operator is logged in in the same browser ----

const attacker = createServer((request, response) => {
  response.setHeader('Content-Type', 'text/html');
  response.end('<!doctype html><title>kittens</title><body>kittens');
});
attacker.listen(0, '127.0.0.1');
await once(attacker, 'listening');
const origins = [`http://127.0.0.1:${attacker.address().port}`, `http://evil.test:${attacker.address().port}`]; // the same site, by cookies; and another one

const factsNow = async () => {
  const { generation, plugins, workers, reload } = await statusNow();
  const { levels } = await (await asMachine(admin, operator, '/api/v1/loglevel')).json();
  return { generation, reload, breakers: plugins.map((p) => p.breaker.state), workers: workers.map((w) => w.pid), levels: levels.map((l) => l.set) };
};

// In the page of the attacker: every way to send something that a browser offers.
async function attack({ target, token }) {
  const changes = [['reload', { dry_run: false }], ['workers/recycle', {}], ['workers/0/recycle', {}], ['plugins/app/breaker', { action: 'open' }], ['rollout', { plugin: 'app', rollout: { steps: [{ canary: '10%', for: '1m', samples: 5 }] } }], ['session', { token }]];
  const read = [];
  const api = (path) => `${target}/api/v1/${path}`;
  const quietly = async (name, promise) => {
    const got = await Promise.race([promise.catch(() => null), new Promise((done) => setTimeout(done, 3000, null))]);
    if (got !== null && got !== undefined && got !== '') read.push(`${name}: ${got}`);
  };
  const textOf = async (answer) => (answer.type === 'opaque' ? '' : answer.text());
  for (const [path, body] of changes) {
    const json = JSON.stringify(body);
    for (const enctype of ['application/x-www-form-urlencoded', 'multipart/form-data', 'text/plain']) {
      const frame = document.createElement('iframe');
      frame.name = `f${Math.random()}`;
      document.body.append(frame);
      const form = Object.assign(document.createElement('form'), { action: api(path), method: 'post', enctype, target: frame.name });
      form.append(Object.assign(document.createElement('input'), { name: `${json.slice(0, -1)},"x":"`, value: '"}' }));
      document.body.append(form);
      form.submit();
    }
    for (const type of ['text/plain', 'application/json']) {
      for (const mode of ['cors', 'no-cors']) await quietly(`${mode} ${path}`, fetch(api(path), { method: 'POST', mode, credentials: 'include', headers: { 'Content-Type': type }, body: json }).then(textOf));
    }
    navigator.sendBeacon(api(path), new Blob([json], { type: 'text/plain' }));
    await new Promise((done) => { // a GET that has the body in its query, too
      const image = Object.assign(new Image(), { onload: done, onerror: done });
      image.src = `${api(path)}?${encodeURIComponent(json)}`;
      setTimeout(done, 2000);
    });
  }
  await quietly('PUT loglevel', fetch(api('loglevel'), { method: 'PUT', credentials: 'include', headers: { 'Content-Type': 'application/json' }, body: '{"plugin":null,"level":"debug"}' }).then(textOf));
  await quietly('DELETE session', fetch(api('session'), { method: 'DELETE', credentials: 'include' }).then(textOf));
  for (const path of ['status', 'config', 'session']) await quietly(`GET ${path}`, fetch(api(path), { credentials: 'include' }).then(textOf));
  await quietly('events', new Promise((done) => {
    const source = new EventSource(api('events'), { withCredentials: true });
    for (const name of ['status', 'numbers', 'event']) source.addEventListener(name, (message) => done(message.data));
    source.onerror = () => { source.close(); done(null); };
  }));
  await quietly('WebSocket', new Promise((done) => {
    const socket = new WebSocket(api('events').replace('http', 'ws'));
    socket.onopen = () => done('open');
    socket.onerror = () => done(null);
  }));
  await quietly('a script', new Promise((done) => {
    const script = Object.assign(document.createElement('script'), { src: api('status'), onload: () => done('loaded'), onerror: () => done(null) });
    document.body.append(script);
  }));
  const other = globalThis.open(target);
  await quietly('window', new Promise((done) => setTimeout(() => { try { done(other?.document?.title); } catch { done(null); } }, 500)));
  return read;
}

const before = await factsNow();
for (const origin of origins) {
  const evil = await page.context().newPage(); // whose console says a lot
  await evil.goto(origin);
  assert.deepEqual(await evil.evaluate(attack, { target: admin, token: operator }), [], origin);
  // It may not be put in a frame, where a click meant for kittens would meet a button.
  await evil.evaluate((target) => {
    const frame = Object.assign(document.createElement('iframe'), { src: `${target}/#/workers`, id: 'framed' });
    document.body.append(frame);
    return new Promise((done) => { frame.onload = done; });
  }, admin);
  const framed = await (await evil.locator('#framed').elementHandle()).contentFrame();
  assert.equal(await framed.locator('#app').count(), 0, `${origin}: framed as ${framed.url()}`);
  await evil.close();
  assert.deepEqual(await factsNow(), before, origin);
}
await page.reload();
await page.getByRole('button', { name: 'Log out' }).waitFor(); // still logged in

// ---- a name of the attacker's that has become this address (DNS rebinding) ----

const rebound = await page.context().newPage();
const here = `http://evil.test:${adminPort}`;
assert.equal((await rebound.goto(`${here}/`)).status(), 421);
assert.deepEqual(await rebound.evaluate(async (token) => { // of the same origin as what it asks, to the browser
  const statuses = [];
  for (const path of ['/', '/api/v1/status', '/api/v1/session', '/api/v1/events', '/metrics', '/assets/app.js']) statuses.push((await fetch(path, { headers: { Authorization: `Bearer ${token}` } })).status);
  for (const path of ['/api/v1/session', '/api/v1/reload']) statuses.push((await fetch(path, { method: 'POST', headers: { 'Content-Type': 'application/json', Authorization: `Bearer ${token}` }, body: JSON.stringify({ token }) })).status);
  return statuses;
}, operator), Array(8).fill(421));
assert.deepEqual(await factsNow(), before);

attacker.closeAllConnections();
attacker.close();
await browser.close();
assert.deepEqual(complaints, []);
console.log('ok');
