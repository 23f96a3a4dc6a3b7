// app.js - the page: what is known, where we are, and what is done about it.

import { api, listen, reload as runReload } from './api.js';
import { ago, h, s, show } from './dom.js';
import * as views from './views.js';

const KEEP = views.SECONDS;
const root = document.getElementById('app');

const app = {
  state: {
    session: null, status: null, details: new Map(), routes: [], crashes: [], crashesAll: 0, levels: [], events: [], alerts: null,
    record: null, recordError: null, config: null, reload: null, rollout: undefined, numbers: null,
    busy: false, isConnected: false, heard: 0, toast: null,
  },
  series: { rate: [], failed: [], p50: [], p99: [] },
  history: [], // {time, trouble: Map}, one a second

  isSilent: () => silence() !== null,
  can: () => app.state.session?.role === 'operator',
  plugins: () => app.state.status.plugins.map((p) => ({ ...app.state.details.get(p.name), ...p })),
  crashTotal: () => app.state.status.plugins.reduce((n, p) => n + p.crashes, 0),
  // Failed calls within what is remembered, at most five minutes.
  recent(name) {
    const first = app.history[0]?.trouble.get(name);
    const last = app.history.at(-1)?.trouble.get(name);
    const plugin = app.state.status.plugins.find((p) => p.name === name);
    const seen = first !== undefined && last !== undefined ? Math.max(0, last - first) : 0;
    return Math.max(seen, plugin?.breaker.recent_crashes ?? 0);
  },
  recentAll: () => app.state.status.plugins.reduce((n, p) => n + app.recent(p.name), 0),
  calls: (name) => app.state.numbers?.plugins?.[name]?.calls,
  p99: (name) => app.state.numbers?.plugins?.[name]?.p99_us,

  ask(question, act) {
    if (window.confirm(question)) act();
  },
  breaker: (name, action) => act(() => api.post(`/plugins/${encodeURIComponent(name)}/breaker`, { action }), action === 'open' ? `${name} is taken out.` : `${name} is put back.`),
  level: (plugin, level) => act(async () => {
    app.state.levels = (await api.put('/loglevel', { plugin, level })).levels;
  }, `The log level of ${plugin ?? 'the server'} is ${level}.`),
  recycle: (slot) => act(() => api.post(slot === undefined ? '/workers/recycle' : `/workers/${slot}/recycle`), 'Fresh workers take over.'),
  rollout: (what) => act(async () => {
    await api.post(`/rollout/${what}`);
    await loadRollout();
  }, `Rollout: ${what}.`),
  async reload(isDry) {
    app.state.busy = true;
    draw();
    await act(async () => {
      app.state.reload = await runReload(isDry);
    });
    app.state.busy = false;
    draw();
  },
};

// ---- doing ----

function toast(kind, text) {
  const mine = { kind, text };
  app.state.toast = mine;
  draw();
  setTimeout(() => {
    if (app.state.toast !== mine) return;
    app.state.toast = null;
    draw();
  }, kind === 'bad' ? 10000 : 4000);
}

async function act(what, done) {
  try {
    await what();
    if (done) toast('good', done);
  } catch (problem) {
    if (problem.status === 401) start();
    else toast('bad', problem.message);
  }
}

async function quietly(what) {
  try {
    await what();
    draw();
  } catch (problem) {
    if (problem.status === 401) start();
  }
}

const loadPlugins = () => quietly(async () => {
  const answer = await api.get('/plugins');
  app.state.details = new Map(answer.plugins.map((p) => [p.name, p]));
  app.state.routes = answer.routes;
});
const loadCrashes = () => quietly(async () => {
  const answer = await api.get('/crashes?limit=100');
  app.state.crashes = answer.crashes;
  app.state.crashesAll = answer.total;
});
const loadLevels = () => quietly(async () => {
  app.state.levels = (await api.get('/loglevel')).levels;
});
const loadConfig = () => quietly(async () => {
  app.state.config = await api.get('/config');
});
const loadRollout = () => quietly(async () => {
  app.state.rollout = await api.get('/rollout');
});
const loadAlerts = () => quietly(async () => {
  app.state.alerts = await api.get('/alerts');
});
const loadHistory = () => quietly(async () => {
  const { events } = await api.get('/history');
  const known = app.state.events.at(-1)?.number ?? 0;
  if (!events.length || events.at(-1).number >= known) app.state.events = events;
});
async function loadRecord(id) {
  app.state.recordError = null;
  try {
    app.state.record = await api.get(`/crashes/${encodeURIComponent(id)}`);
  } catch (problem) {
    app.state.recordError = problem.message;
  }
  draw();
}

// ---- what comes by itself ----

let before = null;
let lastCrashes = -1;

function push(list, value) {
  list.push(value);
  if (list.length > KEEP) list.shift();
}

