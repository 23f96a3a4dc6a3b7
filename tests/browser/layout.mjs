// layout.mjs - what is wrong with how a page lies on the screen, found in the page itself: findFaults() is run there.

// Texts on each other, cut, or outside of what holds them; a page, or a table, that is wider than its place.
export function findFaults() {
  const SLACK = 3; // px: fonts are taller than their letters
  const faults = [];
  const root = document.documentElement;
  if (root.scrollWidth > root.clientWidth) faults.push(`the page is ${root.scrollWidth} wide, the window ${root.clientWidth}`);

  const known = new Map();
  const overflowOf = (e) => known.get(e) ?? known.set(e, getComputedStyle(e).overflowX).get(e);
  const holdsBack = (e) => overflowOf(e) !== 'visible';
  const clip = (r, box) => ({ left: Math.max(r.left, box.left), right: Math.min(r.right, box.right), top: Math.max(r.top, box.top), bottom: Math.min(r.bottom, box.bottom) });
  const isSeen = (r) => r.right - r.left > 1 && r.bottom - r.top > 1;
  const say = (text) => JSON.stringify(text.trim().slice(0, 40));

  const texts = [];
  const walker = document.createTreeWalker(document.getElementById('app'), NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const e = node.parentElement;
    if (!node.data.trim() || e.nodeName === 'OPTION' || e.closest('.sr, .toast') || !e.checkVisibility()) continue;
    const range = document.createRange();
    range.selectNodeContents(node);
    for (const whole of range.getClientRects()) {
      let r = whole;
      for (let up = e; up; up = up.parentElement) {
        if (!holdsBack(up)) continue;
        const box = up.getBoundingClientRect();
        if (overflowOf(up) === 'hidden' && (r.right > box.right + SLACK || r.left < box.left - SLACK)) faults.push(`${say(node.data)} is cut by <${up.nodeName} class="${up.className}">`);
        r = clip(r, box);
      }
      const home = e.closest('td, th, dd, dt, .compartment, .tile, .banner, .pill, .state, button, .way li, .steps li, .card, .nav, .head, main');
      const box = home.getBoundingClientRect();
      if (!holdsBack(home) && (r.right > box.right + SLACK || r.left < box.left - SLACK || r.top < box.top - SLACK || r.bottom > box.bottom + SLACK)) faults.push(`${say(node.data)} leaves its <${home.nodeName} class="${home.className}">`);
      if (isSeen(r)) texts.push({ ...r, left: r.left, right: r.right, top: r.top, bottom: r.bottom, node, text: node.data });
    }
  }
  texts.sort((a, b) => a.top - b.top);
  texts.forEach((a, i) => {
    for (let k = i + 1; k < texts.length && texts[k].top < a.bottom - SLACK; k++) {
      const b = texts[k];
      if (Math.min(a.right, b.right) - Math.max(a.left, b.left) > SLACK && Math.min(a.bottom, b.bottom) - b.top > SLACK) faults.push(`${say(a.text)} and ${say(b.text)} are on each other`);
    }
  });
  // Boxes with a ground of their own hide what is under them.
  for (const box of document.querySelectorAll('.state, .pill, .count, button, .bar')) {
    const r = box.getBoundingClientRect();
    if (!box.checkVisibility() || box.closest('.toast')) continue;
    for (const t of texts) {
      if (t.top > r.bottom) break;
      if (!box.contains(t.node) && Math.min(r.right, t.right) - Math.max(r.left, t.left) > SLACK && Math.min(r.bottom, t.bottom) - Math.max(r.top, t.top) > SLACK) faults.push(`a ${box.className || box.nodeName} lies on ${say(t.text)}`);
    }
  }
  for (const table of document.querySelectorAll('table')) {
    let up = table.parentElement;
    while (up.nodeName !== 'MAIN' && !up.matches('.scroll')) up = up.parentElement;
    if (up.nodeName === 'MAIN' && table.scrollWidth > table.parentElement.clientWidth + SLACK) faults.push(`a table is ${table.scrollWidth} wide in ${table.parentElement.clientWidth}, and does not scroll`);
  }
  for (const e of document.querySelectorAll('.scroll')) {
    if (e.scrollWidth > e.clientWidth && e.tabIndex !== 0) faults.push('what scrolls cannot be reached by keyboard');
  }
  return [...new Set(faults)];
}

// Milliseconds that it takes to draw the page anew and to lay it out: the middle one of `n`.
export function timeRedraws(n) {
  const took = [];
  for (let i = 0; i < n; i++) {
    performance.mark('begin');
    window.dispatchEvent(new HashChangeEvent('hashchange')); // what makes the page draw, here and now
    document.body.getBoundingClientRect();
    took.push(performance.measure('redraw', 'begin').duration);
  }
  performance.clearMarks();
  performance.clearMeasures();
  return took.sort((a, b) => a - b)[n >> 1];
}
