// State first, then numbers, then how they came about.
import * as api from "./api.js";
import { attempt, order } from "./ask.js";
import { h } from "./dom.js";
import { meter, notice, title } from "./part.js";
import * as past from "./past.js";
import { plot } from "./plot.js";
import { bits, duration, number, percent, ppm, rate, t } from "./words.js";

export const every = 2000;

export async function load(_, signal) {
  const [status, networks, top, history] = await Promise.all([
    api.get("status", signal), api.get("networks", signal), api.get("top?n=5", signal), past.load(signal),
  ]);
  return { status, networks: networks.networks, top, history };
}

export function draw({ data, again }) {
  if (!data) return title(t("view.overview"));
  const { status, networks, top, history } = data;
  return [
    title(t("view.overview"), h("div", { class: "buttons" }, drain(status.drain, again))),
    state(status),
    draining(status.drain),
    tiles(status, networks, top),
    h("div", { class: "plots" }, plots(history)),
  ];
}

function state({ state, warnings }) {
  if (state === "ok" && warnings.length === 0) return notice("good", h("p", {}, h("strong", {}, t("overview.ok"))));
  const of = state === "down" ? "poor" : "fair";
  return [
    notice(of, h("p", {}, h("strong", {}, t(`overview.${state}`, { n: number(warnings.length) }))), h("p", {}, h("a", { href: "#/doctor" }, t("overview.doctor")))),
    warnings.map((warning) => notice(of, h("p", {}, warning))),
  ];
}

// A node that is to be taken away: its calls end by themselves.
function drain({ draining }, again) {
  const stop = () => order({
    heading: t("drain.begin"), words: t("drain.sure"), yes: t("drain.begin"),
    run: () => api.ask("POST", "drain", { body: "{}" }), done: t("drain.begun"), again,
  });
  const go_on = () => attempt(() => api.ask("DELETE", "drain"), t("drain.ended"), again);
  return draining
    ? h("button", { type: "button", class: "main", onclick: go_on }, t("drain.end"))
    : h("button", { type: "button", onclick: stop }, t("drain.begin"));
}

const draining = ({ draining, since_s, calls, ends_calls_in_s }) =>
  draining && notice("fair",
    h("p", {}, h("strong", {}, t("drain.now", { time: duration(since_s), n: number(calls) }))),
    ends_calls_in_s !== null && h("p", {}, t("drain.deadline", { time: duration(ends_calls_in_s) })));

function tiles(status, networks, top) {
  const { kernel, user } = status.flows;
  const used = networks.reduce((sum, n) => sum + n.pairs_used, 0);
  const pairs = networks.reduce((sum, n) => sum + n.pairs, 0);
  const tile = (name, value, more) => h("div", {}, h("dt", {}, name), h("dd", {}, value, more && h("small", {}, more)));
  return h("dl", { class: "tiles" },
    tile(t("overview.calls"), number(status.calls.now), t("overview.answered", { n: number(status.calls.answered) })),
    tile(t("overview.registrations"), number(status.registrations)),
    tile(t("overview.bits"), bits(top.bits_per_s), t("overview.flows", { n: number(kernel + user) })),
    tile(t("overview.kernel"), percent(kernel, kernel + user), status.datapath.why ?? t("overview.kernel_of", { n: number(kernel), all: number(kernel + user) })),
    tile(t("overview.ports"), percent(used, pairs), meter(used, pairs, t("overview.pairs", { n: number(used), all: number(pairs) }))),
    tile(t("overview.uptime"), duration(status.uptime_s), t("overview.generation", { n: number(status.config.generation) })));
}

// Names of series as the daemon has them, one plot each, and what its axis reaches at least.
const PLOTS = [
  ["calls", 4, [["calls", number]]],
  ["media", 4000, [["bits_out_xdp", bits], ["bits_out_user", bits]]],
  ["packets", 4, [["packets_in_xdp", rate], ["packets_in_user", rate]]],
  ["drops", 4, [["drops", rate]]],
  ["loss", 10_000, [["loss_ppm", ppm]]],
  ["load", 10, [["cpu_percent", (value) => (value === null ? t("none") : `${number(value)} %`)]]],
];

function plots({ at, series }) {
  return PLOTS.map(([key, least, wanted]) =>
    plot(key, t(`plot.${key}`), at, wanted.map(([name, show]) => ({ name: t(`series.${name}`), values: series[name], show })), least));
}
