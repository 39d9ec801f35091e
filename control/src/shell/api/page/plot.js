// Live plots: uPlot on a canvas, its numbers beside it in words, for those who do not see it.
import { h } from "./dom.js";
import { t } from "./words.js";

const HEIGHT = 152;
const DASHES = [[], [6, 4], [2, 3], []];
const SPAN_S = 600;
const live = new Map();

// One plot: `series` is [{ name, values, show }]; `show` writes one value. The axis reaches `least`
// at least.
export function plot(key, title, at, series, least) {
  live.set(key, { ...live.get(key), at, series, title, least });
  return h("section", { class: "plot", "data-key": key },
    h("h2", {}, title),
    h("div", { class: "legend" }, series.map((s, index) =>
      h("span", {}, h("i", { class: `s${index + 1}`, "aria-hidden": "true" }), s.name, " ", h("strong", {}, s.show(last(s.values)))))),
    h("div", { class: "canvas", "data-keep": key, role: "img", "aria-label": spoken(title, series) }));
}

const last = (values) => values.findLast((value) => value !== null && value !== undefined) ?? null;

function spoken(title, series) {
  const parts = series.map((s) => {
    const known = s.values.filter((value) => value !== null && value !== undefined);
    if (!known.length) return t("plot.nothing", { name: s.name });
    return t("plot.spoken", { name: s.name, now: s.show(last(known)), min: s.show(Math.min(...known)), max: s.show(Math.max(...known)) });
  });
  return `${title}. ${parts.join(". ")}`;
}

// Draws what has been asked for since; called when the page stands.
export function settle() {
  for (const [key, one] of live) {
    const place = document.querySelector(`[data-keep="${key}"]`);
    if (!place) continue;
    const data = [one.at, ...one.series.map((s) => s.values)];
    place.setAttribute("aria-label", spoken(one.title, one.series));
    const width = place.clientWidth;
    if (one.drawn && one.place === place && one.count === data.length) {
      if (one.width !== width) one.drawn.setSize({ width, height: HEIGHT });
      one.width = width;
      one.drawn.setData(data);
    } else {
      one.drawn?.destroy();
      Object.assign(one, { place, width, count: data.length, drawn: draw(place, width, data, one) });
    }
  }
}

export function forget() {
  for (const one of live.values()) one.drawn?.destroy();
  live.clear();
}

export function recolour() {
  for (const one of live.values()) {
    one.drawn?.destroy();
    one.drawn = null;
  }
  settle();
}

// A colour as it is now: the scheme has been taken into account.
function colour(name) {
  const probe = document.createElement("span");
  probe.style.color = `var(${name})`;
  document.body.append(probe);
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
}

function draw(place, width, data, { series, least }) {
  const ink = colour("--muted");
  const grid = { stroke: colour("--line"), width: 1 };
  const time = (now, at) => {
    const ago = Math.round(now - at);
    return ago === 0 ? t("plot.now") : `−${Math.floor(ago / 60)}:${String(ago % 60).padStart(2, "0")}`;
  };
  return new uPlot({
    width, height: HEIGHT, legend: { show: false }, cursor: { show: false }, padding: [8, 16, 0, 0],
    scales: {
      x: { time: false, range: ({ data: [at] }) => [at.at(-1) - span(at.at(-1) - at[0]), at.at(-1)] },
      y: { range: (_, min, max) => [0, Math.max(least, max ?? 0) * 1.08] },
    },
    axes: [
      { stroke: ink, grid, ticks: { show: false }, size: 24, font: "11px system-ui", values: (u, ticks) => ticks.map((tick) => time(u.scales.x.max, tick)), splits: (u) => marks(u.scales.x.min, u.scales.x.max) },
      { stroke: ink, grid, ticks: { show: false }, size: 62, font: "11px system-ui", values: (_, ticks) => ticks.map((tick) => series[0].show(tick)) },
    ],
    series: [{}, ...series.map((_, index) => ({ stroke: colour(`--plot-${index + 1}`), width: 1.6, dash: DASHES[index], points: { show: false }, spanGaps: true }))],
  }, data, place);
}

// As much as there is, of ten minutes.
const span = (known) => [60, 120, 300].find((seconds) => known <= seconds) ?? SPAN_S;

const marks = (from, now) => {
  const parts = now - from > 120 ? 5 : 4;
  return Array.from({ length: parts + 1 }, (_, part) => from + ((now - from) * part) / parts);
};

let resizing;
addEventListener("resize", () => {
  clearTimeout(resizing);
  resizing = setTimeout(settle, 100);
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", recolour);
