// What is wrong with the host and the way to it, what shows it, and what to type against it.
import * as api from "./api.js";
import { h } from "./dom.js";
import { pill, section, title } from "./part.js";
import { number, t } from "./words.js";

export const every = 0;

const ORDER = ["fail", "warn", "unknown", "skip", "pass"];

export async function load(_, signal) {
  return (await api.get("doctor", signal)).checks;
}

export function draw(session) {
  if (!session.data) return [title(t("view.doctor")), h("p", { class: "muted", role: "status" }, t("doctor.running"))];
  const of = (status) => session.data.filter((check) => check.status === status);
  const counts = ORDER.map((status) => [status, of(status).length]).filter(([, n]) => n > 0);
  return [
    title(t("view.doctor"), counts.map(([status, n]) => h("span", {}, pill("check", status), " ", number(n))),
      h("div", { class: "buttons" }, h("button", { type: "button", class: "main", onclick: session.again }, t("doctor.again")))),
    ORDER.map((status) => of(status).length > 0 && section(pill("check", status),
      of(status).map((check) => (status === "pass" || status === "skip" ? brief(check) : whole(check))))),
  ];
}

const brief = (check) =>
  h("details", { "data-key": check.id }, h("summary", {}, check.title, " ", h("code", { class: "muted" }, check.id)), body(check));

const whole = (check) =>
  h("article", { class: "answer", "data-key": check.id }, h("h3", {}, check.title, " ", h("code", { class: "muted" }, check.id)), body(check));

const text = (value) => (typeof value === "string" ? value : JSON.stringify(value, null, 1));
const list = (value) => (value === null || value === undefined ? [] : Array.isArray(value) ? value : [value]);

const body = (check) => [
  check.meaning && h("p", {}, check.meaning),
  list(check.evidence).length > 0 && h("pre", {}, list(check.evidence).map(text).join("\n")),
  list(check.fix).length > 0 && [h("p", { class: "muted" }, t("doctor.fix")), h("pre", {}, list(check.fix).map(text).join("\n"))],
  check.docs && h("p", { class: "muted" }, t("doctor.docs"), " ", h("code", {}, check.docs)),
];
