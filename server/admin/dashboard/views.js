// views.js - what each page shows, made from the state alone.

import { compartment, hull, lineChart } from './charts.js';
import { ago, h, kib, micros, number, span } from './dom.js';

export const SECONDS = 300; // of the charts

const link = (...parts) => `#/${parts.map(encodeURIComponent).join('/')}`;
const th = (title, kind) => h('th', { scope: 'col', class: kind || null }, title);
const state = (kind, sign, text) => h('span', { class: `state ${kind}` }, sign ? h('i', { 'aria-hidden': 'true' }, sign) : null, text);

// How a plugin is, in a word; water: how high it stands.
export function healthOf(plugin, recent) {
  const { breaker, blocked_routes: blocked } = plugin;
  if (breaker.state === 'open') {
    return { kind: 'bad', sign: '✕', text: breaker.held ? 'Taken out' : 'Out: breaker open', water: 100, rank: 1000 };
  }
  if (breaker.state === 'half-open') return { kind: 'warn', sign: '◐', text: 'On trial', water: 60, rank: 900 };
  if (blocked.length) {
    return { kind: 'bad', sign: '⊘', text: `${blocked.length} route${blocked.length > 1 ? 's' : ''} blocked`, water: 70, rank: 800 };
  }
  if (recent > 0) return { kind: 'warn', sign: '!', text: 'Failing', water: Math.min(60, 12 + recent * 4), rank: Math.min(700, recent) };
  return { kind: 'good', sign: '✓', text: 'Healthy', water: 0, rank: 0 };
}

export const troubleCount = (p) => p.crashes + p.deadlines + p.failures + p.worker_deaths + p.ejections;

function byHurt(app) {
  return app.plugins().map((p) => ({ plugin: p, recent: app.recent(p.name), health: healthOf(p, app.recent(p.name)) }))
    .sort((a, b) => b.health.rank - a.health.rank || troubleCount(b.plugin) - troubleCount(a.plugin));
}

// ---- overview ----

function banner(app) {
  const { problems, state: phase } = app.state.status;
  if (phase !== 'serving' && !problems.length) problems.push(`the server is ${phase}`);
  const failing = byHurt(app).filter((r) => r.health.rank > 0).map((r) => r.plugin.name);
  if (!problems.length && failing.length) {
    return h('div', { class: 'banner warn', role: 'status', 'data-key': 'banner' }, h('b', null, failing.length === 1 ? 'One plugin fails' : `${failing.length} plugins fail`), `: ${failing.join(', ')}. Requests that need nothing of them are served as ever.`);
  }
  if (!problems.length && app.isSilent()) return null; // nobody knows
  if (!problems.length) return h('div', { class: 'banner good', role: 'status', 'data-key': 'banner' }, '✓ All is well.');
  return h('div', { class: 'banner bad', role: 'status', 'data-key': 'banner' },
    h('b', null, problems.length === 1 ? 'One thing to look at' : `${problems.length} things to look at`),
    h('ul', null, problems.map((text) => h('li', null, text))));
}

const tile = (value, text, kind) => h('div', { class: `tile ${kind ?? ''}` }, h('b', null, value), h('span', null, text));

export function hurtTable(app, most) {
  const all = byHurt(app);
  const rows = most ? all.slice(0, most) : all;
  const top = Math.max(1, ...rows.map((r) => r.recent));
  return h('div', { class: 'scroll' }, h('table', null,
    h('thead', null, h('tr', null, ['Plugin', 'State', 'Last 5 minutes'].map((t) => th(t)),
      th('Crashes', 'num'), th('Deadlines', 'num wide'), th('Failures', 'num wide'),
      th('p99', 'num'), th('Memory', 'num wide'))),
    h('tbody', null, rows.map(({ plugin, recent, health }) => h('tr', { 'data-key': plugin.name },
      h('td', null, h('a', { href: link('plugins', plugin.name) }, plugin.name)),
      h('td', null, state(health.kind, health.sign, health.text)),
      h('td', { class: 'bars' }, recent ? [h('span', { class: 'bar', css: { width: `${(recent / top) * 100}%` }, 'aria-hidden': 'true' }), h('small', null, `${number(recent)} failed call${recent === 1 ? '' : 's'}`)] : h('small', { class: 'dim' }, 'none')),
      h('td', { class: 'num' }, number(plugin.crashes)), h('td', { class: 'num wide' }, number(plugin.deadlines)), h('td', { class: 'num wide' }, number(plugin.failures)),
      h('td', { class: 'num' }, micros(app.p99(plugin.name))), h('td', { class: 'num wide' }, kib(plugin.memory_kib)))))));
}

