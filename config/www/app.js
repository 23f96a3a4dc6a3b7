// The default site: crashes plugins on request, and counts what else is going on.
"use strict";

const PLUGINS = [
  ["access_log", "a line for each request"],
  ["error_pages", "turns a crash into an answer"],
  ["request_id", "a name for each request"],
  ["headers", "security headers"],
  ["cors", "pages of other origins"],
  ["rate_limit", "a bucket for each client"],
  ["fault", "crashes when asked to"],
  ["static", "the files of this page"],
];
const FAULTY = 6; // the compartment that is flooded

const CRASHES = [
  ["NULL pointer", "*(int *)0 = 42;", "SIGSEGV, the classic", "segv"],
  ["Jump to nowhere", "((void (*)(void))0xdead)();", "SIGSEGV, with nothing at the program counter", "jump"],
  ["Divide by zero", "1 / 0;", "SIGFPE, which has nothing to do with floats", "fpe"],
  ["Stack overflow", "int f(int n) { return f(n + 1); }", "SIGSEGV, with no stack left to handle it on", "overflow"],
  ["Failed assert", "assert(p != NULL);", "SIGABRT, out of libc", "assert"],
  ["Double free", "free(p); free(p);", "SIGABRT, out of the allocator", "double_free"],
  ["Truncated mapping", "p = mmap(...); ftruncate(fd, 0); *p = 1;", "SIGBUS: the file has gone from under the page", "bus"],
  ["Illegal instruction", "__builtin_trap();", "SIGILL, where the compiler saw no way on", "ill"],
  ["exit()", "exit(41);", "No signal at all: the process just wants to end", "exit"],
  ["pthread_exit()", "pthread_exit(NULL);", "Nor here: the event loop's thread wants to end", "pthread_exit"],
  ["In the host's code", "bh_header_set(req, BH_RESP, \"X\", bad);", "A bad pointer is charged to who passed it", "bad_ptr"],
  ["After the headers", "write(\"chunk 1\"); ... *(int *)0 = 42;", "200 is on its way: only this answer is cut off", "segv", "&at=on_response_body&stream=1&chunk=3"],
];

const $ = (id) => document.getElementById(id);
const counters = { answered: 0, failed: 0, crashes: 0 };
const calm = matchMedia("(prefers-reduced-motion: reduce)");

function count(name) {
  $(name).textContent = (++counters[name]).toLocaleString("en");
  if (name === "failed") $("failed").parentElement.classList.add("bad");
}

function make(tag, attributes = {}, ...children) {
  const isSvg = ["g", "rect", "path", "text"].includes(tag);
  const e = isSvg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [k, v] of Object.entries(attributes)) e.setAttribute(k, v);
  e.append(...children);
  return e;
}

// ---- the ship ---------------------------------------------------------------------------------

const LEFT = 100, WIDTH = 105;

function drawShip() {
  PLUGINS.forEach(([name, what], i) => {
    const x = LEFT + i * WIDTH;
    $("cells").append(make("g", { class: "cell-group" },
      make("rect", { class: "cell", x, y: 128, width: WIDTH, height: 140 }),
      make("path", { class: "flood", d: `M${x} 142q13-9 26 0t26 0 26 0 27 0V275H${x}Z` }),
      make("text", { class: "cell-name", x: x + WIDTH / 2, y: 208 }, name),
      make("text", { class: "cell-no", x: x + WIDTH / 2, y: 222 }, String(i + 1))));
    $("legend").append(make("li", {}, make("code", {}, name), make("span", {}, what)));
  });
  for (let i = 0; i <= PLUGINS.length; i++) {
    const x = LEFT + i * WIDTH;
    $("walls").append(make("path", { d: `M${x} 128V150M${x} 170V262` })); // with a door for requests
  }
}

// A request on its way through the compartments; one that crashes ends in the flooded one.
function sail(isCrash) {
  $("hull").querySelector(".lane-text").classList.toggle("bad", isCrash);
  $("hull").querySelector(".lane-text").textContent = isCrash ? "500" : "200";
  if (calm.matches || !$("dot").animate) return;
  const to = isCrash ? LEFT + FAULTY * WIDTH + WIDTH / 2 - 70 : 870;
  $("dot").animate([{ transform: "none", opacity: 1 }, { transform: `translateX(${to}px)`, opacity: 1 }],
    { duration: isCrash ? 220 : 320, easing: "linear" });
}

let drain;
function flood() {
  const parts = [$("cells").children[FAULTY], $("legend").children[FAULTY]];
  parts.forEach((p) => p.classList.add("flooded"));
  sail(true);
  clearTimeout(drain);
  drain = setTimeout(() => parts.forEach((p) => p.classList.remove("flooded")), 900);
}

