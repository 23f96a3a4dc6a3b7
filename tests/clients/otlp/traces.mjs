// A collector, and the client of the server whose traces it gets:
//
//   node traces.mjs fields|sampling|retry|refusal PORT COLLECTOR_PORT [FOLDER]
//
// "fields" decodes what it gets with OpenTelemetry's own packages ($OTLP_MODULES), by their protobuf
// schema; FOLDER has the crash records. Silent when all is well.
import assert from "node:assert";
import fs from "node:fs";
import http from "node:http";
import { createRequire } from "node:module";
import { gunzipSync } from "node:zlib";

const [mode, port, collectorPort, folder] = process.argv.slice(2);
const requests = []; // { at, path, headers, json }
let answers = []; // scripted: [status, headers, body]; else 200

const collector = http.createServer((req, res) => {
  const parts = [];
  req.on("data", (part) => parts.push(part)).on("end", () => {
    const raw = Buffer.concat(parts);
    const bytes = req.headers["content-encoding"] === "gzip" ? gunzipSync(raw) : raw;
    requests.push({ at: Date.now(), path: req.url, headers: req.headers, json: JSON.parse(bytes), raw });
    const [status, headers, body] = answers.shift() ?? [200, {}, "{}"];
    if (status === 0) return res.destroy();
    res.writeHead(status, { "content-type": "application/json", ...headers }).end(body ?? "{}");
  });
});
await new Promise((resolve) => collector.listen(Number(collectorPort), "127.0.0.1", resolve));

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
async function eventually(what, test) {
  for (const end = Date.now() + 15000; Date.now() < end; await pause(20)) {
    const value = test();
    if (value) return value;
  }
  assert.fail(`never: ${what}`);
}

const spans = () => requests.filter((r) => r.taken !== false)
  .flatMap((r) => r.json.resourceSpans.flatMap((rs) => rs.scopeSpans.flatMap((ss) => ss.spans)));
const spansOf = (trace) => spans().filter((s) => s.traceId === trace);
const value = (v) => v.stringValue ?? v.boolValue ?? v.doubleValue ?? Number(v.intValue);
const attributes = (list) => Object.fromEntries(list.map((a) => [a.key, value(a.value)]));
const ask = async (path, headers = {}, method = "GET") => {
  const res = await fetch(`http://127.0.0.1:${port}${path}`, { method, headers });
  const text = await res.text();
  return { status: res.status, headers: res.headers, text, json: text.startsWith("{") ? JSON.parse(text) : null };
};
const theServerSpan = (trace) => eventually(`the span of ${trace}`,
  () => spansOf(trace).find((s) => s.kind === 2));

const TRACE = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT = "00f067aa0ba902b7";

// ---- every field, by an independent decoder ----