export function charts(app) {
  const seconds = app.series.rate.length <= 60 ? 60 : SECONDS;
  const { rate, failed, p50, p99 } = app.series;
  return h('div', { class: 'grid-2' },
    h('div', { class: 'card' }, lineChart({
      title: 'Requests', unit: 'a second', seconds, format: number,
      lines: [{ name: 'all', values: rate, class: 'c1' }, { name: 'failed in plugins', values: failed, class: 'c3' }],
    })),
    h('div', { class: 'card' }, lineChart({
      title: 'Time to answer', unit: '', seconds, format: micros,
      lines: [{ name: 'p50', values: p50, class: 'c2' }, { name: 'p99', values: p99, class: 'c1' }],
    })));
}

export function overview(app) {
  const { status } = app.state;
  const workers = status.workers.filter((w) => w.state === 'serving');
  const connections = status.workers.reduce((n, w) => n + w.connections, 0);
  const trouble = byHurt(app).filter((r) => r.health.rank > 0);
  return [
    h('h1', null, 'Overview'),
    banner(app),
    h('div', { class: 'tiles' },
      tile(number(app.series.rate.at(-1)), 'requests a second'), tile(micros(app.series.p99.at(-1)), 'p99'),
      tile(number(connections), 'connections'), tile(number(workers.length), workers.length === 1 ? 'worker serves' : 'workers serve'),
      tile(number(app.crashTotal()), 'crashes so far', app.recentAll() > 0 ? 'bad' : ''), tile(span(status.uptime_s), 'up')),
    charts(app),
    h('div', { class: 'card' }, h('h2', null, trouble.length ? 'Which plugin hurts' : 'Plugins'), hurtTable(app, 8)),
    h('div', { class: 'card' }, h('h2', null, 'Latest crashes'), crashTable(app, 5)),
  ];
}

// ---- chains ----

function factsOf(app, p) {
  const facts = [];
  const calls = app.calls(p.name);
  if (calls !== undefined) facts.push(['calls/s', number(calls)]);
  facts.push(['p99', micros(app.p99(p.name))], ['crashes', number(p.crashes)], ['breaker', p.breaker.held ? 'held open' : p.blocked_routes.length ? `${p.blocked_routes.length} blocked` : p.breaker.state]);
  return facts;
}

export function chains(app) {
  const byName = new Map(app.plugins().map((p) => [p.name, p]));
  return [
    h('h1', null, 'Chains'),
    h('p', { class: 'dim' }, 'Each route with the plugins that its requests pass, in that order. Water stands where calls fail; a compartment that is full is sealed off: its breaker is open.'),
    app.state.routes.map((route) => hull(route, route.chain.filter((name) => byName.has(name)).map((name) => {
      const p = byName.get(name);
      return compartment(p, healthOf(p, app.recent(name)), factsOf(app, p));
    }))),
  ];
}

// ---- plugins ----

export function plugins(app) {
  return [h('h1', null, 'Plugins'), h('div', { class: 'card' }, hurtTable(app))];
}

function blockedTable(plugin) {
  if (!plugin.blocked_routes.length) return null;
  return h('div', { class: 'card scroll' }, h('h2', null, 'Blocked routes'), h('table', null,
    h('thead', null, h('tr', null, ['Route', 'State', 'Trials in', 'Refused'].map((t) => th(t)))),
    h('tbody', null, plugin.blocked_routes.map((b) => h('tr', null, h('td', null, b.route), h('td', null, b.state),
      h('td', null, b.state === 'open' ? span(b.left_ms / 1000) : '–'), h('td', null, number(b.refused)))))));
}

