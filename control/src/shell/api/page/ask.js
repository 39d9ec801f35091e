// What the page asks the operator: a token, a yes. And what it tells: how an order ended.
import * as api from "./api.js";
import { h, show } from "./dom.js";
import { t } from "./words.js";

const dialog = () => document.getElementById("ask");
const TOLD_MS = 8000;
let telling;

export function tell(words, of = "good") {
  clearTimeout(telling);
  const said = document.getElementById("said");
  show(said, h("p", { class: of }, words));
  telling = setTimeout(() => show(said), TOLD_MS);
}

// Opens the dialog with a form; what `take` returns is the answer, null if it is closed.
function open(heading, children, yes, take, may_close) {
  return new Promise((resolve) => {
    const box = dialog();
    const end = (answer) => {
      box.onclose = null;
      box.oncancel = null;
      box.close();
      resolve(answer);
    };
    const submit = (event) => {
      event.preventDefault();
      end(take(event.target));
    };
    box.setAttribute("aria-labelledby", "ask-title");
    show(box);
    show(box, h("form", { onsubmit: submit },
      h("h2", { id: "ask-title" }, heading), ...children,
      h("div", { class: "buttons" },
        may_close && h("button", { type: "button", onclick: () => end(null) }, t("ask.no")),
        h("button", { type: "submit", class: "main" }, yes))));
    box.oncancel = (event) => {
      event.preventDefault();
      if (may_close) end(null);
    };
    if (!box.open) box.showModal();
  });
}

export function token(was_wrong) {
  const body = [
    h("p", {}, was_wrong ? t("token.wrong") : t("token.why")),
    h("label", {}, t("token.name"), h("input", { type: "password", name: "token", required: true, autocomplete: "off", autofocus: true })),
    h("label", { class: "check" }, h("input", { type: "checkbox", name: "keep" }), t("token.keep")),
  ];
  const take = (form) => api.keep(form.token.value.trim(), form.keep.checked);
  return open(t("token.title"), body, t("token.enter"), take, false);
}

export const sure = (heading, words, yes) => open(heading, [h("p", {}, words)], yes, () => true, true);

// Asks, does it, tells how it ended, looks again.
export async function order({ heading, words, yes, run, done, again }) {
  if (!(await sure(heading, words, yes))) return;
  await attempt(run, done, again);
}

export async function attempt(run, done, again) {
  try {
    await run();
    tell(done);
    await again?.();
  } catch (problem) {
    tell(t("said.refused", { why: why(problem) }), "poor");
  }
}

export function why(problem) {
  if (!(problem instanceof api.Problem)) return t("problem.unreachable");
  if (problem.status === 403) return t("problem.role", { detail: problem.message });
  return problem.message;
}