function takeStatus(status) {
  const now = performance.now();
  const trouble = new Map(status.plugins.map((p) => [p.name, views.troubleCount(p)]));
  const sum = [...trouble.values()].reduce((a, b) => a + b, 0);
  const seconds = before ? (now - before.now) / 1000 : 0;
  const isSame = before && before.pid === status.pid;
  if (!isSame) app.history = [];
  // Two that come close together are one measurement.
  if (!isSame || seconds > 0.5) {
    const { numbers } = app.state;
    push(app.series.rate, isSame ? Math.max(0, (status.requests - before.requests) / seconds) : null);
    push(app.series.failed, isSame ? Math.max(0, (sum - before.sum) / seconds) : null);
    push(app.series.p50, numbers?.p50_us ?? null); // null: there was no request
    push(app.series.p99, numbers?.p99_us ?? null);
    app.history.push({ trouble });
    if (app.history.length > KEEP) app.history.shift();
    if (isSame && before.generation !== status.generation) {
      loadPlugins();
      app.state.config = null;
      if (view().name === 'config') loadConfig();
    }
    before = { now, sum, pid: status.pid, requests: status.requests, generation: status.generation };
  }
  const crashes = status.plugins.reduce((n, p) => n + p.crashes + p.deadlines + p.worker_deaths + p.ejections, 0);
  if (crashes !== lastCrashes) {
    lastCrashes = crashes;
    setTimeout(loadCrashes, 1200); // the recorder writes them a moment later
  }
  app.state.status = status;
  app.state.heard = Date.now();
  if (app.state.rollout?.result === 'running') loadRollout();
  if (view().name === 'alerts') loadAlerts();
  draw();
}

function told(name, data) {
  if (name === 'status') takeStatus(data);
  else if (name === 'numbers') app.state.numbers = data;
  else if (name === 'event') {
    if (data.number <= (app.state.events.at(-1)?.number ?? 0)) return;
    app.state.events.push(data);
    if (app.state.events.length > 512) app.state.events.shift();
    if (data.kind.startsWith('rollout')) loadRollout();
    draw();
  } else if (name === 'trouble') toast('bad', data.detail);
}

// ---- where we are ----

const PAGES = [['overview', 'Overview'], ['chains', 'Chains'], ['plugins', 'Plugins'], ['crashes', 'Crashes'], ['alerts', 'Alerts'], ['releases', 'Releases'], ['reload', 'Reload'], ['workers', 'Workers'], ['events', 'Events'], ['config', 'Config']];