export function plugin(app, name) {
  const p = app.plugins().find((one) => one.name === name);
  if (!p) return [h('h1', null, name), h('p', { class: 'empty' }, 'There is no such plugin now. ', h('a', { href: link('plugins') }, 'All plugins'))];
  const health = healthOf(p, app.recent(name));
  const isOut = p.breaker.state === 'open' || p.breaker.state === 'half-open' || p.blocked_routes.length > 0;
  const level = app.state.levels.find((l) => l.plugin === name);
  const crashes = app.state.crashes.filter((c) => c.plugin?.instance === name);
  return [
    h('p', null, h('a', { href: link('plugins') }, '← Plugins')),
    h('h1', null, `${p.name} `, state(health.kind, health.sign, health.text)),
    h('div', { class: 'grid-2' },
      h('div', { class: 'card' }, h('h2', null, 'What it is'), h('dl', { class: 'facts' },
        fact('Module', `${p.module} ${p.version ?? ''}`), fact('Does', p.summary), fact('Hooks', p.hooks), fact('Object', p.object && h('code', null, p.object)),
        fact('SHA-256', p.sha256 && h('code', { title: p.sha256 }, `${p.sha256.slice(0, 16)}…`)),
        fact('In the chains of', (p.routes ?? []).join(', ') || 'none'), fact('When it fails', p.on_error === 'fail_open' ? 'the request goes on without it' : 'the request fails'))),
      h('div', { class: 'card' }, h('h2', null, 'How it is'), h('dl', { class: 'facts' },
        fact('Breaker', `${p.breaker.held ? 'held open by an operator' : p.breaker.state}${p.breaker.state === 'open' && !p.breaker.held ? `, trials in ${span(p.breaker.left_ms / 1000)}` : ''}`),
        fact('Crashes', `${p.crashes} (${p.breaker.recent_crashes} within the breaker's window)`), fact('Past a deadline', p.deadlines), fact('Failures', p.failures),
        fact('Workers lost to it', p.worker_deaths), fact('Ejected from workers', p.ejections), fact('Fresh instances', p.renewals),
        fact('Calls', app.calls(name) === undefined ? '–' : `${number(app.calls(name))} a second`), fact('p99', micros(app.p99(name))), fact('Memory', kib(p.memory_kib)), fact('Descriptors', p.descriptors)))),
    app.can() ? h('div', { class: 'card' }, h('h2', null, 'Act'), h('div', { class: 'row' },
      p.breaker.state === 'off' ? h('span', { class: 'dim' }, 'Its breaker is off (breaker.crashes: 0).') : [
        h('button', { disabled: p.breaker.held, class: 'danger', onclick: () => app.ask(`Take ${name} out of all workers until it is put back? ${p.on_error === 'fail_open' ? 'Requests go on without it.' : 'Its requests will be answered 503.'}`, () => app.breaker(name, 'open')) }, 'Take out'),
        h('button', { disabled: !isOut, class: isOut ? 'main' : '', onclick: () => app.breaker(name, 'reset') }, 'Put back')],
      level ? h('label', { class: 'row' }, 'Log level ', h('select', { 'data-key': level.set ?? 'default', onchange: (e) => app.level(name, e.target.value) },
        ['default', 'error', 'warn', 'info', 'debug'].map((l) => h('option', { value: l, selected: l === (level.set ?? 'default') }, l === 'default' ? `default (${level.config ?? 'as the server'})` : l)))) : null)) : null,
    blockedTable(p),
    h('div', { class: 'card' }, h('h2', null, 'Its latest crashes'), crashRows(crashes)),
  ];
}

function fact(name, value) {
  return [h('dt', null, name), h('dd', null, value === null || value === undefined || value === '' ? '–' : value)];
}

// ---- crashes ----

const signalOf = (c) => c.signal?.name ?? c.kind ?? '?';
const VERDICTS = { R: 'recovered', T: 'cut off', Q: 'ejected', X: 'worker lost', F: 'refused' };

function placeOf(where) {
  if (!where) return '–';
  const at = where.file ? ` ${where.file}:${where.line}` : '';
  return `${where.function ? `${where.function}()` : where.module ?? ''}${at}`;
}

