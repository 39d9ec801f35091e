// Who can be called, where they really are, and who is not heard.
import * as api from "./api.js";
import { attempt, order } from "./ask.js";
import { h } from "./dom.js";
import { facts, mono, pill, section, sentences, steps, title } from "./part.js";
import { fresh, table } from "./table.js";
import { duration, number, t } from "./words.js";

export const every = 5000;

const state = fresh("aor");
const banned = fresh("age_s");

export async function load({ args: [aor] }, signal) {
  if (aor) return { explained: await api.get(`registrations/${encodeURIComponent(aor)}/explain`, signal) };
  const [registrations, bans] = await Promise.all([api.get("registrations", signal), api.get("bans", signal)]);
  return { ...registrations, ...bans };
}

export function draw(session) {
  const { data } = session;
  if (!data) return title(t("view.registrations"));
  if (data.explained) return one(session);
  const rows = data.registrations;
  return [
    title(t("view.registrations")),
    h("section", {}, table({
      name: t("view.registrations"), columns: columns(session), rows, state, changed: session.draw,
      empty: t("registrations.none"), key: (r) => `${r.aor} ${r.contact}`,
    })),
    bans(session),
  ];
}

const columns = (session) => [
  { key: "aor", title: t("registrations.aor"), of: (r) => h("a", { href: `#/registrations/${encodeURIComponent(r.aor)}` }, r.aor) },
  { key: "network", title: t("registrations.network") },
  { key: "seen", title: t("registrations.seen"), of: (r) => mono(r.seen), class: "nowrap" },
  { key: "claimed", title: t("registrations.claimed"), of: (r) => mono(r.claimed), low: true, class: "nowrap" },
  { key: "nat", title: t("registrations.nat"), by: (r) => (r.nat ? 1 : 0), of: (r) => h("span", { title: r.nat_why }, r.nat ? t("yes") : t("no")), low: true },
  { key: "told", title: t("registrations.told"), of: (r) => mono(r.told), low: true, class: "nowrap" },
  { key: "transport", title: t("registrations.transport"), low: true },
  { key: "expires_s", title: t("registrations.expires"), right: true, of: (r) => duration(r.expires_s) },
  { key: "user_agent", title: t("registrations.user_agent"), low: true, class: "wide" },
  { key: "drop", title: "", fixed: true, right: true, of: (r) => h("button", { type: "button", class: "small grave", onclick: () => drop(session, r.aor) }, t("registrations.drop")) },
];

const drop = (session, aor) => order({
  heading: t("registrations.drop"), words: t("registrations.drop_sure", { aor }), yes: t("registrations.drop"),
  run: () => api.ask("DELETE", `registrations/${encodeURIComponent(aor)}`), done: t("registrations.dropped", { aor }),
  again: () => {
    location.hash = "#/registrations";
    return session.again();
  },
});

function one(session) {
  const { aor, bindings } = session.data.explained;
  return [
    title(t("registrations.title", { aor }), h("div", { class: "buttons" }, h("button", { type: "button", class: "grave", onclick: () => drop(session, aor) }, t("registrations.drop")))),
    bindings.map(({ registration: r, answer, steps: list }) => section(r.contact,
      sentences(answer),
      facts([
        [t("registrations.network"), r.network], [t("registrations.seen"), mono(r.seen)], [t("registrations.claimed"), mono(r.claimed)],
        [t("registrations.told"), mono(r.told)], [t("registrations.reached"), mono(r.reached_at)],
        [t("registrations.reachable"), pill("reach", r.reachable ? "up" : "down")],
        [t("registrations.nat"), r.nat_why], [t("registrations.transport"), r.transport], [t("registrations.instance"), mono(r.instance)],
        [t("registrations.user_agent"), r.user_agent], [t("registrations.age"), duration(r.age_s)], [t("registrations.expires"), duration(r.expires_s)],
      ]),
      h("details", {}, h("summary", {}, t("call.decisions")), steps(list)))),
  ];
}

function bans(session) {
  const lift = (ban) => attempt(() => api.ask("DELETE", `bans/${encodeURIComponent(ban.source)}`), t("bans.lifted", { source: ban.source }), session.again);
  const add = (event) => {
    event.preventDefault();
    const form = event.target;
    const seconds = form.seconds.value ? Number(form.seconds.value) : null;
    const body = JSON.stringify({ source: form.source.value.trim(), seconds });
    attempt(() => api.ask("POST", "bans", { body }), t("bans.added", { source: form.source.value }), session.again);
  };
  const columns = [
    { key: "source", title: t("bans.source"), of: (b) => mono(b.source) },
    { key: "account", title: t("bans.account"), low: true },
    { key: "why", title: t("bans.why") },
    { key: "age_s", title: t("bans.age"), right: true, of: (b) => duration(b.age_s) },
    { key: "left_s", title: t("bans.left"), right: true, of: (b) => (b.left_s === null ? t("bans.for_ever") : duration(b.left_s)) },
    { key: "times", title: t("bans.times"), right: true, of: (b) => number(b.times), low: true },
    { key: "lift", title: "", fixed: true, right: true, of: (b) => h("button", { type: "button", class: "small", onclick: () => lift(b) }, t("bans.lift")) },
  ];
  return section(t("bans.title"),
    h("form", { class: "bar", onsubmit: add },
      h("label", {}, t("bans.source"), h("input", { name: "source", required: true, placeholder: "192.0.2.0/24" })),
      h("label", {}, t("bans.seconds"), h("input", { name: "seconds", type: "number", min: 1, placeholder: "600" })),
      h("button", { type: "submit" }, t("bans.add"))),
    table({ name: t("bans.title"), columns, rows: session.data.bans, state: banned, changed: session.draw, empty: t("bans.none"), key: (b) => b.source, search: session.data.bans.length > 10 }));
}
