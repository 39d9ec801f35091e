// Other servers: the SIP peers, and the cascade above and below if there is one.
import * as api from "./api.js";
import { attempt } from "./ask.js";
import { h } from "./dom.js";
import { mono, pill, section, title } from "./part.js";
import { fresh, table } from "./table.js";
import { duration, ms, number, t, term } from "./words.js";

export const every = 3000;

const state = fresh("name");
const links = fresh("name");

export const load = (_, signal) => api.get("peers", signal);

export function draw(session) {
  if (!session.data) return title(t("view.cascade"));
  const { peers, links: cascade } = session.data;
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
    section(t("cascade.links"), cascade ? linked(session, cascade) : h("p", { class: "muted" }, t("missing.feature"))),
  ];
}

const linked = (session, rows) => table({
  name: t("cascade.links"), rows, state: links, changed: session.draw, empty: t("cascade.no_links"), key: (l) => `${l.side} ${l.server ?? l.url}`, search: false,
  columns: [
    { key: "server", title: t("cascade.name"), of: (l) => l.server ?? mono(l.url) },
    { key: "side", title: t("cascade.side"), of: (l) => term("side", l.side) },
    { key: "state", title: t("cascade.state"), of: (l) => [pill("peer", l.state), l.why && h("p", { class: "muted" }, l.why)] },
    { key: "rtt_ms", title: t("cascade.rtt"), right: true, of: (l) => ms(l.rtt_ms) },
    { key: "timeout_ms", title: t("cascade.timeout"), right: true, of: (l) => ms(l.timeout_ms) },
    { key: "breaker", title: t("cascade.breaker"), of: (l) => l.breaker && term("breaker", l.breaker), low: true },
    { key: "queued", title: t("cascade.queued"), right: true, of: (l) => number(l.queued), low: true },
    { key: "heard_s", title: t("cascade.answered"), right: true, of: (l) => duration(l.heard_s), low: true },
  ],
});