function crashRows(list) {
  if (!list.length) return h('p', { class: 'empty' }, 'None is recorded.');
  return h('div', { class: 'scroll' }, h('table', null,
    h('thead', null, h('tr', null, ['When', 'Plugin', 'What', 'Where', 'Request', 'Came to'].map((t, i) => th(t, i === 4 ? 'wide' : '')), th('Repeats', 'num'))),
    h('tbody', null, list.map((c) => h('tr', { 'data-key': c.id },
      h('td', { class: 'when' }, h('a', { href: link('crashes', c.id), title: c.time }, ago(c.time))),
      h('td', { class: 'long' }, c.plugin?.instance ?? '–'), h('td', null, `${signalOf(c)} in ${c.hook ?? '?'}`), h('td', { class: 'long' }, h('code', null, placeOf(c.where))),
      h('td', { class: 'long wide' }, h('code', null, c.request ? `${c.request.method} ${c.request.target}` : '–')),
      h('td', null, `${VERDICTS[c.verdict] ?? c.verdict}${c.status ? `, ${c.status}` : ''}`), h('td', { class: 'num' }, number(c.repeats?.count ?? 0)))))));
}

function crashTable(app, most) {
  return crashRows(most ? app.state.crashes.slice(0, most) : app.state.crashes);
}

export function crashes(app) {
  return [h('h1', null, 'Crashes'), h('div', { class: 'card' },
    app.state.crashesAll > app.state.crashes.length ? h('p', { class: 'dim' }, `The latest ${app.state.crashes.length} of ${app.state.crashesAll} records.`) : null,
    crashTable(app))];
}

function wayOf(record) {
  const steps = (record.error_path ?? []).map((step) => {
    const answered = record.answered_by === step.plugin;
    const text = answered ? ' answered' : step.crashed ? ' crashed, too' : step.verdict === null ? ' has no on_error' : ` ${step.verdict}`;
    return h('li', { class: answered ? 'answered' : step.crashed ? 'at-fault' : '' }, step.plugin, h('small', null, text));
  });
  return h('ol', { class: 'way' }, h('li', { class: 'at-fault' }, record.plugin?.instance ?? 'outside of plugins'), steps,
    record.answered_by === 'host' ? h('li', { class: 'answered' }, 'the server answered') : null);
}

function frameRow(frame, i) {
  const kind = frame.is_plugin ? 'charged' : frame.file ? '' : 'machinery';
  return h('li', { class: kind }, h('span', { class: 'dim' }, `#${i}`), h('span', null, frame.function ? `${frame.function}()` : h('span', { class: 'dim' }, frame.pc ?? '?'),
    h('span', { class: 'where' }, ` ${frame.file ? `${frame.file}:${frame.line}` : frame.module ?? ''}`), frame.inlined ? h('small', null, ' inlined') : null, frame.guess ? h('small', null, ' a guess') : null));
}

// What called the plugin is the same every time.
function stack(trace) {
  const last = trace.findLastIndex((frame) => frame.is_plugin);
  const split = last < 0 ? trace.length : last + 1;
  const rows = trace.map(frameRow);
  return [h('ol', { class: 'stack' }, rows.slice(0, split)),
    split < rows.length ? h('details', null, h('summary', null, `${rows.length - split} more, of the server that called it`), h('ol', { class: 'stack' }, rows.slice(split))) : null];
}

export function crash(app, id) {
  const record = app.state.record;
  const back = h('p', null, h('a', { href: link('crashes') }, '← Crashes'));
  if (!record || record.id !== id) {
    if (app.state.recordError) return [back, h('h1', null, 'Crash'), h('p', { class: 'empty' }, app.state.recordError)];
    return [back, h('p', { class: 'empty', role: 'status' }, 'Loading…')];
  }
  const request = record.request;
  const trace = record.backtrace;
  return [
    back,
    h('h1', null, `${signalOf(record)} in ${record.plugin?.instance ?? 'the server'}`),
    h('div', { class: 'grid-2' },
      h('div', { class: 'card' }, h('h2', null, 'What happened'), h('dl', { class: 'facts' },
        fact('When', `${record.time} (${ago(record.time)})`), fact('Plugin', record.plugin ? `${record.plugin.instance}: ${record.plugin.module} ${record.plugin.version ?? ''}` : null),
        fact('Hook', record.hook), fact('Where', h('code', null, placeOf(record.where))), fact('Signal', record.signal ? `${record.signal.name} ${record.signal.code_name ?? ''}` : record.kind),
        fact('Address', record.fault_address && h('code', null, record.fault_address)), fact('Message', record.message), fact('Worker', record.worker && `${record.worker.index} (pid ${record.worker.pid})`),
        fact('Repeats', record.repeats?.count ? `${record.repeats.count}, the last one ${ago(record.repeats.last)}` : 'none'))),
      h('div', { class: 'card' }, h('h2', null, 'What it came to'), h('dl', { class: 'facts' },
        fact('Verdict', record.verdict_text), fact('Because', record.reason), fact('Answer', record.status || 'none')),
      h('h2', { class: 'way-title' }, 'The way of the error up the chain'), wayOf(record))),
    h('div', { class: 'card' }, h('h2', null, 'Stack'), trace?.length ? stack(trace) : h('p', { class: 'empty' }, record.backtrace_missing ?? 'There is no backtrace.')),
    h('div', { class: 'card' }, h('h2', null, 'Request'), request?.method ? h('pre', { tabindex: 0 }, `${request.method} ${request.target} ${request.protocol}\n${(request.headers ?? []).map(([k, v]) => `${k}: ${v}`).join('\n')}`) : h('p', { class: 'empty' }, 'Not in a request.')),
    h('p', { class: 'dim' }, h('code', null, `bulkhead crashes show ${record.id}`)),
  ];
}

