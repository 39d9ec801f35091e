// Elements. Text only ever becomes a text node: nothing here, and nothing that calls it, parses
// markup, so what a stranger writes into a SIP header stays what it is.

// h("td", { class: "n" }, 3, h("b", {}, "x")): `on…` are functions, `true` is an empty attribute,
// null and false are left out.
export function h(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) set(element, key, value);
  element.append(...children.flat(Infinity).filter(shown));
  return element;
}

const shown = (child) => child !== null && child !== undefined && child !== false;

// Fields whose content the page decides; in others it is the operator's alone.
const decided = new WeakSet();

function set(element, key, value) {
  if (key === "value") decided.add(element);
  if (key.startsWith("on") || key === "value" || key === "checked") element[key] = value;
  else if (value === true) element.setAttribute(key, "");
  else if (shown(value)) element.setAttribute(key, value);
}

const HANDLERS = ["onclick", "onchange", "oninput", "onsubmit", "onkeydown"];

// Makes what `parent` shows equal to `children`, keeping the elements that stay: so focus,
// selection and scrolling survive. An element with `data-keep` is left as it is.
export function show(parent, ...children) {
  const next = children.flat(Infinity).filter(shown);
  const wanted = next.map((n) => (n instanceof Node ? n : document.createTextNode(n)));
  for (const [index, node] of wanted.entries()) {
    const now = parent.childNodes[index];
    if (!now) parent.append(node);
    else if (!same(now, node)) now.replaceWith(node);
    else if (now.nodeType === Node.TEXT_NODE) {
      if (now.data !== node.data) now.data = node.data;
    } else if (!now.dataset.keep) become(now, node);
  }
  while (parent.childNodes.length > wanted.length) parent.lastChild.remove();
}

const same = (a, b) =>
  a.nodeName === b.nodeName && a.dataset?.key === b.dataset?.key && a.dataset?.keep === b.dataset?.keep;

function become(now, next) {
  for (const { name } of [...now.attributes]) {
    if (!next.hasAttribute(name) && !(name === "open" && now.nodeName === "DETAILS")) {
      now.removeAttribute(name);
    }
  }
  for (const { name, value } of next.attributes) {
    if (now.getAttribute(name) !== value) now.setAttribute(name, value);
  }
  for (const handler of HANDLERS) now[handler] = next[handler];
  if (now.nodeName !== "TEXTAREA") show(now, [...next.childNodes]);
  const is_ours = decided.has(next) || now.nodeName === "SELECT";
  if (is_ours && document.activeElement !== now && now.value !== next.value) now.value = next.value;
}
