// The frame: which view is shown, asked for again how often, and the bar above it.
import * as api from "./api.js";
import * as ask from "./ask.js";
import { h, show } from "./dom.js";
import { notice, pill } from "./part.js";
import * as plot from "./plot.js";
import { choose, clock, current, duration, languages, number, speak, t } from "./words.js";
import * as overview from "./view-overview.js";
import * as calls from "./view-calls.js";
import * as call from "./view-call.js";
import * as registrations from "./view-registrations.js";
import * as conferences from "./view-conferences.js";
import * as networks from "./view-networks.js";
import * as datapath from "./view-datapath.js";
import * as cascade from "./view-cascade.js";
import * as configuration from "./view-configuration.js";
import * as doctor from "./view-doctor.js";
import * as audit from "./view-audit.js";
import * as events from "./view-events.js";

// A view: `every` ms `load(session, signal)` asks the API, and `draw(session)` shows
// `session.data`. Those without `title` are reached from others.
const VIEWS = {
  overview: { ...overview, group: "now" },
  calls: { ...calls, group: "now" },
  call: { ...call, under: "calls" },
  registrations: { ...registrations, group: "now" },
  conferences: { ...conferences, group: "now" },
  events: { ...events, group: "now" },
  networks: { ...networks, group: "paths" },
  datapath: { ...datapath, group: "paths" },
  cascade: { ...cascade, group: "paths" },
  doctor: { ...doctor, group: "care" },
  configuration: { ...configuration, group: "care" },
  audit: { ...audit, group: "care" },
};
const STATUS_MS = 2000;
const SCHEME = "towpath.scheme";

const at = (id) => document.getElementById(id);
let status = null;
let failed = null;
let paused = false;
let session = null;

async function start() {
  scheme(localStorage.getItem(SCHEME) ?? "auto");
  await speak();
  api.ask_by(ask.token);
  window.addEventListener("hashchange", () => go(true));
  document.addEventListener("visibilitychange", () => !document.hidden && session?.again());
  frame();
  go(false);
  watch();
}

// The state of the node, whatever is shown.
async function watch() {
  for (;;) {
    if (!document.hidden && (!paused || status === null)) {
      try {
        status = await api.get("status");
        failed = null;
      } catch (problem) {
        failed = problem;
      }
      bar();
      views();
    }
    await new Promise((resolve) => setTimeout(resolve, STATUS_MS));
  }
}

function frame() {
  show(at("skip"), t("skip"));
  // What stands behind the # names a view.
  at("skip").onclick = (event) => {
    event.preventDefault();
    at("main").focus();
  };
  at("views").setAttribute("aria-label", t("nav.name"));
  bar();
  views();
}

function bar() {
  const state = failed ? pill("state", "unreachable", "poor") : status && pill("state", status.state);
  show(at("top"),
    h("a", { class: "brand", href: "#/overview" }, h("img", { src: "/page/icon.svg", alt: "" }), "Towpath"),
    h("div", { class: "node", role: "status" }, state, status && h("strong", {}, status.node),
      status && h("span", { class: "muted" }, t("bar.version", { version: status.version, time: duration(status.uptime_s) }))),
    h("div", { class: "controls" },
      h("button", { type: "button", "aria-pressed": String(paused), onclick: pause }, paused ? t("bar.resume") : t("bar.pause")),
      chooser(t("bar.language"), languages(), current(), language),
      chooser(t("bar.scheme"), ["auto", "light", "dark"].map((s) => [s, t(`scheme.${s}`)]), localStorage.getItem(SCHEME) ?? "auto", scheme),
      api.has_token() && h("button", { type: "button", onclick: leave }, t("bar.leave"))));
}

const chooser = (name, options, value, take) =>
  h("label", {}, h("span", { class: "quiet" }, name),
    h("select", { onchange: (event) => take(event.target.value) },
      options.map(([key, words]) => h("option", { value: key, selected: key === value || null }, words))));

function pause() {
  paused = !paused;
  bar();
  if (!paused) session?.again();
}

async function language(wanted) {
  await choose(wanted);
  frame();
  session?.draw();
}

function scheme(wanted) {
  localStorage.setItem(SCHEME, wanted);
  if (wanted === "auto") delete document.documentElement.dataset.scheme;
  else document.documentElement.dataset.scheme = wanted;
  plot.recolour();
}

function leave() {
  api.forget();
  location.reload();
}

function views() {
  const shown = session?.view.under ?? session?.name;
  const counts = status ? { calls: status.calls.now, registrations: status.registrations } : {};
  const items = [];
  let group = null;
  for (const [name, view] of Object.entries(VIEWS).filter(([, view]) => view.group)) {
    if (view.group !== group) items.push(h("li", { class: "group", "aria-hidden": "true" }, t(`group.${view.group}`)));
    group = view.group;
    items.push(h("li", {}, h("a", { href: `#/${name}`, "aria-current": name === shown ? "page" : null }, t(`view.${name}`),
      counts[name] !== undefined && h("span", { class: "count" }, number(counts[name])))));
  }
  show(at("views"), h("ul", {}, items));
}

// Shows what the address names.
function go(moved) {
  session?.end();
  plot.forget();
  const [name, ...rest] = location.hash.replace(/^#\/?/, "").split("/").map(decodeURIComponent);
  const known = VIEWS[name] ? name : "overview";
  session = begin(known, VIEWS[known], rest);
  show(at("main"));
  document.title = `${t(`view.${known}`)} · Towpath`;
  views();
  // On a narrow screen the views are a row that scrolls.
  at("views").querySelector("[aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" });
  session.draw();
  session.again();
  if (moved) at("main").focus();
}

function begin(name, view, rest) {
  const abort = new AbortController();
  let timer;
  let asking = false;
  const session = { name, view, args: rest, data: null, problem: null, seen: null, status: () => status };
  session.draw = () => {
    if (abort.signal.aborted) return;
    at("main").setAttribute("aria-busy", String(!session.data && !session.problem));
    show(at("main"), session.data || !session.problem ? view.draw(session) : missing(session));
    if (session.data && session.problem) at("main").prepend(stale(session));
    plot.settle();
  };
  session.again = async () => {
    clearTimeout(timer);
    if (asking || abort.signal.aborted) return;
    asking = true;
    try {
      session.data = await view.load(session, abort.signal);
      session.problem = null;
      session.seen = new Date();
    } catch (problem) {
      session.problem = problem;
    }
    asking = false;
    if (abort.signal.aborted) return;
    session.draw();
    if (view.every && !paused) timer = setTimeout(session.again, document.hidden ? 30000 : view.every);
  };
  session.end = () => {
    abort.abort();
    clearTimeout(timer);
  };
  return session;
}

// What an answer that is a refusal means: most of all that this version has no such thing.
function missing({ name, problem }) {
  const absent = problem instanceof api.Problem && problem.status === 404 && problem.document.code === "not_found";
  return [
    h("div", { class: "title" }, h("h1", {}, t(`view.${name}`))),
    absent ? notice("plain", h("p", {}, t("missing.feature"))) : notice("poor", h("p", {}, ask.why(problem))),
  ];
}

const stale = ({ problem, seen }) =>
  notice("fair", h("p", {}, t("missing.stale", { time: clock(seen), why: ask.why(problem) })));

start();
