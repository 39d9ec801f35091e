// Other servers: the SIP peers, and the cascade above and below if there is one.
import * as api from "./api.js";
import { attempt } from "./ask.js";
import { h } from "./dom.js";
import { mono, pill, section, title } from "./part.js";
import { fresh, table } from "./table.js";
import { duration, ms, number, t } from "./words.js";

export const every = 3000;

const state = fresh("name");
const links = fresh("name");

export async function load(_, signal) {
  const peers = await api.get("peers", signal);
  const cascade = await api.get("cascade", signal).catch((problem) => {
    if (problem instanceof api.Problem && problem.status === 404) return null;
    throw problem;
  });
  return { ...peers, cascade };
}

export function draw(session) {
  if (!session.data) return title(t("view.cascade"));
  const { peers, cascade } = session.data;
  const probe = (name) => attempt(() => api.ask("POST", `peers/${encodeURIComponent(name)}/probe`), t("cascade.probed", { name }), session.again);
  return [
    title(t("view.cascade")),
    section(t("cascade.peers"), table({
      name: t("cascade.peers"), rows: peers, state, changed: session.draw, empty: t("cascade.no_peers"), key: (p) => `${p.name} ${p.address}`, search: peers.length > 12,
      columns: [
        { key: "name", title: t("cascade.name") },
        { key: "address", title: t("cascade.address"), of: (p) => mono(p.address), class: "nowrap" },
        { key: "transport", title: t("cascade.transport"), low: true },
        { key: "state", title: t("cascade.state"), of: (p) => pill("peer", p.state, p.state === "away" ? "fair" : undefined), class: "nowrap" },
        { key: "rtt_ms", title: t("cascade.rtt"), right: true, of: (p) => ms(p.rtt_ms) },
        { key: "failures", title: t("cascade.failures"), right: true, of: (p) => number(p.failures), low: true },
        { key: "answered_s", title: t("cascade.answered"), right: true, of: (p) => duration(p.answered_s), low: true },
        { key: "why", title: t("cascade.why"), low: true },
        { key: "probe", title: "", fixed: true, right: true, of: (p) => h("button", { type: "button", class: "small", onclick: () => probe(p.name) }, t("cascade.probe")) },
      ],
    })),
    section(t("cascade.links"), cascade ? linked(session, cascade.links ?? []) : h("p", { class: "muted" }, t("missing.feature"))),
  ];
}

const linked = (session, rows) => table({
  name: t("cascade.links"), rows, state: links, changed: session.draw, empty: t("cascade.no_links"), key: (l) => l.name ?? l.sid, search: false,
  columns: [
    { key: "name", title: t("cascade.name"), of: (l) => l.name ?? l.sid },
    { key: "state", title: t("cascade.state"), of: (l) => pill("peer", l.state) },
    { key: "rtt_ms", title: t("cascade.rtt"), right: true, of: (l) => ms(l.rtt_ms) },
    { key: "timeout_ms", title: t("cascade.timeout"), right: true, of: (l) => ms(l.timeout_ms) },
    { key: "breaker", title: t("cascade.breaker") },
  ],
});
