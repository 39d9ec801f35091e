// Conferences: who is in them, who may speak and who waits, what is shown to whom.
import * as api from "./api.js";
import { h } from "./dom.js";
import { mono, pill, section, title } from "./part.js";
import { fresh, table } from "./table.js";
import { clock, number, t } from "./words.js";

export const every = 2000;

const state = fresh("cid");
const people = fresh("pid");

export async function load({ args: [cid] }, signal) {
  if (!cid) return api.get("conferences", signal);
  const path = `conferences/${encodeURIComponent(cid)}`;
  const [roster, floor, views] = await Promise.all(["roster", "floor", "views"].map((part) => api.get(`${path}/${part}`, signal)));
  return { roster, floor, views };
}

export function draw(session) {
  const [cid] = session.args;
  if (!session.data) return title(cid ?? t("view.conferences"));
  if (cid) return [title(t("conferences.one"), h("code", {}, cid)), roster(session), floors(session.data.floor), views(session.data.views)];
  const rows = session.data.conferences ?? [];
  return [
    title(t("view.conferences")),
    h("section", {}, table({
      name: t("view.conferences"), rows, state, changed: session.draw, empty: t("conferences.none"), key: (c) => c.cid,
      columns: [
        { key: "cid", title: t("conferences.cid"), of: (c) => h("a", { href: `#/conferences/${encodeURIComponent(c.cid)}` }, c.cid) },
        { key: "home", title: t("conferences.home"), low: true },
        { key: "members", title: t("conferences.members"), right: true, of: (c) => number(c.members) },
        { key: "revision", title: t("conferences.revision"), of: revision, low: true },
      ],
    })),
  ];
}

const revision = (state) => (state.epoch === undefined ? t("none") : h("code", {}, `${state.epoch}.${state.rev}`));

function roster(session) {
  const rows = session.data.roster.members ?? session.data.roster.roster ?? [];
  return section(t("conferences.roster"), table({
    name: t("conferences.roster"), rows, state: people, changed: session.draw, empty: t("conferences.nobody"), key: (p) => p.pid,
    columns: [
      { key: "pid", title: t("conferences.pid"), of: (p) => mono(p.pid) },
      { key: "name", title: t("conferences.name") },
      { key: "state", title: t("conferences.state"), of: (p) => pill("member", p.state) },
      { key: "role", title: t("conferences.role"), low: true },
      { key: "sid", title: t("conferences.server"), low: true },
    ],
  }));
}

const who = (request) => h("li", {}, h("strong", {}, request.pid), " ", h("span", { class: "muted" }, request.request_id, request.since && ` ${clock(request.since)}`));

const floors = (document) =>
  section(t("conferences.floor"), (document.floors ?? []).map((floor) =>
    h("article", { class: "answer", "data-key": floor.fid }, h("h3", {}, floor.fid, " ", revision(floor)),
      h("p", {}, t("conferences.holders")), floor.holders?.length ? h("ul", {}, floor.holders.map(who)) : h("p", { class: "muted" }, t("conferences.free")),
      h("p", {}, t("conferences.queue")), floor.queue?.length ? h("ol", {}, floor.queue.map(who)) : h("p", { class: "muted" }, t("conferences.no_queue")))));

const views = (document) =>
  section(t("conferences.views"), (document.views ?? []).map((view) =>
    h("article", { class: "answer", "data-key": view.vid }, h("h3", {}, view.vid, " ", revision(view)), h("pre", {}, JSON.stringify(view.target ?? view, null, 1)))));