// ---- alerts ----

const ALERT_STATES = { firing: ['bad', '!', 'Firing'], pending: ['warn', '◐', 'Pending'], resolved: ['good', '✓', 'Resolved'], inactive: ['', '', 'Inactive'], 'no data': ['warn', '?', 'No data'] };
const TOLD = { arrived: ['good', '✓'], 'on its way': ['warn', '…'], 'not yet': ['warn', '…'], 'not arrived': ['bad', '✕'], 'not told': ['', ''] };

function alertRow(alert) {
  const since = alert.state === 'firing' ? alert.began : alert.state === 'resolved' ? alert.ended : null;
  const labels = Object.entries(alert.labels).map(([name, value]) => `${name}=${value}`).join(' ');
  return h('tr', { 'data-key': `${alert.rule} ${labels}` },
    h('td', null, state(...ALERT_STATES[alert.state])), h('td', { class: 'long' }, h('b', null, alert.rule)),
    h('td', { class: 'when' }, since ? h('span', { title: since }, ago(since)) : '–'), h('td', { class: 'num' }, alert.value === null ? '–' : Number(alert.value.toPrecision(6))),
    h('td', { class: 'long' }, h('code', null, `${alert.metric} ${alert.when}`)), h('td', { class: 'long' }, alert.note ?? h('code', null, labels || '–')),
    h('td', { class: 'long' }, Object.entries(alert.told).map(([name, told]) => h('div', null, `${name} `, state(...TOLD[told], told)))));
}

function receiverRow(r) {
  const how = r.trouble ? state('bad', '✕', 'Not reached') : r.arrived ? state('good', '✓', 'Reached') : state('', '', 'Nothing to tell yet');
  return h('tr', { 'data-key': r.name }, h('td', { class: 'long' }, r.name), h('td', null, r.type), h('td', null, how, r.trouble ? h('div', { class: 'dim' }, r.trouble) : null),
    [r.arrived, r.waiting, r.dropped].map((n) => h('td', { class: 'num' }, number(n))), h('td', null, r.last_arrived ? h('span', { title: r.last_arrived }, ago(r.last_arrived)) : '–'));
}

export function alerts(app) {
  const { alerts: told } = app.state;
  if (!told) return [h('h1', null, 'Alerts'), h('p', { class: 'empty', role: 'status' }, 'Loading…')];
  if (!told.rules.length) return [h('h1', null, 'Alerts'), h('p', { class: 'empty' }, 'The config has no rules: they stand under ', h('code', null, 'alerts.rules'), '.')];
  const known = new Set(told.alerts.map((a) => a.rule));
  const all = [...told.alerts, ...told.rules.filter((r) => !known.has(r.name)).map((r) => ({ rule: r.name, state: 'no data', metric: r.metric, when: r.when, value: null, labels: {}, told: {} }))];
  const order = Object.keys(ALERT_STATES);
  all.sort((a, b) => order.indexOf(a.state) - order.indexOf(b.state));
  const isWell = (a) => a.state === 'inactive' && all.some((b) => b !== a && b.rule === a.rule && b.state === 'inactive');
  const rows = all.filter((a) => !isWell(a));
  for (const rule of new Set(all.filter(isWell).map((a) => a.rule))) { // one row for all that are well
    const same = all.filter((a) => a.rule === rule && a.state === 'inactive');
    rows.push({ ...same[0], value: null, labels: {}, note: `${same.length} sets of labels` });
  }
  return [
    h('h1', null, 'Alerts'),
    told.running ? null : h('p', { class: 'banner bad' }, 'The process that judges the rules is not running: what stands here is old.'),
    h('div', { class: 'card scroll' }, h('table', null,
      h('thead', null, h('tr', null, ['State', 'Alert', 'Since'].map((t) => th(t)), th('Value', 'num'), ['Rule', 'Labels', 'Told'].map((t) => th(t)))),
      h('tbody', null, rows.map(alertRow)))),
    h('div', { class: 'card scroll' }, h('h2', null, 'Receivers'), told.receivers.length ? h('table', null,
      h('thead', null, h('tr', null, ['Receiver', 'Type', 'State'].map((t) => th(t)), ['Arrived', 'Waiting', 'Given up'].map((t) => th(t, 'num')), th('Last arrived'))),
      h('tbody', null, told.receivers.map(receiverRow))) : h('p', { class: 'empty' }, 'Nobody is told: ', h('code', null, 'alerts.receivers'), ' is empty.')),
  ];
}

