/**
 * bulkhead-time.js - what time it is for the server, from a browser or Node. No dependencies.
 *
 *     import { syncTime } from "./bulkhead-time.js";
 *     const clock = await syncTime("/time");
 *     fetch("/buy", { headers: { "X-Trace-Time": clock.stamp() } });
 *
 * The server's clock is asked a few times. The answer that was fastest says most:
 *
 *     offset = server - client + RTT / 2
 *
 * where `server` is the time in the answer, `client` our time when it came, and RTT how long it took.
 * If the way there takes as long as the way back, that is exact; it is never off by more than RTT / 2.
 */
export async function syncTime(url = "/time", { samples = 5, fetch = globalThis.fetch } = {}) {
  let best = null;
  for (let i = 0; i < samples; i++) {
    // performance.now() goes on evenly, whatever happens to the device's clock meanwhile.
    const sent = performance.now();
    const response = await fetch(url, { cache: "no-store" });
    const { time_ms: server } = await response.json();
    const received = performance.now();
    if (!response.ok || !Number.isFinite(server)) throw new Error(`${url} tells no time`);
    const rtt = received - sent;
    if (best === null || rtt < best.rtt) best = { rtt, base: server + rtt / 2 - received };
  }
  return {
    /** Milliseconds since 1970, by the server's clock. */
    now: () => best.base + performance.now(),
    /** Milliseconds to add to Date.now(); for the header X-Time-Offset. */
    offset: () => best.base + performance.now() - Date.now(),
    /** For the header X-Trace-Time: seconds with milliseconds. */
    stamp: () => ((best.base + performance.now()) / 1000).toFixed(3),
    /** now() is off by no more than half of this, in milliseconds. */
    rtt: best.rtt,
  };
}
