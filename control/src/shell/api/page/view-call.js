// One call: who, by which way, what every stream does, and why.
import * as api from "./api.js";
import { attempt, order, tell, why } from "./ask.js";
import { h } from "./dom.js";
import { facts, mono, notice, pill, section, sentences, steps, title } from "./part.js";
import { bits, bytes, duration, ms, number, ppm, t, term } from "./words.js";

export const every = 2000;

export const load = ({ args: [id] }, signal) => api.get(`calls/${encodeURIComponent(id)}/explain`, signal);

export function draw(session) {
  const id = session.args[0];
  if (!session.data) return title(t("call.title", { id }));
  const explained = session.data;
  const { call } = explained;
  return [
    title(t("call.title", { id }), pill("call", call.state, call.state === "established" ? "good" : "plain"), actions(session, call)),
    section(t("call.answer"), sentences(explained.answer)),
    section(t("call.parties"), facts([
      [t("call.from"), call.from], [t("call.to"), call.to],
      [t("call.age"), duration(call.age_s)], [t("call.setup"), ms(call.setup_ms)], [t("call.call_id"), mono(call.call_id)],
    ]), h("div", { class: "columns" }, leg("caller", call.caller), call.callee && leg("callee", call.callee)), branches(call.branches)),
    section(t("call.streams"), call.flows.length ? flows(call.flows) : h("p", { class: "muted" }, t("call.no_streams"))),
    section(t("call.decisions"), decisions(explained)),
  ];
}

function actions(session, call) {
  const path = `calls/${call.id}`;
  const again = session.again;
  const hang_up = () => order({
    heading: t("call.end"), words: t("call.end_sure", { from: call.from, to: call.to }), yes: t("call.end"),
    run: () => api.ask("DELETE", path), done: t("call.ended"), again: () => (location.hash = "#/calls"),
  });
  const refresh = () => attempt(() => api.ask("POST", `${path}/refresh`), t("call.refreshed"), again);
  return h("div", { class: "buttons" },
    h("button", { type: "button", onclick: () => capture(call) }, t("call.capture")),
    h("button", { type: "button", onclick: refresh }, t("call.refresh")),
    h("button", { type: "button", class: "grave", onclick: hang_up }, t("call.end")));
}

const CAPTURE_S = 5;

async function capture(call) {
  tell(t("call.capturing", { n: CAPTURE_S }), "plain");
  try {
    const { document: file } = await api.ask("POST", `calls/${call.id}/capture?seconds=${CAPTURE_S}`);
    const url = URL.createObjectURL(file);
    h("a", { href: url, download: `call-${call.id}.pcapng` }).click();
    URL.revokeObjectURL(url);
    tell(t("call.captured", { size: bytes(file.size) }));
  } catch (problem) {
    tell(t("said.refused", { why: why(problem) }), "poor");
  }
}

function leg(party, leg) {
  return h("div", { class: "table" }, h("h3", {}, t(`call.${party}`)), facts([
    [t("call.network"), leg.network], [t("call.signalling"), mono(leg.signalling)], [t("call.via"), mono(leg.via)],
    [t("call.nat"), leg.nat ? t("yes") : t("no")], [t("call.target"), mono(leg.target)],
    [t("call.media"), leg.media && t("call.media_by", { mode: leg.media, by: term("by", leg.media_by) })],
  ]));
}

function branches(list) {
  if (!list.length) return null;
  return h("div", { class: "table" }, h("h3", {}, t("call.branches")), h("ul", { class: "lines" },
    list.map((b) => h("li", {}, h("code", {}, b.target), ` ${b.network} ${b.state} ${b.status ?? ""}`))));
}

function flows(list) {
  const head = ["stream", "from", "path", "heard", "bits", "packets", "lost", "jitter", "address"];
  const right = ["bits", "packets", "lost", "jitter"];
  return h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": t("call.streams") },
    h("table", {}, h("caption", { class: "quiet" }, t("call.streams")), h("thead", {}, h("tr", {}, head.map((key) => h("th", { scope: "col", class: right.includes(key) ? "n" : null }, t(`flow.${key}`))))),
      h("tbody", {}, list.map(flow))));
}

function flow(f) {
  const s = f.stream;
  const notes = [f.why, f.risk, f.silent_s !== null && t("flow.silent", { time: duration(f.silent_s) }),
    f.strangers + f.strangers_xdp > 0 && t("flow.strangers", { n: number(f.strangers + f.strangers_xdp) })].filter(Boolean);
  return h("tr", { "data-key": f.at },
    h("td", { class: "nowrap" }, `${f.kind} ${f.component.toUpperCase()}`),
    h("td", { class: "nowrap" }, t(`call.${f.leg}`)),
    h("td", { class: "wide" }, pill("path", f.path), notes.map((note) => h("p", { class: "muted" }, note))),
    h("td", { class: "nowrap" }, pill("latch", f.latch)),
    h("td", { class: "n" }, bits(f.bits_per_s)),
    h("td", { class: "n" }, number(f.packets_xdp + f.packets_user)),
    h("td", { class: "n" }, ppm(s?.lost_ppm)),
    h("td", { class: "n" }, ms(s?.jitter_us == null ? null : s.jitter_us / 1000)),
    h("td", { class: "nowrap" }, h("code", {}, f.held ?? f.signalled ?? "?"), " → ", h("code", {}, f.at), f.target && [" → ", h("code", {}, f.target)]));
}

function decisions({ caller, callee, flows }) {
  const part = (name, list) => h("details", { "data-key": name }, h("summary", {}, name), steps(list));
  return [
    caller && part(t("call.caller"), caller.steps),
    callee && part(t("call.callee"), callee.steps),
    flows.map((f) => part(`${f.kind} ${f.component.toUpperCase()}, ${t(`call.${f.leg}`)}, ${f.at}`, f.steps)),
  ];
}
