// Receivers of alerts, and the client that causes them: node alerts.mjs PORT RECEIVER_PORT
// Silent when all is well. /boom crashes; the rule fires above two crashes within three seconds.
import assert from "node:assert";
import http from "node:http";

const [port, receiverPort] = process.argv.slice(2).map(Number);
const got = { "/hook": [], "/wecom": [] };
// WeCom says no with status 200; the webhook is broken for a moment.
const answers = {
  "/hook": [[500, "oops"]],
  "/wecom": [[200, '{"errcode":45009,"errmsg":"api freq out of limit"}'], [200, '{"errcode":0,"errmsg":"ok"}'],
    [200, '{"errcode":93000,"errmsg":"invalid webhook url"}']],
};

const receiver = http.createServer((req, res) => {
  let body = "";
  req.on("data", (part) => { body += part; }).on("end", () => {
    const url = new URL(req.url, "http://x");
    assert.equal(url.searchParams.get("key"), "s3cret");
    assert.equal(req.headers["content-type"], "application/json");
    got[url.pathname].push({ at: Date.now(), json: JSON.parse(body), headers: req.headers });
    const [status, text] = answers[url.pathname].shift() ?? [200, url.pathname === "/wecom" ? '{"errcode":0}' : ""];
    res.writeHead(status).end(text);
  });
});
await new Promise((resolve) => receiver.listen(receiverPort, "127.0.0.1", resolve));

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
async function eventually(what, test) {
  for (const end = Date.now() + 20000; Date.now() < end; await pause(20)) if (test()) return;
  assert.fail(`never: ${what}: ${JSON.stringify(got).slice(0, 3000)}`);
}

for (let i = 0; i < 3; i++) assert.equal((await fetch(`http://127.0.0.1:${port}/boom`)).status, 500);

const hook = got["/hook"], wecom = got["/wecom"];
await eventually("the webhook is told, twice since it was broken", () => hook.length >= 2);
assert.deepEqual(hook[1].json, hook[0].json);
assert.ok(hook[1].at - hook[0].at >= 950);
assert.equal(hook[1].headers["x-team"], "ops");
assert.equal(hook[1].json.status, "firing");
const [alert] = hook[1].json.alerts;
assert.equal(alert.labels.alertname, "crashing");
assert.equal(alert.labels.plugin, "boom");
assert.equal(alert.labels.severity, "page");
assert.equal(alert.annotations.summary, "it crashes");
assert.equal(alert.annotations.value, "3");
assert.equal(alert.endsAt, "0001-01-01T00:00:00Z");
assert.ok(Math.abs(new Date(alert.startsAt) - Date.now()) < 20000);

await eventually("WeCom is told again after it was too much", () => wecom.length >= 2);
assert.equal(wecom[0].json.msgtype, "markdown");
assert.match(wecom[0].json.markdown.content, /^<font color="warning">FIRING<\/font> \*\*crashing\*\*: bulkhead_plugin_crashes_total is 3 \(alert when > 2\)\n> /);
assert.deepEqual(wecom[1].json, wecom[0].json);

await eventually("it is over", () => hook.length >= 3);
assert.equal(hook[2].json.status, "resolved");
assert.equal(hook[2].json.alerts[0].fingerprint, alert.fingerprint);
assert.equal(hook[2].json.alerts[0].startsAt, alert.startsAt);
assert.ok(new Date(hook[2].json.alerts[0].endsAt) > new Date(alert.startsAt));
await eventually("WeCom is told that, too", () => wecom.length >= 3);
assert.match(wecom[2].json.markdown.content, /RESOLVED/);
await pause(1500);
assert.equal(hook.length, 3); // nothing is told twice
assert.equal(wecom.length, 3); // what was refused is not sent again
receiver.closeAllConnections();
receiver.close();
