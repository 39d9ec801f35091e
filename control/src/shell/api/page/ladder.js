// The SIP messages of a call as a ladder: a line for every party and one for us, an arrow for every
// message; the same as a table, for those who do not see it or want to read.
import { h } from "./dom.js";
import { number, t, term } from "./words.js";

const LANE = 190;
const ROW = 26;
const HEAD = 46;
const TIME = 90;
const EDGE = 14;

// Callers stand left of us, everybody else right.
function lanes({ parties }) {
  const left = parties.flatMap((party, index) => (party.role === "caller" ? [index] : []));
  const right = parties.flatMap((party, index) => (party.role === "caller" ? [] : [index]));
  return [...left, null, ...right];
}

const said = (message) => {
  const words = message.method ?? `${message.code} ${message.words ?? ""}`.trim();
  return [words, message.sdp && t("ladder.sdp"), message.repeats !== null && t("ladder.repeated"), message.unsent && t("ladder.unsent")].filter(Boolean).join(" · ");
};

const tone = ({ code, unsent }) => (unsent || code >= 400 ? "poor" : code >= 300 ? "fair" : code >= 200 ? "good" : "plain");

export function ladder(trace, open, choose) {
  const order = lanes(trace);
  const us = order.indexOf(null);
  const x = (lane) => TIME + LANE * lane + LANE / 2;
  const width = TIME + LANE * order.length;
  const height = HEAD + ROW * trace.messages.length + EDGE;
  const name = (lane) => (lane === null ? trace.node : trace.parties[lane].address);
  const role = (lane) => (lane === null ? t("ladder.us") : term("party", trace.parties[lane].role));
  const heads = order.map((lane, index) => [
    shape("text", { x: x(index), y: 16, class: "who" }, role(lane)),
    shape("text", { x: x(index), y: 32, class: "where" }, name(lane)),
    shape("line", { x1: x(index), x2: x(index), y1: HEAD - 6, y2: height, class: "lane" }),
  ]);
  const arrows = trace.messages.map((message, index) => arrow(message, index, { x, us, order }, open === index, choose));
  const words = t("ladder.spoken", { n: number(trace.messages.length), parties: trace.parties.map((p) => `${term("party", p.role)} ${p.address}`).join(", ") });
  return h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": t("ladder.title") },
    shape("svg", { class: "ladder", width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": words }, heads, arrows));
}

function arrow(message, index, { x, us, order }, is_open, choose) {
  const y = HEAD + ROW * index + ROW * 0.7;
  const [here, there] = [x(us), x(order.indexOf(message.party))];
  const [from, to] = message.direction === "in" ? [there, here] : [here, there];
  const back = to > from ? -1 : 1;
  const points = `${to},${y} ${to + back * 8},${y - 4} ${to + back * 8},${y + 4}`;
  return shape("g", { class: `message ${tone(message)}${is_open ? " open" : ""}`, onclick: () => choose(index) },
    shape("rect", { x: 0, y: y - ROW * 0.7, width: x(order.length - 1) + LANE / 2, height: ROW, class: "row" }),
    shape("text", { x: 4, y: y + 3, class: "time" }, `+${number(message.after_ms, 1)} ms`),
    shape("line", { x1: from, x2: to, y1: y, y2: y, class: message.repeats === null ? "way" : "way again" }),
    shape("polygon", { points, class: "head" }),
    shape("text", { x: (from + to) / 2, y: y - 5, class: "said" }, said(message)));
}

export function listed(trace, open, choose) {
  const who = (index) => trace.parties[index].address;
  const row = (message, index) => {
    const ends = [who(message.party), trace.node];
    if (message.direction === "out") ends.reverse();
    return h("tr", { "data-key": index },
      h("td", { class: "n" }, number(message.after_ms, 1)),
      h("td", { class: "nowrap" }, h("code", {}, ends[0])), h("td", { class: "nowrap" }, h("code", {}, ends[1])),
      h("td", {}, said(message)), h("td", { class: "low" }, message.cseq ?? t("none")),
      h("td", { class: "n" }, h("button", { type: "button", class: "small", "aria-expanded": String(open === index), "aria-label": t("ladder.show_of", { what: said(message) }), onclick: () => choose(index) }, t("ladder.show"))));
  };
  const head = [["after", "n"], ["from"], ["to"], ["message"], ["cseq", "low"], ["text", "n"]];
  return h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": t("ladder.list") },
    h("table", { "data-name": t("ladder.list") }, h("caption", { class: "quiet" }, t("ladder.list")),
      h("thead", {}, h("tr", {}, head.map(([key, of]) => h("th", { scope: "col", class: of ?? null }, t(`ladder.${key}`))))),
      h("tbody", {}, trace.messages.map(row))));
}

const SVG = "http://www.w3.org/2000/svg";

function shape(name, attributes, ...children) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "onclick") element.onclick = value;
    else element.setAttribute(key, value);
  }
  element.append(...children.flat(Infinity));
  return element;
}
