// dom.js - elements from functions, and a page that is brought up to date instead of drawn anew, so
// that focus, selection and scrolling stay where they are.

const SVG = 'http://www.w3.org/2000/svg';

// Texts come from plugins and from strangers. What would turn the order of the letters around, and with it what an
// operator reads, and what cannot be seen at all, is shown by its number.
const UNSEEN = /[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g;
const visible = (text) => text.replace(UNSEEN, (c) => `⟨U+${c.codePointAt(0).toString(16).toUpperCase().padStart(4, '0')}⟩`);

function build(element, props, children) {
  element.handlers = {};
  for (const [name, value] of Object.entries(props ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith('on')) {
      element.handlers[name] = value;
      element[name] = value;
    } else if (name === 'value') {
      element.value = value;
    } else if (name === 'css') {
      for (const [key, v] of Object.entries(value)) element.style.setProperty(key, v);
    } else {
      element.setAttribute(name, value === true ? '' : value);
    }
  }
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    element.append(child instanceof Node ? child : document.createTextNode(visible(String(child))));
  }
  return element;
}

// h('button', {class: 'big', onclick: f}, 'Text', more)
export const h = (tag, props, ...children) => build(document.createElement(tag), props, children);
export const s = (tag, props, ...children) => build(document.createElementNS(SVG, tag), props, children);

const keyOf = (node) => (node.nodeType === 1 ? node.getAttribute('data-key') : null);

function isSameKind(a, b) {
  return a.nodeType === b.nodeType && a.nodeName === b.nodeName && keyOf(a) === keyOf(b);
}

function patchElement(old, fresh) {
  for (const { name } of [...old.attributes]) {
    const isOurs = (name === 'open' && old.nodeName === 'DETAILS') || (name === 'tabindex' && old.classList.contains('scroll'));
    if (!fresh.hasAttribute(name) && !isOurs) old.removeAttribute(name);
  }
  for (const { name, value } of fresh.attributes) {
    if (old.getAttribute(name) !== value) {
      // The style attribute of a fresh element was made by script, which the policy allows; copying it
      // as text would not be.
      if (name === 'style') old.style.cssText = fresh.style.cssText;
      else old.setAttribute(name, value);
    }
  }
  for (const name of Object.keys(old.handlers ?? {})) {
    if (!(name in (fresh.handlers ?? {}))) old[name] = null;
  }
  for (const [name, f] of Object.entries(fresh.handlers ?? {})) old[name] = f;
  old.handlers = fresh.handlers;
  // What a person is about to type is theirs.
  if (['INPUT', 'SELECT', 'TEXTAREA'].includes(old.nodeName)) return;
  patchChildren(old, fresh);
}

function patchChildren(old, fresh) {
  let at = old.firstChild;
  for (const child of [...fresh.childNodes]) {
    let match = at;
    while (match && !isSameKind(match, child)) match = match.nextSibling;
    if (!match) {
      old.insertBefore(child, at);
      continue;
    }
    while (at !== match) {
      const gone = at;
      at = at.nextSibling;
      gone.remove();
    }
    at = match.nextSibling;
    if (match.nodeType === 3) {
      if (match.data !== child.data) match.data = child.data;
    } else {
      patchElement(match, child);
    }
  }
  while (at) {
    const gone = at;
    at = at.nextSibling;
    gone.remove();
  }
}

export function show(container, ...content) {
  patchChildren(container, h('div', null, ...content));
  // What scrolls must be reached by keyboard; what does not needs no stop.
  for (const e of container.querySelectorAll('.scroll')) {
    if (e.scrollWidth > e.clientWidth) e.tabIndex = 0;
  }
}

// ---- text ----

export function ago(time) {
  const seconds = Math.max(0, (Date.now() - new Date(time).getTime()) / 1000);
  return seconds < 1.5 ? 'just now' : `${span(seconds)} ago`;
}

export function span(seconds) {
  if (seconds < 60) return `${Math.round(seconds)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
  return `${Math.floor(seconds / 86400)} d ${Math.floor((seconds % 86400) / 3600)} h`;
}

export function number(n) {
  if (n === null || n === undefined || Number.isNaN(n)) return '–';
  if (n >= 1e6) return `${(n / 1e6).toFixed(n >= 1e7 ? 0 : 1)} M`;
  if (n >= 1e4) return `${(n / 1e3).toFixed(n >= 1e5 ? 0 : 1)} k`;
  return n >= 100 || Number.isInteger(n) ? String(Math.round(n)) : n.toFixed(1);
}

export function micros(us) {
  if (us === null || us === undefined || Number.isNaN(us)) return '–';
  if (us < 1000) return `${us < 10 ? us.toFixed(1) : Math.round(us)} µs`;
  if (us < 1e6) return `${us < 1e4 ? (us / 1e3).toFixed(1) : Math.round(us / 1e3)} ms`;
  return `${(us / 1e6).toFixed(1)} s`;
}

export function kib(n) {
  if (n === null || n === undefined) return '–';
  return n < 10240 ? `${n} KiB` : `${(n / 1024).toFixed(n < 102400 ? 1 : 0)} MiB`;
}
