// Which rung every interface stands on and why, what became of packets, how full the maps are.
import * as api from "./api.js";
import { h } from "./dom.js";
import { facts, meter, mono, notice, pill, section, title } from "./part.js";
import * as past from "./past.js";
import { plot } from "./plot.js";
import { fresh, table } from "./table.js";
import { bytes, duration, number, rate, short, t, term } from "./words.js";

export const every = 2000;

const interfaces = fresh("name");
const verdicts = fresh("per_s", true);
const maps = fresh("name");

export async function load(_, signal) {
  const [bpf, history] = await Promise.all([api.get("bpf", signal), past.load(signal)]);
  return { ...bpf, history };
}

export function draw(session) {
  const { data } = session;
  if (!data) return title(t("view.datapath"));
  return [
    title(t("view.datapath"), pill("datapath", data.state)),
    data.why && notice("fair", h("p", {}, h("strong", {}, t("datapath.off"))), h("p", {}, data.why)),
    data.refused && notice("fair", h("p", {}, data.refused)),
    section(t("datapath.interfaces"), rungs(session)),
    h("div", { class: "plots" }, plots(data.history)),
    section(t("datapath.verdicts"), h("p", { class: "muted" }, t("datapath.verdicts_why")), reasons(session)),
    section(t("datapath.maps"), filled(session)),
    data.program && section(t("datapath.program"), facts([
      [t("datapath.id"), number(data.program.id)], [t("datapath.tag"), mono(data.program.tag)],
      [t("datapath.loaded"), duration(data.program.loaded_s)],
      [t("datapath.instructions"), number(data.program.instructions)], [t("datapath.verified"), number(data.program.verified_instructions)],
      [t("datapath.machine"), bytes(data.program.machine_bytes)], [t("datapath.abi"), number(data.abi)], [t("datapath.pins"), mono(data.pin_dir)],
    ])),
  ];
}

const PLOTS = [["packets", ["packets_in_xdp", "packets_in_user"]], ["drops", ["drops"]]];

const plots = ({ at, series }) =>
  PLOTS.map(([key, names]) => plot(key, t(`plot.${key}`), at, names.map((name) => ({ name: t(`series.${name}`), values: series[name], show: rate })), 4));

const small = (rows) => rows.length > 12;

const rungs = ({ data, draw }) => table({
  name: t("datapath.interfaces"), rows: data.interfaces, state: interfaces, changed: draw, empty: t("datapath.no_interfaces"), key: (i) => i.name, search: small(data.interfaces),
  columns: [
    { key: "name", title: t("datapath.name") },
    { key: "rung", title: t("datapath.rung"), of: (i) => pill("rung", i.rung), class: "nowrap" },
    { key: "why", title: t("datapath.why"), class: "wide" },
    { key: "rx_dropped", title: t("datapath.rx_dropped"), right: true, of: (i) => number(i.rx_dropped) },
    { key: "rx_errors", title: t("datapath.rx_errors"), right: true, of: (i) => number(i.rx_errors), low: true },
    { key: "tx_dropped", title: t("datapath.tx_dropped"), right: true, of: (i) => number(i.tx_dropped), low: true },
    { key: "tx_errors", title: t("datapath.tx_errors"), right: true, of: (i) => number(i.tx_errors), low: true },
  ],
});

const reasons = ({ data, draw }) => table({
  name: t("datapath.verdicts"), rows: data.verdicts, state: verdicts, changed: draw, empty: t("datapath.no_verdicts"), key: (v) => v.reason, idle: (v) => v.packets === 0, search: false,
  columns: [
    { key: "reason", title: t("datapath.reason"), of: (v) => h("code", {}, v.reason), class: "nowrap" },
    { key: "means", title: t("datapath.means"), fixed: true, of: (v) => term("reason", v.reason), low: true },
    { key: "per_s", title: t("datapath.per_s"), right: true, of: (v) => short(v.per_s) },
    { key: "packets", title: t("datapath.packets"), right: true, of: (v) => number(v.packets) },
  ],
});

const filled = ({ data, draw }) => table({
  name: t("datapath.maps"), rows: data.maps, state: maps, changed: draw, empty: t("datapath.no_maps"), key: (m) => m.name, search: false,
  columns: [
    { key: "name", title: t("datapath.map"), of: (m) => h("code", {}, m.name) },
    { key: "kind", title: t("datapath.kind"), low: true },
    { key: "fill", title: t("datapath.fill"), by: (m) => (m.used === null ? null : m.used / m.capacity), of: (m) =>
      m.used === null ? t("datapath.capacity", { all: number(m.capacity) }) : meter(m.used, m.capacity, t("datapath.used_of", { n: number(m.used), all: number(m.capacity) })) },
    { key: "bytes", title: t("datapath.memory"), right: true, of: (m) => bytes(m.bytes) },
  ],
});