function view() {
  const [name, id] = location.hash.replace(/^#\/?/, '').split('/').map(decodeURIComponent);
  return { name: PAGES.some(([page]) => page === name) ? name : 'overview', id };
}

function content() {
  const { name, id } = view();
  switch (name) {
    case 'chains': return views.chains(app);
    case 'plugins': return id ? views.plugin(app, id) : views.plugins(app);
    case 'crashes': return id ? views.crash(app, id) : views.crashes(app);
    case 'alerts': return views.alerts(app);
    case 'releases': return views.releases(app);
    case 'reload': return views.reloadView(app);
    case 'workers': return views.workers(app);
    case 'events': return views.events(app);
    case 'config': return views.config(app);
    default: return views.overview(app);
  }
}

function moved() {
  const { name, id } = view();
  if (name === 'crashes' && id) loadRecord(id);
  if (name === 'config' && !app.state.config) loadConfig();
  if (name === 'plugins') loadLevels();
  if (name === 'releases') loadRollout();
  if (name === 'alerts') loadAlerts();
  draw();
  document.title = `${PAGES.find(([page]) => page === name)[1]} · Bulkhead`;
  window.scrollTo(0, 0);
  document.getElementById('main')?.focus({ preventScroll: true });
}

// ---- drawing ----

const THEMES = { light: 'Light', dark: 'Dark', system: 'System' };
const darkness = window.matchMedia('(prefers-color-scheme: dark)');

function theme() {
  return localStorage.getItem('theme') ?? 'system';
}

function applyTheme() {
  const wish = theme();
  document.documentElement.dataset.theme = wish === 'system' ? (darkness.matches ? 'dark' : 'light') : wish;
}

function mark() {
  return s('svg', { viewBox: '0 0 32 32', 'aria-hidden': 'true' },
    s('path', { d: 'M2 8h28l-3 13a5 5 0 0 1-5 4H10a5 5 0 0 1-5-4z', fill: '#1f6feb' }), s('path', { d: 'M12.5 11.5h7V21h-7z', fill: '#ff7b72' }), s('path', { d: 'M11 11.5V21M21 11.5V21', stroke: '#fff', 'stroke-width': 2, 'stroke-linecap': 'round' }));
}

function head() {
  const { status, isConnected, session } = app.state;
  const isSilent = silence() !== null;
  const bad = isSilent || status.problems.length > 0 || status.state !== 'serving';
  return h('header', { class: 'head' },
    h('a', { class: 'brand', href: '#/overview' }, mark(), 'Bulkhead'),
    h('span', { class: `pill ${bad ? 'bad' : 'good'}` }, isSilent ? '! no answer' : bad ? `! ${status.state}, ${status.problems.length} to look at` : `✓ ${status.state}`),
    h('span', { class: 'pill wide' }, `generation ${status.generation}`),
    h('span', { class: 'right' },
      h('span', { class: `pill ${isConnected && !isSilent ? '' : 'warn'}`, role: 'status' }, !isConnected ? '○ reconnecting…' : isSilent ? '○ waiting…' : '● live'),
      h('label', null, h('span', { class: 'sr' }, 'Colours'), h('select', { id: 'theme', onchange: (e) => { localStorage.setItem('theme', e.target.value); applyTheme(); } }, Object.entries(THEMES).map(([k, t]) => h('option', { value: k, selected: k === theme() }, t)))),
      h('span', { class: 'dim wide' }, session.role),
      session.by === 'cookie' ? h('button', { class: 'small', onclick: leave }, 'Log out') : null));
}

function nav() {
  const { name } = view();
  const trouble = app.state.status.plugins.filter((p) => views.healthOf(p, app.recent(p.name)).kind === 'bad').length;
  const { firing } = app.state.status.alerts;
  return h('nav', { class: 'nav', 'aria-label': 'Pages' }, h('ul', null, PAGES.map(([page, title]) => h('li', null, h('a', { href: `#/${page}`, 'aria-current': page === name ? 'page' : null }, title,
    page === 'alerts' && firing ? h('span', { class: 'count' }, firing, h('span', { class: 'sr' }, ' firing')) : null,
    page === 'plugins' && trouble ? h('span', { class: 'count' }, trouble, h('span', { class: 'sr' }, ' out of order')) : null)))));
}

const SILENT_MS = 3000; // a reload replaces the admin process in less
const STILL_MS = 6000; // the status comes once a second; a process that stands still keeps its connections

// What stands on the page is what was: nobody must take it for what is.
function silence() {
  const { isConnected, heard } = app.state;
  if (Date.now() - heard < (isConnected ? STILL_MS : SILENT_MS)) return null;
  return h('p', { class: 'banner bad', role: 'alert', 'data-key': 'silence' }, h('b', null, 'The server does not answer.'),
    ` All of this is as it was at ${new Date(heard).toLocaleTimeString()}, ${ago(heard)}. It is asked again every two seconds. On the machine: `, h('code', null, 'bulkhead status'), '.');
}

function draw() {
  if (!app.state.session) return;
  if (!app.state.session.role) {
    show(root, loginForm());
    return;
  }
  if (!app.state.status) {
    show(root, h('p', { class: 'alone', role: 'status' }, 'Connecting…'));
    return;
  }
  const { toast: said } = app.state;
  const { name, id } = view();
  show(root, h('div', { class: 'frame' }, head(), nav(), h('main', { id: 'main', tabindex: -1, 'data-key': `${name}/${id ?? ''}` }, silence(), content())),
    h('div', { role: 'alert' }, said ? h('p', { class: `banner toast ${said.kind}` }, said.text) : null));
}

// ---- in and out ----

let loginProblem = null;

function loginForm() {
  return h('main', { class: 'login', id: 'main' }, h('div', { class: 'card' },
    h('form', { onsubmit: enter }, h('h1', { class: 'brand' }, mark(), 'Bulkhead'),
      h('label', { for: 'token' }, 'Token ', h('small', { class: 'dim' }, '(the content of admin.token_file)')),
      h('input', { id: 'token', type: 'password', autocomplete: 'current-password', required: true, 'aria-describedby': 'problem', spellcheck: 'false' }),
      h('div', { id: 'problem', role: 'alert' }, loginProblem ? h('p', { class: 'banner bad' }, loginProblem) : null),
      h('button', { class: 'main', type: 'submit' }, 'Log in'))));
}

async function enter(event) {
  event.preventDefault();
  try {
    await api.post('/session', { token: document.getElementById('token').value.trim() });
    loginProblem = null;
    start();
  } catch (problem) {
    loginProblem = problem.status === 401 ? 'That is not a token of this server.' : problem.message;
    draw();
  }
}

async function leave() {
  await act(() => api.del('/session'));
  start();
}

let stop = null;

async function start() {
  stop?.();
  stop = null;
  app.state.status = null;
  try {
    app.state.session = await api.get('/session');
  } catch (problem) {
    show(root, h('p', { class: 'alone banner bad', role: 'alert' }, problem.message));
    setTimeout(start, 2000);
    return;
  }
  draw();
  if (!app.state.session.role) return;
  before = null;
  stop = listen(told, (isConnected) => {
    const was = app.state.isConnected;
    app.state.isConnected = isConnected;
    if (isConnected && !was && app.state.status) { // what has happened meanwhile
      loadPlugins();
      loadHistory();
      loadRollout();
    }
    if (!isConnected) setTimeout(draw, SILENT_MS + 100);
    if (!isConnected) quietly(() => api.get('/session').then((session) => { if (!session.role) start(); }));
    draw();
  });
  loadPlugins();
  loadCrashes();
  loadRollout();
  loadHistory();
  moved();
}

darkness.addEventListener('change', applyTheme);
applyTheme();
window.addEventListener('hashchange', moved);
setInterval(() => { if (!document.hidden) draw(); }, 5000); // "3 s ago"
start();