// ---- releases ----

// How a rollout is, in a word.
function rolloutState(r) {
  if (r.result === 'running') return r.paused ? state('warn', '‖', 'Paused') : state('warn', '◐', r.phase === 'stepping' ? `Step ${r.step} of ${r.steps.length}` : r.phase);
  return r.result === 'promoted' ? state('good', '✓', 'Promoted') : state('bad', '↩', r.result === 'rolled back' ? 'Rolled back' : r.result === 'aborted' ? 'Aborted' : 'Not started');
}

function arms(r) {
  const columns = [['requests', 'Requests', number], ['errors', 'Errors', number], ['unfinished', 'Unfinished', number], ['p50_ms', 'p50', (ms) => micros(ms === null ? null : ms * 1000)], ['p99_ms', 'p99', (ms) => micros(ms === null ? null : ms * 1000)]];
  return h('div', { class: 'scroll' }, h('table', null,
    h('thead', null, h('tr', null, th('Arm'), th('Version'), columns.map(([, title]) => th(title, 'num')))),
    h('tbody', null, [['stable', r.stable], ['candidate', r.candidate]].map(([name, arm]) => h('tr', { 'data-key': name }, h('td', null, name), h('td', null, `${arm.version} `, h('code', { class: 'dim' }, arm.sha256.slice(0, 12))), columns.map(([key, , format]) => h('td', { class: 'num' }, format(arm[key]))))))));
}

function rolloutCard(app) {
  const r = app.state.rollout;
  if (r === undefined) return null;
  if (!r) {
    return h('div', { class: 'card', 'data-key': 'rollout' }, h('h2', null, 'Rollout'), h('p', { class: 'dim' }, 'None has been started. ', h('code', null, 'bulkhead rollout start PLUGIN'), ' tries a new version on a part of the requests, and takes it back when it fails.'));
  }
  const isRunning = r.result === 'running';
  const can = isRunning && r.phase === 'stepping' && app.can();
  const act = (what, text, kind, question) => h('button', { class: kind ?? '', onclick: () => (question ? app.ask(question, () => app.rollout(what)) : app.rollout(what)) }, text);
  return h('div', { class: 'card', 'data-key': 'rollout' }, h('h2', null, `Rollout of ${r.plugin} `, rolloutState(r)),
    h('ol', { class: 'steps' }, r.steps.map((step, i) => h('li', { class: !isRunning ? '' : i + 1 === r.step ? 'now' : i + 1 < r.step ? 'past' : '', 'aria-current': isRunning && i + 1 === r.step ? 'step' : null },
      h('b', null, `${step.mode} ${step.weight}`), h('div', { class: 'dim' }, step.for_ms ? `at least ${span(step.for_ms / 1000)}, ${number(step.samples)} requests` : `${number(step.samples)} requests`)))),
    h('dl', { class: 'facts' }, isRunning ? fact('Share', `${r.mode} ${r.weight}`) : null, r.waits_for ? fact('Waits for', r.waits_for) : null, r.why ? fact('Because', r.why) : null, fact('Begun', r.began ? `${ago(r.began)} by ${r.by || 'hand'}` : null), r.ended ? fact('Ended', ago(r.ended)) : null),
    arms(r),
    can ? h('div', { class: 'row actions' }, act('promote', 'Promote', 'main', `Serve all requests with ${r.plugin} ${r.candidate.version}?`), act('step', 'Next step'), r.paused ? act('resume', 'Resume') : act('pause', 'Pause'), act('abort', 'Abort', 'danger', `Go back to ${r.plugin} ${r.stable.version}?`)) : null);
}

