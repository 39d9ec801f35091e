// Pieces that several views share. A state is always a mark and a word, never a colour alone.
import { h } from "./dom.js";
import { t, term } from "./words.js";

const TONES = {
  good: ["ok", "pass", "up", "native", "xdp", "held", "established", "on", "connected", "closed_breaker", "granted"],
  fair: ["degraded", "warn", "generic", "user", "userspace", "unknown", "tentative", "waiting", "ringing", "half_open", "queued"],
  poor: ["down", "fail", "off", "none", "open_breaker", "lost", "refused"],
};
const MARKS = { good: "●", fair: "▲", poor: "■", plain: "○" };

export function tone(word) {
  return Object.keys(TONES).find((tone) => TONES[tone].includes(word)) ?? "plain";
}

export function pill(kind, word, of = tone(word)) {
  return h("span", { class: `pill ${of}` }, h("span", { "aria-hidden": "true" }, MARKS[of]), term(kind, word));
}

export const title = (words, ...more) => h("div", { class: "title" }, h("h1", {}, words), ...more);

export const section = (words, ...children) =>
  h("section", {}, h("h2", {}, words), ...children);

// Pairs of a name and a value; those without a value are left out.
export const facts = (pairs) =>
  h("dl", { class: "facts" }, pairs.filter(([, value]) => value !== null && value !== undefined && value !== false)
    .map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))));

export const mono = (text) => (text === null || text === undefined ? t("none") : h("code", {}, text));

export const notice = (of, ...children) =>
  h("div", { class: `notice ${of}`, role: of === "poor" ? "alert" : null },
    h("span", { "aria-hidden": "true", class: "mark" }, MARKS[of] ?? MARKS.plain), h("div", {}, ...children));

// A share as a bar with its words beside it.
export const meter = (part, whole, words) => {
  const share = whole ? Math.min(1, part / whole) : 0;
  const of = share >= 0.9 ? "poor" : share >= 0.75 ? "fair" : "good";
  const bar = h("meter", { class: of, min: 0, max: 1, "aria-label": words });
  bar.setAttribute("value", share);
  return h("span", { class: "meter" }, bar, words);
};

// The chain of decisions that `explain` answers with.
export const steps = (list) =>
  h("ol", { class: "steps" }, list.map((step) =>
    h("li", {},
      h("p", {}, h("span", { class: "muted" }, step.question), " ", h("strong", {}, step.decision)),
      h("p", { class: "muted" }, step.rule, step.place && [" ", h("code", {}, step.place)], step.key && [" ", h("code", {}, step.key)]),
      step.facts.length > 0 && h("ul", {}, step.facts.map((fact) => h("li", {}, fact))),
      step.losers.length > 0 && h("ul", { class: "muted" }, step.losers.map((l) => h("li", {}, l.network, l.why && `: ${l.why}`))),
      step.means && h("p", {}, step.means))));

export const sentences = (list) => h("div", { class: "answer" }, list.map((line) => h("p", {}, line)));
