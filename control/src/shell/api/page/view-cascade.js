// Other servers: the SIP peers, and the cascade above and below if there is one.
import * as api from "./api.js";
import { attempt } from "./ask.js";
import { h } from "./dom.js";
import { facts, mono, pill, section, title } from "./part.js";
import { plot } from "./plot.js";
import { fresh, table } from "./table.js";
import { duration, ms, number, t, term } from "./words.js";

export const every = 3000;

const state = fresh("name");

// Round trips and time-outs since the page was opened, by link: the daemon keeps the last few only.
const past = new Map();
const KEPT = 300;

// How the table of each link is sorted.
const order_of = new Map();

export async function load(_, signal) {
  const [{ peers }, { links }] = await Promise.all([api.get("peers", signal), api.get("links", signal)]);
  const now = Math.round(Date.now() / 1000);
  for (const link of links.filter((link) => link.rtt_ms !== null)) remember(name_of(link), now, link);
  return { peers, links };
}

const name_of = (link) => link.server ?? link.url ?? "";

function remember(key, now, { rtt_ms, timeout_ms }) {
  const of = past.get(key) ?? { at: [], rtt: [], timeout: [] };
  past.set(key, of);
  if (of.at.at(-1) === now) return;
  for (const [list, value] of [[of.at, now], [of.rtt, rtt_ms], [of.timeout, timeout_ms]]) {
    list.push(value);
    if (list.length > KEPT) list.shift();
  }
}

export function draw(session) {
  if (!session.data) return title(t("view.cascade"));
  const { peers, links } = session.data;
  const probe = (name) => attempt(() => api.ask("POST", `peers/${encodeURIComponent(name)}/probe`), t("cascade.probed", { name }), session.again);
  const button = (name) => h("button", { type: "button", class: "small", onclick: () => probe(name), "aria-label": t("cascade.probe_of", { name }) }, t("cascade.probe"));
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
        { key: "probe", title: "", fixed: true, right: true, of: (p) => button(p.name) },
      ],
    })),
    links.length === 0 && section(t("cascade.links"), h("p", { class: "muted" }, t("cascade.no_links"))),
    links.map((link) => one(link, button, session)),
    past.size > 0 && h("div", { class: "plots" }, links.map(name_of).filter((name) => past.has(name)).map(way)),
  ];
}

const BREAKER = { closed: "good", "half-open": "fair", open: "poor" };

// One server above or below. The way to it is measured by whoever dials: the lower one.
function one(link, button, session) {
  const name = name_of(link);
  const heading = h("span", {}, t("cascade.link"), " ", name, " ", h("span", { class: "muted" }, term("side", link.side)), " ", pill("peer", link.state));
  return h("section", { "data-key": name, "data-name": name },
    h("h2", {}, heading),
    link.why && h("p", {}, link.why),
    facts([
      [t("cascade.address"), link.url && mono(link.url)],
      [link.state === "up" ? t("cascade.up_for") : t("cascade.down_for"), duration(link.since_s)],
      [t("cascade.heard"), duration(link.heard_s)],
      [t("cascade.rtt"), link.rtt_ms !== null && t("cascade.rtt_varies", { rtt: ms(link.rtt_ms), by: ms(link.variation_ms) })],
      [t("cascade.timeout"), link.timeout_ms !== null && ms(link.timeout_ms)],
      [t("cascade.breaker"), link.breaker && pill("breaker", link.breaker, BREAKER[link.breaker] ?? "plain")],
      [t("cascade.retries_left"), link.retries_left !== null && number(link.retries_left)],
      [t("cascade.frames"), t("cascade.frames_of", { sent: number(link.sent), received: number(link.received) })],
      [t("cascade.queued"), t("cascade.queued_of", { queued: number(link.queued), flight: number(link.in_flight), lost: number(link.overflowed) })],
    ]),
    link.requests && asked(link.requests),
    link.conferences > 0 && crossing(link, name, session),
    link.side === "upper" && h("div", { class: "buttons" }, button(name)));
}

// Conferences that go over a link: where they are at home, and who shares them beyond it.
function crossing({ crossing: rows, conferences }, name, session) {
  const sorted = order_of.get(name) ?? fresh("uri");
  order_of.set(name, sorted);
  const servers = ({ servers }) => servers.map((s) => h("span", { class: "nowrap" }, s.server, " ", pill("share", s.state), " "));
  return h("div", {}, h("h3", {}, t("cascade.crossing")),
    conferences > rows.length && h("p", { class: "muted" }, t("cascade.first", { n: number(rows.length), of: number(conferences) })),
    table({
      name: t("cascade.crossing_of", { name }), rows, state: sorted, changed: session.draw, empty: "", key: (c) => c.cid, search: rows.length > 12,
      columns: [
        { key: "uri", title: t("conferences.uri"), of: (c) => h("a", { href: `#/conferences/${encodeURIComponent(c.cid)}` }, c.uri ?? c.cid) },
        { key: "home", title: t("conferences.home") },
        { key: "role", title: t("cascade.role"), by: (c) => term("share", c.role), of: (c) => term("share", c.role) },
        { key: "servers", title: t("cascade.servers"), by: (c) => c.servers.map((s) => s.server).join(), of: servers },
      ],
    }));
}

const OUTCOMES = ["answered", "unanswered", "broken", "refused", "abandoned", "retries", "timeouts", "unaffordable", "breaker_opened"];

const asked = (requests) =>
  h("div", { class: "table" }, h("h3", {}, t("cascade.requests")), facts(OUTCOMES.map((name) => [t(`requests.${name}`), number(requests[name])])));

function way(name) {
  const { at, rtt, timeout } = past.get(name);
  const series = [{ name: t("cascade.rtt"), values: [...rtt], show: ms }, { name: t("cascade.timeout"), values: [...timeout], show: ms }];
  return plot(`link-${name}`, t("plot.way", { name }), [...at], series, 10);
}