export function releases(app) {
  const { status } = app.state;
  const numbers = [...new Set([status.generation, ...status.workers.map((w) => w.generation)])].sort((a, b) => b - a);
  return [
    h('h1', null, 'Releases'),
    rolloutCard(app),
    h('div', { class: 'card' }, h('h2', null, 'Generations'), h('p', { class: 'dim' }, 'A config with its plugins, as it was loaded once. Requests end with the one that they began with.'),
      h('div', { class: 'scroll' }, h('table', null, h('thead', null, h('tr', null, ['Generation', 'State', 'Workers'].map((t) => th(t)))),
        h('tbody', null, numbers.map((n) => h('tr', { 'data-key': n }, h('td', null, n), h('td', null, n === status.generation ? state('good', '✓', 'Serves') : state('warn', '…', 'Finishes')),
          h('td', null, status.workers.filter((w) => w.generation === n).map((w) => `${w.slot} (${w.state})`).join(', ') || '–'))))))),
    h('div', { class: 'card' }, h('h2', null, 'Versions'), h('div', { class: 'scroll' }, h('table', null,
      h('thead', null, h('tr', null, ['Plugin', 'Version', 'SHA-256'].map((t) => th(t)))),
      h('tbody', null, app.plugins().map((p) => h('tr', { 'data-key': p.name }, h('td', null, h('a', { href: link('plugins', p.name) }, p.name)), h('td', null, `${p.module} ${p.version ?? ''}`), h('td', null, h('code', null, p.sha256 ? p.sha256.slice(0, 16) : '–')))))))),
  ];
}

// ---- reload ----

const HOW = { added: ['plus', '+'], removed: ['minus', '−'], changed: ['change', '~'] };

function resultCard(result) {
  if (!result) return null;
  const changes = result.changes ?? [];
  const isBad = result.state === 'failed';
  return h('div', { class: 'card', 'aria-live': 'polite', 'data-key': 'result' },
    h('h2', null, result.state === 'dry run' ? 'What would change ' : 'Result ', state(isBad ? 'bad' : 'good', isBad ? '✕' : '✓', isBad ? `Failed at: ${result.stage}` : result.state === 'dry run' ? 'It can be loaded' : result.state), result.took_ms !== undefined ? h('small', { class: 'dim' }, ` ${result.took_ms} ms`) : null),
    result.errors?.length ? h('pre', { class: 'errors', tabindex: 0 }, result.errors.join('\n')) : null,
    changes.length ? h('div', { class: 'scroll' }, h('table', { class: 'diff' }, h('thead', { class: 'sr' }, h('tr', null, ['Change', 'Key', 'From', 'To', 'How'].map((t) => th(t)))), h('tbody', null, changes.map((c) => {
      const [kind, sign] = HOW[c.what] ?? HOW.changed;
      return h('tr', { class: kind }, h('td', null, h('span', { 'aria-hidden': 'true' }, sign), h('span', { class: 'sr' }, c.what)), h('td', null, c.path), h('td', { class: 'dim' }, c.from), h('td', null, c.to), h('td', { class: 'dim' }, c.how));
    })))) : isBad ? null : h('p', { class: 'dim' }, 'Nothing differs from what serves now.'));
}

export function reloadView(app) {
  const { reload, busy, status } = app.state;
  return [
    h('h1', null, 'Reload'),
    h('p', { class: 'dim' }, `Loads ${status.config} and all plugin objects anew, without losing a request. If anything is wrong, nothing changes.`),
    app.can() ? h('div', { class: 'card row' },
      h('button', { onclick: () => app.reload(true), disabled: busy, class: 'main' }, 'Preview'),
      h('button', { onclick: () => app.reload(false), disabled: busy || reload?.state !== 'dry run' }, 'Load it'),
      busy ? h('span', { role: 'status' }, 'Working: the plugins are tried in a process of their own…') : reload?.state !== 'dry run' ? h('span', { class: 'dim' }, 'Look at the preview first.') : null) : h('p', { class: 'banner warn' }, 'This token may look, and not act.'),
    resultCard(reload),
    status.reload && !reload ? h('p', { class: 'dim' }, `The last reload: ${status.reload.state}${status.reload.time ? `, ${ago(status.reload.time)}` : ''}${status.reload.why ? `: ${status.reload.why}` : ''}.`) : null,
  ];
}