async function fields() {
  const require = createRequire(`${process.env.OTLP_MODULES}/`);
  const root = require("@opentelemetry/otlp-transformer/build/src/generated/root.js");
  const conventions = require("@opentelemetry/semantic-conventions");
  const { parseTraceParent } = require("@opentelemetry/core");
  const Request = root.opentelemetry.proto.collector.trace.v1.ExportTraceServiceRequest;

  const before = Date.now();
  const first = await ask("/trace?token=abc&x=1", {
    traceparent: `00-${TRACE}-${PARENT}-01`, tracestate: "a=1, b=2", "user-agent": "tests/1",
  });
  assert.equal(first.status, 200);
  const span = await theServerSpan(TRACE);
  const after = Date.now();
  const all = spansOf(TRACE);

  // Passed on: our span is the parent of what comes after us.
  const on = parseTraceParent(first.json.traceparent);
  assert.equal(on.traceId, TRACE);
  assert.equal(on.spanId, span.spanId);
  assert.equal(on.traceFlags, 1);
  assert.equal(first.json.tracestate, "a=1, b=2");
  assert.equal(first.json.trace_id, TRACE);
  assert.equal(first.json.span_id, span.spanId);
  assert.equal(first.headers.get("x-traced"), "yes");

  assert.equal(span.parentSpanId, PARENT);
  assert.equal(span.traceState, "a=1, b=2");
  assert.equal(span.flags, 0x301); // sampled; it is known that the parent is remote
  assert.equal(span.name, "GET /trace/**");
  assert.equal(span.status.code, 0);
  const a = attributes(span.attributes);
  const is = (name, expected) => {
    assert.ok(name, "the package knows that name");
    assert.deepEqual(a[name], expected, name);
  };
  is(conventions.ATTR_HTTP_REQUEST_METHOD, "GET");
  is(conventions.ATTR_HTTP_RESPONSE_STATUS_CODE, 200);
  is(conventions.ATTR_HTTP_ROUTE, "/trace/**");
  is(conventions.ATTR_URL_PATH, "/trace");
  is(conventions.ATTR_URL_SCHEME, "http");
  is(conventions.ATTR_URL_QUERY, "token=[redacted 3 bytes]&x=1");
  is(conventions.ATTR_SERVER_ADDRESS, "127.0.0.1");
  is(conventions.ATTR_SERVER_PORT, Number(port));
  is(conventions.ATTR_CLIENT_ADDRESS, "127.0.0.1");
  is(conventions.ATTR_NETWORK_PEER_ADDRESS, "127.0.0.1");
  is(conventions.ATTR_NETWORK_PROTOCOL_VERSION, "1.1");
  is(conventions.ATTR_USER_AGENT_ORIGINAL, "tests/1");
  assert.ok(a[conventions.ATTR_NETWORK_PEER_PORT] > 0);
  assert.equal(a[conventions.ATTR_ERROR_TYPE], undefined);
  is("http.response.body.size", first.text.length);
  is("bulkhead.route", "traced");
  is("bulkhead.listener", "a");
  is("trace_time_anchor", "1795793494.123");
  is("of.request", "yes");

  // Times: since 1970, in nanoseconds, children within their parents.
  const ns = (s) => BigInt(s);
  assert.ok(ns(span.startTimeUnixNano) >= BigInt(before - 1000) * 1000000n);
  assert.ok(ns(span.endTimeUnixNano) <= BigInt(after + 1000) * 1000000n);
  const byId = new Map(all.map((s) => [s.spanId, s]));
  assert.equal(byId.size, all.length, "ids are unique");
  for (const s of all) {
    assert.match(s.spanId, /^[0-9a-f]{16}$/);
    assert.ok(ns(s.startTimeUnixNano) <= ns(s.endTimeUnixNano), s.name);
    if (s === span) continue;
    const parent = byId.get(s.parentSpanId);
    assert.ok(parent, `${s.name} has its parent`);
    assert.equal(s.kind, 1);
    assert.equal(s.flags, 0x101);
    assert.ok(ns(s.startTimeUnixNano) >= ns(parent.startTimeUnixNano), s.name);
    assert.ok(ns(s.endTimeUnixNano) <= ns(parent.endTimeUnixNano), s.name);
  }

  // A span for each call, and those of the plugin.
  const named = (name) => {
    const found = all.filter((s) => s.name === name);
    assert.equal(found.length, 1, `${name} once in ${all.map((s) => s.name)}`);
    return found[0];
  };
  const call = named("tracer on_request");
  const c = attributes(call.attributes);
  assert.equal(c["bulkhead.plugin"], "tracer");
  assert.equal(c["bulkhead.module"], "tracer");
  assert.equal(c["bulkhead.hook"], "on_request");
  assert.equal(c["bulkhead.verdict"], "done");
  assert.equal(c["of.call"], "yes");
  assert.equal(call.attributes.length, 40 + 4); // the plugin's, and the host's
  assert.equal(call.droppedAttributesCount, 101 - 40); // of.call, k0 to k99
  assert.equal(attributes(named("ids on_request").attributes)["bulkhead.verdict"], "continue");
  named("tracer on_response");
  const lookup = named("lookup");
  assert.equal(lookup.parentSpanId, call.spanId);
  assert.deepEqual(attributes(lookup.attributes),
    { "bulkhead.plugin": "tracer", "db.system": "none", rows: 42, score: 0.5, hostile: "a\ufffd\"\ufffd\n" });
  assert.equal(lookup.attributes.find((x) => x.key === "rows").value.intValue, "42");
  assert.equal(lookup.events[0].name, "cache miss");
  assert.ok(ns(lookup.events[0].timeUnixNano) >= ns(lookup.startTimeUnixNano));
  assert.equal(named("read").parentSpanId, lookup.spanId);

  // A crash: an event with the record, a span in error.
  const crash = await ask("/trace?crash=1");
  assert.equal(crash.status, 500);
  const failed = await eventually("the crash", () => spans().find((s) => attributes(s.attributes)["error.type"] === "500"));
  assert.equal(failed.parentSpanId, undefined);
  assert.equal(failed.status.code, 2);
  const record = attributes(failed.attributes)["bulkhead.crash_record"];
  await eventually(`${record}.json`, () => fs.existsSync(`${folder}/${record}.json`));
  const crashed = spansOf(failed.traceId).find((s) => s.name === "tracer on_request");
  assert.equal(crashed.status.code, 2);
  assert.equal(attributes(crashed.attributes)["bulkhead.verdict"], "crash");
  assert.equal(crashed.events.length, 1);
  assert.equal(crashed.events[0].name, "exception");
  assert.deepEqual(attributes(crashed.events[0].attributes),
    { "exception.type": "SIGABRT", "bulkhead.crash_record": record });
  const left = spansOf(failed.traceId).find((s) => s.name === "read");
  assert.equal(left.status.code, 2);
  assert.equal(left.endTimeUnixNano, crashed.endTimeUnixNano);

  // A pause is a span.
  const paused = await ask("/trace?pause=30", {}, "POST");
  const pausedTrace = await eventually("the pause", () => spans().find((s) => s.name === "tracer paused"));
  assert.ok(ns(pausedTrace.endTimeUnixNano) - ns(pausedTrace.startTimeUnixNano) >= 29000000n);
  assert.ok(paused.status === 404 || paused.status === 200);

  // Bad input begins anew, without its state.
  for (const bad of [`00-${TRACE}-${PARENT}-1`, `00-${TRACE.toUpperCase()}-${PARENT}-01`, "00-x", `ff-${TRACE}-${PARENT}-01`]) {
    const answer = await ask("/trace", { traceparent: bad, tracestate: "a=1" });
    const own = parseTraceParent(answer.json.traceparent);
    assert.notEqual(own.traceId, TRACE);
    assert.equal(answer.json.tracestate, "");
    assert.equal((await theServerSpan(own.traceId)).parentSpanId, undefined);
  }
  // A bad state does not spoil a good parent.
  const T2 = "11112222333344445555666677778888";
  const stateless = await ask("/trace", { traceparent: `00-${T2}-${PARENT}-01`, tracestate: "A=1" });
  assert.equal(stateless.json.tracestate, "");
  assert.equal((await theServerSpan(T2)).traceState, undefined);
  // Not recorded by who asked: neither here, and passed on as it is.
  const T3 = "11112222333344445555666677779999";
  const unsampled = await ask("/trace", { traceparent: `00-${T3}-${PARENT}-00`, tracestate: "a=1" });
  assert.equal(unsampled.json.traceparent, `00-${T3}-${PARENT}-00`);
  assert.equal(unsampled.json.tracestate, "a=1");
  assert.equal(unsampled.json.trace_id, "");

  // What no route takes, and methods that are not known.
  await ask("/trace", { traceparent: "00-11112222333344445555666677771111-00f067aa0ba902b7-01" }, "DELETE");
  const refused = await theServerSpan("11112222333344445555666677771111");
  assert.equal(attributes(refused.attributes)["http.response.status_code"], 405);

  await pause(150);
  assert.equal(spansOf(T3).length, 0);

  // Every request, by the schema: no field that it does not have, each of its type.
  const hexToBase64 = (hex) => Buffer.from(hex, "hex").toString("base64");
  const convert = (node, type) => {
    const out = {};
    for (const [key, item] of Object.entries(node)) {
      const field = type.fields[key];
      assert.ok(field, `${type.name} has a field ${key}`);
      const message = field.resolve().resolvedType;
      const one = (x) => message?.fields ? convert(x, message) : field.type === "bytes" ? hexToBase64(x) : x;
      assert.equal(Array.isArray(item), Boolean(field.repeated), `${type.name}.${key}`);
      if (field.type === "fixed64" || field.type === "int64") assert.equal(typeof item, "string", key);
      if (message && !message.fields) assert.equal(typeof item, "number", `${key}: enums are numbers`);
      out[key] = Array.isArray(item) ? item.map(one) : one(item);
    }
    return out;
  };
  const schema = reflection(root);
  for (const r of requests) {
    assert.equal(r.path, "/v1/traces");
    assert.equal(r.headers["content-type"], "application/json");
    assert.equal(r.headers["content-encoding"], "gzip");
    assert.equal(r.headers.authorization, "Bearer s3cret");
    const message = Request.fromObject(convert(r.json, schema));
    assert.equal(Request.verify(message), null);
    const bytes = Request.encode(message).finish();
    const back = Request.toObject(Request.decode(bytes), { longs: String, bytes: String });
    assert.equal(back.resourceSpans[0].scopeSpans[0].spans.length, r.json.resourceSpans[0].scopeSpans[0].spans.length);
    const resource = attributes(r.json.resourceSpans[0].resource.attributes);
    assert.equal(resource[conventions.ATTR_SERVICE_NAME], "shop");
    assert.ok(resource[conventions.ATTR_SERVICE_VERSION]);
    assert.equal(resource["deployment.environment"], "test");
    assert.ok(resource["service.instance.id"]);
    assert.equal(r.json.resourceSpans[0].scopeSpans[0].scope.name, "bulkhead");
  }
  assert.equal(new Set(requests.map((r) => attributes(r.json.resourceSpans[0].resource.attributes)["service.instance.id"])).size, 1);
}

