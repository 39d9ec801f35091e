// The configuration: every value with where it comes from, another one tried and applied, and those
// that were.
import * as api from "./api.js";
import { order, tell, why } from "./ask.js";
import { h } from "./dom.js";
import { facts, mono, notice, section, title } from "./part.js";
import { fresh, table } from "./table.js";
import { bytes, clock, number, t, term } from "./words.js";

export const every = 5000;

const values = fresh("key");
const changes = fresh("key");
const generations = fresh("generation", true);

export async function load(session, signal) {
  const [{ document: config, etag }, history] = await Promise.all([api.ask("GET", "config", { signal }), api.get("config/history", signal)]);
  return { config, etag, generations: history.generations };
}

export function draw(session) {
  if (!session.data) return title(t("view.configuration"));
  const { config } = session.data;
  return [
    title(t("view.configuration"), h("span", { class: "muted" }, t("configuration.generation", { n: number(config.generation) }))),
    config.refused && notice("poor", h("p", {}, h("strong", {}, t("configuration.refused"))), h("p", {}, config.refused.detail), config.refused.problems.map(problem)),
    config.not_stored && notice("fair", h("p", {}, config.not_stored)),
    section(t("configuration.running"), facts([
      [t("configuration.since"), clock(config.at)], [t("configuration.source"), term("source", config.source)], [t("configuration.who"), config.who],
      [t("configuration.file"), mono(config.file)], [t("configuration.hash"), mono(config.hash?.slice(0, 16))],
      [t("configuration.after_restart"), term("after_restart", config.after_restart)],
    ])),
    change(session),
    section(t("configuration.history"), history(session)),
    section(t("configuration.values"), table({
      name: t("configuration.values"), rows: config.values, state: values, changed: session.draw, empty: t("none"), key: (v) => v.key,
      columns: [
        { key: "key", title: t("configuration.key"), of: (v) => h("code", {}, v.key) },
        { key: "value", title: t("configuration.value"), by: (v) => written(v.value), of: (v) => h("code", {}, written(v.value)) },
        { key: "takes", title: t("configuration.takes"), of: (v) => term("takes", v.takes), low: true },
        { key: "origin", title: t("configuration.origin"), of: (v) => v.origin ?? t("configuration.default"), low: true },
      ],
    })),
  ];
}

const written = (value) => (value === null ? t("none") : typeof value === "string" ? value : JSON.stringify(value));

function change(session) {
  const { plan: found, text } = session;
  const typed = (event) => {
    session.text = event.target.value;
    if (session.plan) {
      session.plan = null;
      session.draw();
    }
  };
  const dry = (event) => {
    event.preventDefault();
    session.text = event.target.text.value;
    return plan(session);
  };
  const apply = () => order({
    heading: t("configuration.apply"), words: t("configuration.apply_sure", { n: number(found.changes.length + found.more) }), yes: t("configuration.apply"),
    run: () => api.ask("PUT", "config", { body: session.text, headers: { "If-Match": session.base } }),
    done: t("configuration.applied"),
    again: () => {
      session.plan = null;
      return session.again();
    },
  });
  const may = found && !found.refused && !found.unchanged && found.problems.length === 0;
  return section(t("configuration.change"),
    h("form", { class: "table", onsubmit: dry },
      h("label", { for: "text" }, t("configuration.text")),
      h("textarea", { id: "text", name: "text", spellcheck: "false", required: true, oninput: typed, value: text ?? "", placeholder: "[node]" }),
      h("div", { class: "buttons" },
        h("button", { type: "submit" }, t("configuration.plan")),
        h("button", { type: "button", class: "main", onclick: apply, disabled: !may || null }, t("configuration.apply")),
        h("button", { type: "button", onclick: () => fill(session, session.data.config.generation) }, t("configuration.load")))),
    h("div", { "aria-live": "polite", class: "table" }, found && planned(session, found)));
}

// A refusal is a plan with problems.
const refused = (problem) => ({ refused: why(problem), problems: problem.document?.problems ?? [], changes: problem.document?.changes ?? [], more: 0 });

