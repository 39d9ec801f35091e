// Tables: sorted by their headings, searched, in pages. Rows come whole, or page by page from the
// daemon (`remote`), which then sorts and searches.
import { h } from "./dom.js";
import { number, t } from "./words.js";

export const PAGE = 50;

// Columns: { key, title, of(row): text or element, by?(row): what is sorted by, right, low }.
// `idle(row)` are of no interest now. `state` is { sort, down, q, page } and lives as long as its view.
export function table({ name, columns, rows, state, changed, remote, empty, key, idle, search = true }) {
  const picked = remote ? rows : select(rows, columns, state);
  const total = remote ? remote.matched : picked.length;
  const pages = Math.max(1, Math.ceil(total / PAGE));
  if (state.page >= pages) state.page = pages - 1;
  const first = state.page * PAGE;
  const here = remote ? picked : picked.slice(first, first + PAGE);
  const all = remote ? remote.all : rows.length;
  return h("div", { class: "table" },
    search && bar({ name, state, changed, total, all }),
    h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": name },
      h("table", { "data-name": name },
        h("caption", { class: "quiet" }, name),
        h("thead", {}, h("tr", {}, columns.map((c) => heading(c, state, changed)))),
        h("tbody", {}, here.map((row) => h("tr", { "data-key": key(row), class: idle?.(row) ? "idle" : null }, columns.map((c) => cell(c, row)))))),
      total === 0 && h("p", { class: "empty" }, state.q ? t("table.no_match", { q: state.q }) : empty)),
    pages > 1 && pager({ state, changed, pages, first, here: here.length, total }));
}

function select(rows, columns, state) {
  const q = state.q.trim().toLowerCase();
  const text = (row) => columns.map((c) => String(sorted_by(c, row) ?? "")).join("\n").toLowerCase();
  const found = q ? rows.filter((row) => text(row).includes(q)) : [...rows];
  const column = columns.find((c) => c.key === state.sort);
  if (!column) return found;
  const sign = state.down ? -1 : 1;
  return found.sort((a, b) => sign * compare(sorted_by(column, a), sorted_by(column, b)));
}

const sorted_by = (column, row) => (column.by ? column.by(row) : row[column.key]);

function compare(a, b) {
  if (a == null || b == null) return (a == null ? -1 : 0) + (b == null ? 1 : 0);
  if (typeof a === "number" && typeof b === "number") return a - b;
  return String(a).localeCompare(String(b), undefined, { numeric: true });
}

function bar({ name, state, changed, total, all }) {
  const input = (event) => {
    state.q = event.target.value;
    state.page = 0;
    changed();
  };
  return h("div", { class: "bar" },
    h("label", {}, h("span", { class: "quiet" }, t("table.search", { name })),
      h("input", { type: "search", value: state.q, oninput: input, placeholder: t("table.find"), spellcheck: "false" })),
    h("span", { class: "muted", role: "status" },
      total === all ? t("table.all", { n: number(all) }) : t("table.some", { n: number(total), all: number(all) })));
}

function heading(column, state, changed) {
  const is_sorted = state.sort === column.key;
  const classes = [column.right && "n", column.low && "low"].filter(Boolean).join(" ") || null;
  if (column.fixed) return h("th", { scope: "col", class: classes }, column.title || h("span", { class: "quiet" }, t("table.actions")));
  const click = () => {
    state.down = is_sorted ? !state.down : Boolean(column.right);
    state.sort = column.key;
    state.page = 0;
    changed();
  };
  const order = is_sorted ? (state.down ? "descending" : "ascending") : "none";
  return h("th", { scope: "col", class: classes, "aria-sort": order },
    h("button", { class: "sort", type: "button", onclick: click }, column.title,
      h("span", { "aria-hidden": "true", class: "arrow" }, is_sorted ? (state.down ? "▾" : "▴") : "")));
}

function cell(column, row) {
  const value = column.of ? column.of(row) : row[column.key];
  const classes = [column.right && "n", column.low && "low", column.class].filter(Boolean).join(" ") || null;
  return h("td", { class: classes }, value === null || value === undefined ? t("none") : value);
}

function pager({ state, changed, pages, first, here, total }) {
  const go = (page) => () => {
    state.page = page;
    changed();
  };
  const button = (words, page, off) =>
    h("button", { type: "button", onclick: go(page), disabled: off || null }, words);
  return h("div", { class: "pager", role: "group", "aria-label": t("table.pages") },
    button(t("table.first"), 0, state.page === 0),
    button(t("table.previous"), state.page - 1, state.page === 0),
    h("span", {}, t("table.range", { from: number(first + 1), to: number(first + here), n: number(total) })),
    button(t("table.next"), state.page + 1, state.page + 1 >= pages),
    button(t("table.last"), pages - 1, state.page + 1 >= pages));
}

export const fresh = (sort, down = false) => ({ sort, down, q: "", page: 0 });
