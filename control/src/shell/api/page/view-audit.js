// Who changed what, when, from where; and whether the log is as it was written.
import * as api from "./api.js";
import { why } from "./ask.js";
import { h } from "./dom.js";
import { notice, title } from "./part.js";
import { fresh, table } from "./table.js";
import { clock, number, t } from "./words.js";

export const every = 5000;

const state = fresh("seq", true);

export const load = (_, signal) => api.get("audit", signal);

export function draw(session) {
  if (!session.data) return title(t("view.audit"));
  const verify = async () => {
    try {
      const { whole, lines, problem } = await api.get("audit/verify");
      session.verdict = whole ? notice("good", h("p", {}, t("audit.whole", { n: number(lines) }))) : notice("poor", h("p", {}, t("audit.broken")), h("p", {}, problem));
    } catch (problem) {
      session.verdict = notice("poor", h("p", {}, why(problem)));
    }
    session.draw();
  };
  return [
    title(t("view.audit"), h("div", { class: "buttons" }, h("button", { type: "button", onclick: verify }, t("audit.verify")))),
    h("div", { "aria-live": "polite" }, session.verdict?.cloneNode(true)),
    h("section", {}, table({
      name: t("view.audit"), rows: session.data.lines, state, changed: session.draw, empty: t("audit.none"), key: (line) => line.seq,
      columns: [
        { key: "seq", title: t("audit.seq"), right: true },
        { key: "at", title: t("audit.at"), of: (line) => clock(line.at), class: "nowrap" },
        { key: "who", title: t("audit.who") },
        { key: "address", title: t("audit.from"), low: true },
        { key: "what", title: t("audit.what"), class: "wide", of: (line) => h("code", {}, line.what) },
        { key: "result", title: t("audit.result") },
        { key: "generation", title: t("audit.generation"), right: true, low: true },
      ],
    })),
  ];
}
