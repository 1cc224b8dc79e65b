// Making elements. Whatever comes from the relay becomes a text node or an attribute's value, never markup.

import { language, textAt } from "./texts.js";

const SVG = "http://www.w3.org/2000/svg";

export const element = (id) => document.getElementById(id);

/** An element. `attributes`: `on` holds listeners, `data` the dataset; true is an empty attribute, false or null none. */
export function h(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** The same for SVG. */
export function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

function fill(node, { on = {}, data = {}, ...attributes }, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== false && value !== null && value !== undefined) node.setAttribute(name, value === true ? "" : value);
  }
  for (const [name, value] of Object.entries(data)) node.dataset[name] = value;
  for (const [name, listener] of Object.entries(on)) node.addEventListener(name, listener);
  node.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

/** Set a node's text if it differs: screen readers and selections are left alone otherwise. */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** Put the texts of texts.js where index.html asks for them. */
export function fillTexts() {
  document.documentElement.lang = language;
  for (const node of document.querySelectorAll("[data-text]")) node.textContent = textAt(node.dataset.text);
  for (const node of document.querySelectorAll("[data-text-label]")) {
    node.setAttribute("aria-label", textAt(node.dataset.textLabel));
  }
}

let fields = 0;

/** A labelled control with an optional hint; `control` gets an id if it has none. */
export function field(label, control, hint = "") {
  control.id ||= `field-${(fields += 1)}`;
  if (hint) control.setAttribute("aria-describedby", `${control.id}-hint`);
  return h(
    "div",
    { class: "field" },
    h("label", { for: control.id }, label),
    control,
    hint && h("p", { class: "hint", id: `${control.id}-hint` }, hint),
  );
}

/** A select of `[value, label]` pairs. */
export function choice(options, value, attributes = {}) {
  const select = h("select", attributes, options.map(([each, label]) => h("option", { value: each }, label)));
  select.value = value;
  return select;
}

/** A word in a coloured frame. */
export function badge(text, tone = "neutral") {
  return h("span", { class: "badge", data: { tone } }, text);
}

/** Say something to screen readers without showing it. */
export function announce(text) {
  element("announcer").textContent = text;
}

const TOAST_MS = 6000;

/** Show something that was done for a few seconds; screen readers hear it. */
export function toast(text) {
  const node = h("p", {}, text);
  element("toasts").append(node);
  setTimeout(() => node.remove(), TOAST_MS);
}