// ---- workers, config, events ----

export function workers(app) {
  const { status } = app.state;
  return [
    h('h1', null, 'Workers'),
    app.can() ? h('div', { class: 'row card' }, h('button', { onclick: () => app.ask('Replace all workers by fresh ones, one after the other? No connection is lost.', () => app.recycle()) }, 'Recycle all')) : null,
    h('div', { class: 'card scroll' }, h('table', null,
      h('thead', null, h('tr', null, ['Worker', 'State', 'Up'].map((t) => th(t)), ['PID', 'Requests', 'Connections', 'Memory', 'Generation'].map((t) => th(t, 'num')), th('Just now'), th(h('span', { class: 'sr' }, 'Actions')))),
      h('tbody', null, status.workers.map((w) => h('tr', { 'data-key': w.pid }, h('td', null, w.slot), h('td', null, state(w.state === 'serving' ? 'good' : w.state === 'standby' ? '' : 'warn', '', w.state)), h('td', null, span(w.uptime_s)),
        [w.pid, number(w.requests), number(w.connections), kib(w.memory_kib), w.generation].map((v) => h('td', { class: 'num' }, v)), h('td', null, h('code', null, w.in ?? '')),
        h('td', null, app.can() && w.state === 'serving' ? h('button', { class: 'small', onclick: () => app.recycle(w.slot), 'aria-label': `Recycle worker ${w.slot}` }, 'Recycle') : null)))))),
    h('div', { class: 'card' }, h('h2', null, `Workers that ended (${status.ended_workers.count})`), status.ended_workers.last.length ? h('div', { class: 'scroll' }, h('table', null, h('tbody', null, status.ended_workers.last.map((e) => h('tr', { 'data-key': `${e.pid}` }, h('td', { class: 'when' }, ago(e.time)), h('td', null, `worker ${e.slot}, pid ${e.pid}`), h('td', null, e.why)))))) : h('p', { class: 'empty' }, 'None so far.')),
  ];
}

function tree(value, name) {
  const label = name !== undefined ? h('span', { class: 'k' }, `${name}: `) : null;
  if (value === null || typeof value !== 'object') return h('li', null, label, String(value));
  const entries = Array.isArray(value) ? value.map((v, i) => [Array.isArray(value) && typeof v !== 'object' ? '-' : i + 1, v]) : Object.entries(value);
  if (!entries.length) return h('li', null, label, Array.isArray(value) ? '[]' : '{}');
  if (Array.isArray(value) && value.every((v) => typeof v !== 'object')) return h('li', null, label, `[${value.join(', ')}]`);
  return h('li', null, h('details', { open: true }, h('summary', null, label ?? 'config'), h('ul', null, entries.map(([k, v]) => tree(v, k)))));
}

export function config(app) {
  const { config: shown } = app.state;
  if (!shown) return [h('h1', null, 'Config'), h('p', { class: 'empty', role: 'status' }, 'Loading…')];
  return [h('h1', null, 'Config'), h('p', { class: 'dim' }, `${shown.file}, as it is in force: with its defaults, and without secrets.`),
    h('div', { class: 'card tree' }, h('ul', null, Object.entries(shown.config).map(([k, v]) => tree(v, k))))];
}

export function events(app) {
  const list = [...app.state.events].reverse();
  return [h('h1', null, 'Events'), h('div', { class: 'card scroll' }, list.length ? h('table', null,
    h('thead', null, h('tr', null, ['When', 'What', 'Plugin', 'In words'].map((t) => th(t)))),
    h('tbody', null, list.map((e) => h('tr', { 'data-key': e.number }, h('td', { class: 'when' }, h('span', { title: e.time }, ago(e.time))), h('td', null, e.kind.replaceAll('_', ' ')), h('td', { class: 'long' }, e.plugin ?? ''), h('td', { class: 'long' }, e.name ? h('b', null, `${e.name.replaceAll('_', ' ')}: `) : null, e.text)))))
    : h('p', { class: 'empty' }, 'Nothing has happened yet.'))];
}