function mark(kind) {
  const ticks = $("ticks");
  ticks.append(make("i", kind ? { class: kind } : {}));
  while (ticks.children.length > 120) ticks.firstChild.remove();
}

// ---- requests ---------------------------------------------------------------------------------

const OPTIONS = { cache: "no-store", headers: { Accept: "application/json" } };

// One request after the other, so that the browser keeps to one connection, and so to one worker:
// each worker counts its own "every third".
let queue = Promise.resolve();
function inTurn(job) {
  queue = queue.then(job, job);
  return queue;
}

async function ask(url) {
  const began = performance.now();
  const answer = { status: 0, id: "", cut: false, ms: 0 };
  try {
    const r = await fetch(url, { ...OPTIONS, signal: AbortSignal.timeout(8000) });
    answer.status = r.status;
    const text = await r.text().catch(() => { answer.cut = true; return ""; });
    if ((r.headers.get("Content-Type") || "").includes("json"))
      try { answer.id = JSON.parse(text).id || ""; } catch { /* not ours */ }
  } catch { /* status 0: the connection is gone */ }
  answer.ms = performance.now() - began;
  return answer;
}

const isWhole = (a) => a.status === 200 && !a.cut;

// ---- the ticker -------------------------------------------------------------------------------

let paused = false, waiting = false;

async function tick() {
  if (paused || waiting || document.hidden) return;
  waiting = true;
  const a = await inTurn(() => ask("/api/hello"));
  waiting = false;
  count(isWhole(a) ? "answered" : "failed");
  mark(isWhole(a) ? "" : "failed");
  if (isWhole(a)) sail(false);
}

function togglePause() {
  paused = !paused;
  $("pause").textContent = paused ? "Go on" : "Pause";
  $("pause").setAttribute("aria-pressed", String(paused));
}

// ---- crash buttons ----------------------------------------------------------------------------

function describe(a) {
  if (a.cut) return `${a.status}, cut off`;
  return a.status === 0 ? "no answer" : String(a.status);
}

function addRow(what, a) {
  const rows = $("rows");
  rows.querySelector(".empty")?.remove();
  rows.prepend(make("tr", {},
    make("td", {}, what),
    make("td", {}, make("span", { class: isWhole(a) ? "badge ok" : "badge" }, describe(a))),
    make("td", {}, a.id ? make("code", {}, a.id) : "–"),
    make("td", { class: "num" }, `${a.ms.toFixed(1)} ms`)));
  while (rows.children.length > 8) rows.lastChild.remove();
  if (a.id) $("show").textContent = `bulkhead crashes show ${a.id}`;
  $("said").textContent = `${what}: ${describe(a)}${a.id ? ", crash record " + a.id : ""}. ` +
    `${counters.answered} other requests answered, ${counters.failed} failed.`;
}

function drawButtons() {
  for (const [title, code, what, fault, more = ""] of CRASHES) {
    const b = make("button", { type: "button" }, make("strong", {}, title), make("code", {}, code),
      make("small", {}, what));
    b.addEventListener("click", async () => {
      if (b.getAttribute("aria-disabled")) return;
      b.setAttribute("aria-disabled", "true");
      const a = await ask(`/crash/demo?fault=${fault}${more}`);
      b.removeAttribute("aria-disabled");
      if (!isWhole(a)) {
        count("crashes");
        mark("crash");
        flood();
      }
      addRow(title, a);
    });
    $("buttons").append(b);
  }
}

// ---- every third ------------------------------------------------------------------------------

function drawPortholes() {
  for (let i = 1; i <= 12; i++) $("portholes").append(make("li", { "aria-label": `${i}: not sent` }, String(i)));
}

async function sendTwelve() {
  const button = $("twelve");
  let failed = 0;
  if (button.getAttribute("aria-disabled")) return;
  button.setAttribute("aria-disabled", "true");
  $("verdict").textContent = "";
  [...$("portholes").children].forEach((p, i) => { p.className = ""; p.textContent = i + 1; });
  for (const p of $("portholes").children) {
    const a = await inTurn(() => ask("/third"));
    p.className = isWhole(a) ? "ok" : "failed";
    p.textContent = describe(a);
    p.setAttribute("aria-label", `${isWhole(a) ? "answered" : "failed"}, ${describe(a)}`);
    if (!isWhole(a)) {
      failed++;
      count("crashes");
      mark("crash");
      flood();
      addRow("Every third", a);
    }
    await new Promise((done) => setTimeout(done, calm.matches ? 0 : 90));
  }
  button.removeAttribute("aria-disabled");
  $("verdict").textContent = `${12 - failed} answered, ${failed} failed` +
    (failed === 4 ? ": just those that crashed." : ".");
}

drawShip();
drawButtons();
drawPortholes();
$("pause").addEventListener("click", togglePause);
$("twelve").addEventListener("click", sendTwelve);
setInterval(tick, 500);
tick();