// Puts a generation's text into the field. Secrets are left out of it; where the mark of one stands,
// the daemon keeps the secret it has.
async function fill(session, generation) {
  try {
    const { text } = await api.get(`config/history/${generation}`);
    session.text = text;
    session.plan = null;
    const place = document.getElementById("text");
    place.value = text;
    place.focus();
    session.draw();
    return true;
  } catch (problem) {
    tell(why(problem), "poor");
    return false;
  }
}

async function plan(session) {
  session.base = session.data.etag;
  try {
    session.plan = (await api.ask("POST", "config/plan", { body: session.text })).document;
  } catch (problem) {
    session.plan = refused(problem);
  }
  session.draw();
}

// What would change if that generation came back.
async function compare(session, generation) {
  if (await fill(session, generation)) await plan(session);
}

function planned(session, plan) {
  return [
    plan.refused && notice("poor", h("p", {}, plan.refused)),
    plan.unchanged && notice("plain", h("p", {}, t("configuration.unchanged"))),
    plan.problems.map(problem),
    !plan.refused && !plan.unchanged && plan.problems.length === 0 && notice("good", h("p", {}, t("configuration.ready", { takes: term("takes", plan.takes) }))),
    plan.changes.length > 0 && table({
      name: t("configuration.changes"), rows: plan.changes, state: changes, changed: session.draw, empty: t("none"), key: (c) => c.key, search: plan.changes.length > 12,
      columns: [
        { key: "key", title: t("configuration.key"), of: (c) => h("code", {}, c.key) },
        { key: "old", title: t("configuration.old"), of: (c) => h("code", {}, written(c.old)) },
        { key: "new", title: t("configuration.new"), of: (c) => h("code", {}, written(c.new)) },
        { key: "takes", title: t("configuration.takes"), of: (c) => term("takes", c.takes) },
        { key: "calls", title: t("configuration.calls"), right: true, of: (c) => number(c.calls) },
      ],
    }),
    plan.more > 0 && h("p", { class: "muted" }, t("configuration.more", { n: number(plan.more) })),
  ];
}

const problem = (p) =>
  notice("poor", h("p", {}, h("strong", {}, p.message)), h("p", {}, h("code", {}, `${p.file}:${p.line}:${p.column} ${p.key}`)),
    p.excerpt && h("pre", {}, p.excerpt), p.help && h("p", {}, p.help));

function history(session) {
  const back = (g) => order({
    heading: t("configuration.rollback"), words: t("configuration.rollback_sure", { n: g.generation }), yes: t("configuration.rollback"),
    run: () => api.ask("POST", `config/rollback/${g.generation}`, { headers: { "If-Match": session.data.etag } }),
    done: t("configuration.rolled_back", { n: g.generation }), again: session.again,
  });
  return table({
    name: t("configuration.history"), rows: session.data.generations, state: generations, changed: session.draw, empty: t("none"), key: (g) => g.generation, search: false,
    columns: [
      { key: "generation", title: t("configuration.number"), right: true, of: (g) => number(g.generation) },
      { key: "at", title: t("configuration.at"), of: (g) => clock(g.at), class: "nowrap" },
      { key: "source", title: t("configuration.source"), of: (g) => term("source", g.source) },
      { key: "who", title: t("configuration.who"), low: true },
      { key: "bytes", title: t("configuration.size"), right: true, of: (g) => bytes(g.bytes), low: true },
      { key: "hash", title: t("configuration.hash"), of: (g) => h("code", {}, g.hash.slice(0, 12)), low: true },
      { key: "back", title: "", fixed: true, right: true, of: (g) =>
        g.running ? h("strong", {}, t("configuration.is_running")) : h("div", { class: "buttons" },
          h("button", { type: "button", class: "small", onclick: () => compare(session, g.generation), "aria-label": t("configuration.compare_with", { n: g.generation }) }, t("configuration.compare")),
          h("button", { type: "button", class: "small", onclick: () => back(g), "aria-label": t("configuration.rollback_to", { n: g.generation }) }, t("configuration.rollback"))) },
    ],
  });
}
