// Words and numbers in the operator's language. A dictionary is one file; `{name}` in it is filled
// in. What the daemon says in sentences stays as it says it.

const LANGUAGES = { en: "English", zh: "中文" };
const KEPT = "towpath.language";

let words = {};
let language = "en";

export const languages = () => Object.entries(LANGUAGES);
export const current = () => language;

export async function speak(wanted = localStorage.getItem(KEPT) ?? navigator.language) {
  const found = wanted.toLowerCase().startsWith("zh") ? "zh" : "en";
  const answer = await fetch(`/page/${found}.json`);
  words = await answer.json();
  language = found;
  document.documentElement.lang = found === "zh" ? "zh-CN" : "en";
}

export async function choose(wanted) {
  localStorage.setItem(KEPT, wanted);
  await speak(wanted);
}

export function t(key, values = {}) {
  const text = words[key];
  if (text === undefined) {
    console.error(`no word for ${key}`);
    return key;
  }
  return text.replace(/\{(\w+)\}/g, (_, name) => values[name] ?? "");
}

// A word of the daemon's own, such as a state; itself if no dictionary has it.
export const term = (kind, word) => words[`${kind}.${word}`] ?? String(word ?? t("none"));

export function number(value, digits = 0) {
  if (value === null || value === undefined) return t("none");
  return new Intl.NumberFormat(language, { maximumFractionDigits: digits }).format(value);
}

// 12.3 k, 4.5 M: three figures are read at a glance.
export function short(value) {
  if (value === null || value === undefined) return t("none");
  const steps = [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]];
  const [size, unit] = steps.find(([size]) => Math.abs(value) >= size) ?? [1, ""];
  const scaled = value / size;
  const digits = size === 1 || scaled >= 100 ? 0 : scaled >= 10 ? 1 : 2;
  return unit ? `${number(scaled, digits)} ${unit}` : number(scaled, digits);
}

export const bits = (value) => (value == null ? t("none") : `${short(value)}${value < 1000 ? " " : ""}bit/s`);
export const bytes = (value) => (value == null ? t("none") : `${short(value)}${value < 1000 ? " " : ""}B`);
export const rate = (value) => (value == null ? t("none") : t("unit.per_s", { n: short(value) }));
export const percent = (part, whole) => (whole ? `${number((100 * part) / whole, 1)} %` : t("none"));
export const ppm = (value) => (value == null ? t("none") : `${number(value / 1e4, 2)} %`);
export const ms = (value) => (value == null ? t("none") : `${number(value, value < 10 ? 1 : 0)} ms`);

// 4 s, 3 min 20 s, 5 h 12 min, 3 d 4 h.
export function duration(seconds) {
  if (seconds === null || seconds === undefined) return t("none");
  const steps = [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]];
  const first = steps.findIndex(([, size]) => seconds >= size);
  if (first < 0) return t("time.s", { n: 0 });
  const [unit, size] = steps[first];
  const whole = t(`time.${unit}`, { n: number(Math.floor(seconds / size)) });
  const next = steps[first + 1];
  const rest = next ? Math.floor((seconds % size) / next[1]) : 0;
  return rest > 0 ? `${whole} ${t(`time.${next[0]}`, { n: rest })}` : whole;
}

export function clock(text) {
  const at = new Date(text);
  if (Number.isNaN(at.getTime())) return String(text ?? t("none"));
  const day = at.toDateString() === new Date().toDateString() ? {} : { month: "short", day: "numeric" };
  const time = { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false };
  return new Intl.DateTimeFormat(language, { ...day, ...time }).format(at);
}
