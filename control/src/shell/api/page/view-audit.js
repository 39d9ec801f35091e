// Who changed what, when, from where.
import * as api from "./api.js";
import { h } from "./dom.js";
import { pill, title } from "./part.js";
import { fresh, table } from "./table.js";
import { clock, t } from "./words.js";

export const every = 5000;

const state = fresh("seq", true);

export const load = (_, signal) => api.get("audit", signal);

export function draw(session) {
  if (!session.data) return title(t("view.audit"));
  const rows = session.data.entries ?? session.data.audit ?? [];
  return [
    title(t("view.audit"), session.data.verified !== undefined && pill("audit", session.data.verified ? "verified" : "broken", session.data.verified ? "good" : "poor")),
    h("section", {}, table({
      name: t("view.audit"), rows, state, changed: session.draw, empty: t("audit.none"), key: (e) => e.seq,
      columns: [
        { key: "seq", title: t("audit.seq"), right: true },
        { key: "at", title: t("audit.at"), of: (e) => clock(e.at), class: "nowrap" },
        { key: "who", title: t("audit.who") },
        { key: "from", title: t("audit.from"), low: true },
        { key: "what", title: t("audit.what"), of: (e) => e.what ?? e.action },
        { key: "result", title: t("audit.result"), low: true, of: (e) => e.result ?? e.status },
      ],
    })),
  ];
}
