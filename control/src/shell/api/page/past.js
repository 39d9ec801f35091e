// The last ten minutes, a value a second, as the daemon remembers them. Only what is new is asked
// for.
import * as api from "./api.js";

const KEPT = 600;
let known = null;

export async function load(signal) {
  const now = await api.get(`history?since=${known?.seq ?? 0}`, signal);
  // A daemon that was started anew counts from the beginning.
  const goes_on = known && now.seq >= known.seq && now.seq - known.seq === now.at.length;
  if (!goes_on) known = known ? { ...(await api.get("history", signal)) } : now;
  else if (now.at.length) known = { ...now, at: joined(known.at, now.at), series: all(known.series, now.series) };
  return { at: times(known), series: known.series };
}

// Two samples may be of the same second by the clock: they are as far from each other as all are.
function times({ at, every_s }) {
  const last = at.at(-1) ?? 0;
  return at.map((_, index) => last - (at.length - 1 - index) * every_s);
}

const joined = (before, now) => [...before, ...now].slice(-KEPT);

const all = (before, now) =>
  Object.fromEntries(Object.entries(now).map(([name, values]) => [name, joined(before[name] ?? [], values)]));
