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
  return known;
}

const joined = (before, now) => [...before, ...now].slice(-KEPT);

const all = (before, now) =>
  Object.fromEntries(Object.entries(now).map(([name, values]) => [name, joined(before[name] ?? [], values)]));
