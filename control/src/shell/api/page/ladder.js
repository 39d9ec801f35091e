// The SIP messages of a call, in the order they came and went. A drawing for the eye; the same as
// a list for those who listen.
import { h } from "./dom.js";
import { clock, t } from "./words.js";

const SVG = "http://www.w3.org/2000/svg";
const WIDTH = 760;
const ROW = 26;
const TOP = 34;

function svg(name, attributes, ...children) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

// `messages` are [{ at, from, to, line }].
export function ladder({ messages }) {
  const parties = [...new Set(messages.flatMap((m) => [m.from, m.to]))];
  const x = (party) => ((parties.indexOf(party) + 0.5) * WIDTH) / parties.length;
  const height = TOP + messages.length * ROW + 10;
  const drawing = svg("svg", { viewBox: `0 0 ${WIDTH} ${height}`, "aria-hidden": "true" },
    ...parties.flatMap((party) => [
      svg("text", { x: x(party), y: 14, "text-anchor": "middle" }, party),
      svg("line", { x1: x(party), x2: x(party), y1: 22, y2: height }),
    ]),
    ...messages.flatMap((m, index) => arrow(x(m.from), x(m.to), TOP + (index + 0.7) * ROW, m.line)));
  return h("div", { class: "ladder" }, drawing,
    h("ol", { class: "quiet" }, messages.map((m) => h("li", {}, t("ladder.message", { time: clock(m.at), ...m })))));
}

function arrow(from, to, y, line) {
  const way = to > from ? -6 : 6;
  return [
    svg("line", { x1: from, x2: to, y1: y, y2: y }),
    svg("path", { class: "arrowhead", d: `M${to} ${y}l${way} -4v8z` }),
    svg("text", { x: (from + to) / 2, y: y - 4, "text-anchor": "middle" }, line),
  ];
}
