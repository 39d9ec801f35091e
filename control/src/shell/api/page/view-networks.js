// Networks: what their peers are told, who is there, which ports are left; and why an address is
// taken to be where it is.
import * as api from "./api.js";
import { why } from "./ask.js";
import { h } from "./dom.js";
import { facts, meter, mono, notice, section, sentences, steps, title } from "./part.js";
import { duration, number, t } from "./words.js";

export const every = 3000;

export const load = (_, signal) => api.get("networks", signal);

export function draw(session) {
  if (!session.data) return title(t("view.networks"));
  return [title(t("view.networks")), explain(session), h("div", { class: "columns" }, session.data.networks.map(network))];
}

function network(n) {
  return section(h("span", {}, n.name, " ", h("span", { class: "muted" }, t("networks.on", { interface: n.interface }))),
    n.warnings.map((warning) => notice("fair", h("p", {}, warning))),
    facts([
      [t("networks.address"), mono(n.address)],
      [t("networks.advertise"), mono(n.advertise)],
      [t("networks.advertise_media"), mono(`${n.advertise_media} ${n.advertise_ports}`)],
      [t("networks.ports"), mono(n.media_ports)],
      [t("networks.used"), meter(n.pairs_used, n.pairs, t("networks.used_of", { n: number(n.pairs_used), all: number(n.pairs) }))],
      [t("networks.resting"), t("networks.resting_free", { resting: number(n.pairs_resting), free: number(n.pairs_free) })],
      [t("networks.media"), n.media], [t("networks.nat"), n.nat],
      [t("networks.peers"), h("span", {}, n.peers.map((p) => [mono(p), " "]))],
      [t("networks.gateways"), n.source_rewriting_gateways.length > 0 && mono(n.source_rewriting_gateways.join(" "))],
      [t("networks.users"), t("networks.users_of", { registrations: number(n.registrations), calls: number(n.calls) })],
      [t("networks.place"), n.place && mono(n.place)],
      [t("networks.seen"), h("span", {}, number(n.peers_seen.count), " ", h("span", { class: "muted" }, n.peers_seen.examples.slice(0, 5).join(" ")))],
    ]),
    n.suspected_gateways.map(suspect));
}

const suspect = (s) =>
  notice("fair",
    h("p", {}, h("strong", {}, t("networks.suspect", { address: s.address, clients: number(s.clients), time: duration(s.since_s) }))),
    h("p", {}, t("networks.remedy", { network: s.remedy.network ?? "", place: s.remedy.place ?? "" })),
    h("pre", {}, s.remedy.lines.join("\n")));

function explain(session) {
  const ask = async (event) => {
    event.preventDefault();
    session.ip = event.target.ip.value.trim();
    try {
      session.explained = await api.get(`networks/explain?ip=${encodeURIComponent(session.ip)}`);
      session.refused = null;
    } catch (problem) {
      session.explained = null;
      session.refused = why(problem);
    }
    session.draw();
  };
  const found = session.explained;
  return section(t("networks.explain"),
    h("form", { class: "bar", onsubmit: ask },
      h("label", {}, t("networks.ip"), h("input", { name: "ip", required: true, placeholder: "192.0.2.7", value: session.ip ?? "", spellcheck: "false" })),
      h("button", { type: "submit", class: "main" }, t("networks.ask"))),
    h("div", { "aria-live": "polite", class: "answer" },
      session.refused && notice("poor", h("p", {}, session.refused)),
      found && found.locals.map((local) => h("div", { class: "answer" },
        h("h3", {}, t("networks.at", { local: local.local })), sentences(local.answer),
        h("details", {}, h("summary", {}, t("call.decisions")), steps(local.steps)))),
      found && h("p", { class: "muted" }, t("networks.there", { registrations: number(found.registrations.length), calls: number(found.calls.length) }),
        " ", found.calls.slice(0, 10).map((id) => [h("a", { href: `#/call/${id}` }, id), " "]))));
}