// The package has its schema as generated code only: what fields a type has is asked of that code.
function reflection(root) {
  const span = ["traceId bytes", "spanId bytes", "traceState string", "parentSpanId bytes", "flags fixed32", "name string",
    "kind enum", "startTimeUnixNano fixed64", "endTimeUnixNano fixed64", "attributes KeyValue*", "droppedAttributesCount uint32",
    "events Event*", "droppedEventsCount uint32", "status Status"];
  const types = {
    Request: ["resourceSpans ResourceSpans*"],
    ResourceSpans: ["resource Resource", "scopeSpans ScopeSpans*"],
    Resource: ["attributes KeyValue*"],
    ScopeSpans: ["scope Scope", "spans Span*"],
    Scope: ["name string", "version string"],
    Span: span,
    Event: ["timeUnixNano fixed64", "name string", "attributes KeyValue*"],
    Status: ["code enum", "message string"],
    KeyValue: ["key string", "value AnyValue"],
    AnyValue: ["stringValue string", "boolValue bool", "intValue int64", "doubleValue double"],
  };
  const made = {};
  const classes = {
    Span: root.opentelemetry.proto.trace.v1.Span, ScopeSpans: root.opentelemetry.proto.trace.v1.ScopeSpans,
    ResourceSpans: root.opentelemetry.proto.trace.v1.ResourceSpans, Status: root.opentelemetry.proto.trace.v1.Status,
    Event: root.opentelemetry.proto.trace.v1.Span.Event, KeyValue: root.opentelemetry.proto.common.v1.KeyValue,
    AnyValue: root.opentelemetry.proto.common.v1.AnyValue, Resource: root.opentelemetry.proto.resource.v1.Resource,
    Scope: root.opentelemetry.proto.common.v1.InstrumentationScope,
  };
  for (const [name, list] of Object.entries(types)) {
    const fields = {};
    for (const line of list) {
      const [key, kind] = line.split(" ");
      // The package's own class knows that field, too.
      if (classes[name]) assert.ok(key in classes[name].prototype, `the schema's ${name} has ${key}`);
      const repeated = kind.endsWith("*");
      const type = repeated ? kind.slice(0, -1) : kind;
      fields[key] = { type, repeated, resolve: () => ({ resolvedType: type === "enum" ? {} : made[type] }) };
    }
    made[name] = { name, fields };
  }
  return made.Request;
}

