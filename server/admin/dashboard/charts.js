// charts.js - lines over time, and chains as the compartments of a ship.

import { h, s } from './dom.js';

const WIDTH = 600;
const HEIGHT = 120;

function niceTop(value) {
  if (value <= 0) return 1;
  const step = 10 ** Math.floor(Math.log10(value));
  for (const factor of [1, 2, 5, 10]) if (value <= factor * step) return factor * step;
  return value;
}

// lines: [{name, values, class}], each value a number or null; the last one is now.
export function lineChart({ title, unit, lines, format, seconds }) {
  const all = lines.flatMap((line) => line.values).filter((v) => v !== null && v !== undefined);
  const top = niceTop(Math.max(...all, 0));
  const n = Math.max(...lines.map((line) => line.values.length), 2);
  const x = (i, length) => WIDTH - ((length - 1 - i) / (seconds - 1)) * WIDTH;
  const y = (v) => HEIGHT - 4 - (v / top) * (HEIGHT - 12);
  const paths = lines.map((line) => {
    let d = '';
    let isDown = false;
    line.values.forEach((v, i) => {
      if (v === null || v === undefined) {
        isDown = false;
        return;
      }
      d += `${isDown ? 'L' : 'M'}${x(i, line.values.length).toFixed(1)} ${y(v).toFixed(1)}`;
      isDown = true;
    });
    return s('path', { d, class: `line ${line.class}`, 'vector-effect': 'non-scaling-stroke' });
  });
  const latest = lines.map((line) => {
    const value = line.values.at(-1);
    return h('span', { class: `legend ${line.class}` }, h('i', { 'aria-hidden': 'true' }), `${line.name} `,
      h('b', null, value === null || value === undefined ? '–' : format(value)));
  });
  const text = `${title}: ${lines.map((l) => `${l.name} ${l.values.at(-1) === null || l.values.at(-1) === undefined ? 'unknown' : format(l.values.at(-1))}`).join(', ')}; ${n} seconds, highest ${all.length ? format(Math.max(...all)) : 'unknown'}`;
  return h('figure', { class: 'chart' },
    h('figcaption', null, h('span', { class: 'title' }, title), unit ? h('small', null, ` ${unit}`) : null, h('span', { class: 'legends' }, latest)),
    h('div', { class: 'plot' },
      s('svg', { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: 'none', role: 'img', 'aria-label': text },
        [0.25, 0.5, 0.75].map((part) => s('line', { class: 'grid', x1: 0, x2: WIDTH, y1: y(top * part), y2: y(top * part), 'vector-effect': 'non-scaling-stroke' })),
        s('line', { class: 'grid base', x1: 0, x2: WIDTH, y1: HEIGHT - 4, y2: HEIGHT - 4, 'vector-effect': 'non-scaling-stroke' }),
        paths),
      all.length ? h('span', { class: 'top', 'aria-hidden': 'true' }, format(top)) : h('span', { class: 'none' }, 'Nothing measured yet')),
    h('div', { class: 'axis', 'aria-hidden': 'true' }, h('span', null, `${Math.round(seconds / 60)} min ago`), h('span', null, 'now')));
}

// A chain: compartments from bow to stern, in the order that a request passes them. Water stands where
// it crashes; a compartment that is sealed off (an open breaker) is full.
export function hull(route, compartments) {
  return h('section', { class: 'hull', 'data-key': route.name, 'aria-label': `Chain of ${route.name}` },
    h('h2', null, h('span', null, route.name), h('code', null, route.path)),
    h('ol', { class: 'compartments' }, compartments));
}

export function compartment(plugin, health, facts) {
  return h('li', { class: `compartment ${health.kind}`, 'data-key': plugin.name },
    h('a', { href: `#/plugins/${encodeURIComponent(plugin.name)}` },
      h('span', { class: 'water', css: { height: `${health.water}%` }, 'aria-hidden': 'true' }),
      h('span', { class: 'name' }, plugin.name),
      h('span', { class: `state ${health.kind}` }, h('i', { 'aria-hidden': 'true' }, health.sign), health.text),
      h('dl', null, facts.map(([name, value]) => h('div', null, h('dt', null, name), h('dd', null, value))))));
}
