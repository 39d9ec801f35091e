// The last ten minutes, a value a second: from the daemon, which remembers them; what is missing
// there the page adds up itself while it is open.
import * as api from "./api.js";

const KEPT_S = 600;
let own = { at: [], series: {} };
let before = null;

// What a status says now, for as long as the daemon has no history.
export function note(status) {
  const now = Date.now() / 1000;
  const values = { calls: status.calls.now, calls_answered: status.calls.answered, registrations: status.registrations };
  const counts = { forwarded: 0, dropped: 0, user: 0 };
  for (const [reason, packets] of Object.entries(status.verdicts)) {
    if (reason === "forwarded") counts.forwarded += packets;
    else if (reason === "wrong-source" || reason === "hop-limit") counts.dropped += packets;
  }
  if (before) {
    const passed = Math.max(0.001, now - before.now);
    for (const name of Object.keys(counts)) values[`${name}_per_s`] = Math.max(0, (counts[name] - before.counts[name]) / passed);
  }
  before = { now, counts };
  push(now, values);
}

function push(now, values) {
  own.at.push(now);
  for (const name of Object.keys(values)) own.series[name] ??= Array(own.at.length - 1).fill(null);
  for (const [name, series] of Object.entries(own.series)) series.push(values[name] ?? null);
  while (own.at[0] < now - KEPT_S) {
    own.at.shift();
    for (const series of Object.values(own.series)) series.shift();
  }
}

export async function load(signal) {
  try {
    return await api.get("history", signal);
  } catch (problem) {
    if (!(problem instanceof api.Problem) || problem.status !== 404) throw problem;
    return own;
  }
}