// ---- sampling ----

async function sampling() {
  const bound = (1n << 63n) / 10n;
  const recorded = new Set(), not = new Set();
  for (let i = 0; i < 400; i++) {
    const { json } = await ask("/trace");
    const [, trace, , flags] = json.traceparent.split("-");
    const drawn = (BigInt(`0x${trace.slice(16)}`) >> 1n) < bound;
    assert.equal(flags, drawn ? "01" : "00");
    assert.equal(json.trace_id, drawn ? trace : "");
    (drawn ? recorded : not).add(trace);
  }
  assert.ok(recorded.size > 8 && recorded.size < 90, `${recorded.size} of 400 at 10 %`);
  // A parent of a stranger is not gone on with (tracing.parent: trusted).
  const { json } = await ask("/trace", { traceparent: `00-${TRACE}-${PARENT}-01` });
  assert.ok(!json.traceparent.includes(TRACE));
  await eventually("all of them", () => new Set(spans().map((s) => s.traceId)).size >= recorded.size);
  for (const s of spans()) assert.ok(!not.has(s.traceId));
}

// ---- a collector that does not take them at once ----

async function retry() {
  answers = [[503, { "retry-after": "2" }, ""], [502, {}, ""], [200, {}, "{}"]];
  await ask("/trace", { traceparent: `00-${TRACE}-${PARENT}-01` });
  await eventually("three requests", () => requests.length >= 3);
  assert.ok(requests[1].at - requests[0].at >= 1950, `Retry-After: ${requests[1].at - requests[0].at} ms`);
  assert.ok(requests[2].at - requests[1].at >= 1950, "then two seconds, by itself");
  assert.deepEqual(requests[1].json, requests[0].json);
  assert.deepEqual(requests[2].json, requests[0].json);
  await ask("/trace");
  await eventually("it goes on at once", () => requests.length === 4);
}

async function refusal() {
  answers = [[400, {}, '{"message":"no such tenant"}'],
    [200, {}, '{"partialSuccess":{"rejectedSpans":"2","errorMessage":"too old"}}'], [200, {}, "{}"]];
  for (let i = 1; i <= 3; i++) {
    await ask("/trace");
    await eventually(`request ${i}`, () => requests.length === i);
  }
  await pause(200);
  assert.equal(requests.length, 3); // the first was not sent again
}

await { fields, sampling, retry, refusal }[mode]();
collector.closeAllConnections();
collector.close();
