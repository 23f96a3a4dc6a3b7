// What Node's fetch (undici) and node:http (llhttp, both strict) make of the server:
// node client.mjs PORT. Silent when all is well.
import assert from "node:assert";
import http from "node:http";

const port = Number(process.argv[2]);
const url = (path) => `http://127.0.0.1:${port}${path}`;

let answer = await fetch(url("/a.txt"));
assert.equal(await answer.text(), "0123456789");
const etag = answer.headers.get("etag");

answer = await fetch(url("/a.txt"), { method: "HEAD" });
assert.equal(answer.headers.get("content-length"), "10");
assert.equal(await answer.text(), "");

answer = await fetch(url("/a.txt"), { headers: { "if-none-match": etag } });
assert.equal(answer.status, 304);
await answer.text();

answer = await fetch(url("/a.txt"), { headers: { range: "bytes=-2" } });
assert.equal(answer.status, 206);
assert.equal(await answer.text(), "89");

answer = await fetch(url("/chunks?n=4"), { method: "HEAD" });
assert.equal(await answer.text(), "");
answer = await fetch(url("/chunks?n=4"));
assert.equal((await answer.text()).length, 40);

answer = await fetch(url("/body"), { method: "POST", body: "x".repeat(100000) });
assert.match(await answer.text(), /bytes=100000 /);

// A body that is made while it is sent: chunked.
const parts = new ReadableStream({
  start(controller) {
    for (let i = 0; i < 50; i++) controller.enqueue(new TextEncoder().encode("y".repeat(1000)));
    controller.close();
  },
});
answer = await fetch(url("/body"), { method: "POST", body: parts, duplex: "half" });
assert.match(await answer.text(), /bytes=50000 /);

answer = await fetch(url("/sub"));
assert.equal(answer.redirected, true);
assert.equal(new URL(answer.url).pathname, "/sub/");
assert.equal(await answer.text(), "<p>sub");

await Promise.all(Array.from({ length: 100 }, async (_, i) => {
  const res = await fetch(url(i % 3 ? "/a.txt" : "/none"));
  assert.equal(res.status, i % 3 ? 200 : 404);
  await res.text();
}));

// node:http on one connection that is kept alive.
const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
const sockets = new Set();
for (const [method, path, status] of [["GET", "/a.txt", 200], ["HEAD", "/chunks", 200], ["OPTIONS", "*", 200],
  ["GET", "/chunks?n=2&status=304", 304], ["PURGE", "/a.txt", 501], ["GET", "/a.txt", 200]]) {
  await new Promise((resolve, reject) => {
    const req = http.request({ port, host: "127.0.0.1", method, path, agent }, (res) => {
      assert.equal(res.statusCode, status, `${method} ${path}`);
      sockets.add(res.socket);
      res.resume().on("end", resolve);
    });
    req.on("error", reject).end();
  });
}
assert.equal(sockets.size, 1);
agent.destroy();
