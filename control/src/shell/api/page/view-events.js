// What happened, as it happens.
import * as api from "./api.js";
import { h } from "./dom.js";
import { title } from "./part.js";
import { clock, number, t } from "./words.js";

export const every = 2000;

const KEPT = 500;
const FIRST = 200;
const NEVER = Number.MAX_SAFE_INTEGER;

export async function load(session, signal) {
  session.log ??= { list: [], last: 0, following: false };
  const { log } = session;
  if (!log.following) {
    // The last ones only: who opens the page does not read a thousand.
    if (!log.last) log.last = Math.max(0, (await api.get(`events?since=${NEVER}`, signal)).last - FIRST);
    const answer = await api.get(`events?since=${log.last}`, signal);
    for (const event of answer.events) add(log, event);
    log.last = answer.last;
    follow(session, signal);
  }
  return log;
}

// Pushed as long as the daemon does; asked for again when it does not.
async function follow(session, signal) {
  const { log } = session;
  log.following = true;
  try {
    await api.stream(`events?since=${log.last}`, log.last, signal, (event) => {
      add(log, event);
      session.draw();
    });
  } catch (problem) {
    if (signal.aborted) return;
    session.problem = problem;
  }
  log.following = false;
}

function add(log, event) {
  if (typeof event.seq !== "number" || event.seq <= (log.list[0]?.seq ?? 0)) return;
  log.list.unshift(event);
  log.last = event.seq;
  log.list.length = Math.min(log.list.length, KEPT);
}

export function draw(session) {
  const { data } = session;
  if (!data) return title(t("view.events"));
  const q = (session.q ?? "").trim().toLowerCase();
  const shown = data.list.filter((event) => !q || words(event).toLowerCase().includes(q));
  const input = (event) => {
    session.q = event.target.value;
    session.draw();
  };
  return [
    title(t("view.events")),
    h("section", {},
      h("div", { class: "bar" },
        h("label", {}, h("span", { class: "quiet" }, t("table.search", { name: t("view.events") })),
          h("input", { type: "search", value: session.q ?? "", oninput: input, placeholder: t("table.find"), spellcheck: "false" })),
        h("span", { class: "muted" }, t("events.shown", { n: number(shown.length), last: number(data.last) }))),
      shown.length === 0 ? h("p", { class: "empty" }, t("events.none")) :
        h("ol", { class: "tail" }, shown.slice(0, 200).map((event) =>
          h("li", { "data-key": event.seq }, h("time", { datetime: event.at, class: "muted" }, clock(event.at)),
            h("code", {}, event.kind), h("span", { class: "what" }, subject(event), " ", h("span", { class: "muted" }, fields(event))))))),
  ];
}

// Calls have a page of their own as long as they stand.
const subject = (event) =>
  /^(call|media|source)\./.test(event.kind) && /^\d+$/.test(event.subject) ? h("a", { href: `#/call/${event.subject}` }, event.subject) : event.subject;

const fields = (event) => Object.entries(event.fields).map(([name, value]) => `${name}=${value}`).join("  ");
const words = (event) => `${event.kind} ${event.subject} ${fields(event)}`;
