// Conferences: who is in them, who may speak and who waits, what is shown to whom.
import * as api from "./api.js";
import { attempt, order } from "./ask.js";
import { h } from "./dom.js";
import { facts, mono, pill, section, title } from "./part.js";
import { fresh, table } from "./table.js";
import { clock, number, t, term } from "./words.js";

export const every = 2000;

const state = fresh("uri");
const people = fresh("name");

export const load = ({ args: [cid] }, signal) =>
  api.get(cid ? `conferences/${encodeURIComponent(cid)}` : "conferences", signal);

export function draw(session) {
  const [cid] = session.args;
  if (!session.data) return title(t("view.conferences"));
  return cid ? one(session) : all(session);
}

const all = ({ data, draw }) => [
  title(t("view.conferences")),
  h("section", {}, table({
    name: t("view.conferences"), rows: data.conferences, state, changed: draw, empty: t("conferences.none"), key: (c) => c.cid,
    columns: [
      { key: "uri", title: t("conferences.uri"), of: (c) => h("a", { href: `#/conferences/${encodeURIComponent(c.cid)}` }, c.uri) },
      { key: "home", title: t("conferences.home"), low: true },
      { key: "participants", title: t("conferences.participants"), right: true, of: (c) => number(c.participants) },
      { key: "holders", title: t("conferences.speaking"), right: true, of: (c) => number(c.holders) },
      { key: "waiting", title: t("conferences.waiting"), right: true, of: (c) => number(c.waiting) },
      { key: "views", title: t("conferences.views"), right: true, of: (c) => number(c.views), low: true },
      { key: "began", title: t("conferences.began"), of: (c) => clock(c.began), low: true, class: "nowrap" },
      { key: "revision", title: t("conferences.revision"), of: (c) => mono(c.revision), low: true },
    ],
  })),
];

function one(session) {
  const { data } = session;
  const end = () => order({
    heading: t("conferences.end"), words: t("conferences.end_sure", { uri: data.uri }), yes: t("conferences.end"),
    run: () => api.ask("DELETE", `conferences/${encodeURIComponent(data.cid)}`), done: t("conferences.ended"), again: () => (location.hash = "#/conferences"),
  });
  return [
    title(t("conferences.title", { uri: data.uri }), h("div", { class: "buttons" }, h("button", { type: "button", class: "grave", onclick: end }, t("conferences.end")))),
    section(t("view.conferences"), facts([
      [t("conferences.cid"), mono(data.cid)], [t("conferences.home"), data.home],
      [t("conferences.began"), clock(data.began)], [t("conferences.revision"), mono(data.revision)],
    ])),
    roster(session),
    section(t("conferences.floor"), h("div", { class: "columns" }, data.floors.map((floor) => queue(session, floor)))),
    section(t("conferences.views"), data.views.length ? data.views.map((view) => seen(data, view)) : h("p", { class: "muted" }, t("conferences.no_views"))),
  ];
}

const name_of = ({ roster }, pid) => roster.find((p) => p.pid === pid)?.name ?? pid;

const media = (kinds) =>
  Object.entries(kinds).filter(([, way]) => way !== "inactive").map(([kind, way]) => `${term("kind", kind)}: ${term("way", way)}`).join(", ");

const roster = (session) =>
  section(t("conferences.roster"), table({
    name: t("conferences.roster"), rows: session.data.roster, state: people, changed: session.draw, empty: t("conferences.nobody"), key: (p) => p.pid, search: session.data.roster.length > 12,
    columns: [
      { key: "name", title: t("conferences.name") },
      { key: "role", title: t("conferences.role"), of: (p) => term("role", p.role) },
      { key: "state", title: t("conferences.state"), of: (p) => pill("member", p.state, p.state === "lost" ? "fair" : "good") },
      { key: "media", title: t("conferences.media"), by: (p) => media(p.media), of: (p) => media(p.media), low: true },
      { key: "by", title: t("conferences.by"), by: (p) => p.by.join(), of: (p) => p.by.join(", "), low: true },
      { key: "since", title: t("conferences.since"), of: (p) => clock(p.since), low: true, class: "nowrap" },
      { key: "pid", title: t("conferences.pid"), of: (p) => mono(p.pid), low: true },
    ],
  }));

// Who speaks and who waits. A chair decides; without one nobody can in a chair's name.
function queue(session, floor) {
  const { data } = session;
  const chair = data.roster.find((p) => p.role === "chair");
  const path = `conferences/${encodeURIComponent(data.cid)}/floor/${encodeURIComponent(floor.fid)}/requests/`;
  const decide = (request, action) => attempt(
    () => api.ask("POST", `${path}${encodeURIComponent(request.request_id)}/decision`, { body: JSON.stringify({ pid: chair.pid, action }) }),
    t("conferences.decided"), session.again);
  const button = (request, action) =>
    chair && h("button", { type: "button", class: "small", onclick: () => decide(request, action), "aria-label": `${t(`decide.${action}`)}: ${name_of(data, request.pid)}` }, t(`decide.${action}`));
  const row = (actions) => (request) =>
    h("li", { "data-key": request.request_id }, h("strong", {}, name_of(data, request.pid)), " ",
      h("span", { class: "muted" }, clock(request.since), request.text && ` “${request.text}”`), " ",
      h("span", { class: "buttons" }, actions.map((action) => button(request, action))));
  const none = (words) => h("p", { class: "muted" }, words);
  return h("article", { class: "answer", "data-key": floor.fid },
    h("h3", {}, floor.fid, " ", h("span", { class: "muted" }, t("conferences.policy", { policy: term("policy", floor.policy), n: number(floor.max_holders) }))),
    h("p", {}, t("conferences.holders")), floor.holders.length ? h("ul", { class: "people" }, floor.holders.map(row(["revoke"]))) : none(t("conferences.free")),
    h("p", {}, t("conferences.queue")), floor.queue.length ? h("ol", { class: "people" }, floor.queue.map(row(["grant", "deny"]))) : none(t("conferences.no_queue")));
}

const seen = (data, view) =>
  h("article", { class: "answer", "data-key": view.vid }, h("h3", {}, view.vid, " ", h("code", { class: "muted" }, `${view.epoch}.${view.rev}`)), facts([
    [t("conferences.layout"), view.layout], [t("conferences.focus"), view.focus && name_of(data, view.focus)], [t("conferences.zoom"), number(view.zoom, 2)],
    [t("conferences.rect"), mono(view.rect.join(" "))], [t("conferences.set_by"), view.by && name_of(data, view.by)],
  ]));
