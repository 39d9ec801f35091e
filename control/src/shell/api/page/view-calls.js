// Every call; sorted, searched and paged by the daemon, so that ten thousand are no more than fifty.
import * as api from "./api.js";
import { h } from "./dom.js";
import { pill, title } from "./part.js";
import { fresh, PAGE, table } from "./table.js";
import { bits, duration, ppm, t, term } from "./words.js";

export const every = 2000;

const state = fresh("bits_per_s", true);

export function load(_, signal) {
  const { sort, down, q, page } = state;
  const query = new URLSearchParams({ n: PAGE, offset: page * PAGE, sort, order: down ? "desc" : "asc", q });
  return api.get(`top?${query}`, signal);
}

export function draw(session) {
  if (!session.data) return title(t("view.calls"));
  const { calls, matched, all } = session.data;
  let asked;
  const changed = () => {
    session.draw();
    clearTimeout(asked);
    asked = setTimeout(session.again, 80);
  };
  return [
    title(t("view.calls")),
    h("section", {}, table({
      name: t("view.calls"), columns: columns(), rows: calls, state, changed, remote: { matched, all },
      empty: t("calls.none"), key: (call) => call.id,
    })),
  ];
}

const columns = () => [
  { key: "id", title: t("calls.id"), of: (call) => h("a", { href: `#/call/${call.id}` }, call.id), class: "nowrap" },
  { key: "from", title: t("calls.from") },
  { key: "to", title: t("calls.to") },
  { key: "state", title: t("calls.state"), of: (call) => pill("call", call.state, call.state === "established" ? "good" : "plain"), class: "nowrap" },
  { key: "age_s", title: t("calls.age"), right: true, of: (call) => duration(call.age_s) },
  { key: "networks", title: t("calls.networks"), fixed: true, low: true, class: "nowrap", of: (call) => `${call.caller_network} → ${call.callee_network ?? "…"}` },
  { key: "path", title: t("calls.path"), fixed: true, low: true, of: paths },
  { key: "bits_per_s", title: t("calls.bits"), right: true, of: (call) => bits(call.bits_per_s) },
  { key: "lost_ppm", title: t("calls.lost"), right: true, of: (call) => ppm(call.lost_ppm) },
  { key: "silent_s", title: t("calls.silent"), right: true, of: (call) => duration(call.silent_s), low: true },
];

function paths({ flows, why }) {
  const parts = Object.entries(flows).filter(([, count]) => count > 0);
  return h("span", { title: why }, parts.map(([path, n]) => `${n} ${term("path", path)}`).join(", ") || t("none"));
}
