// Tabs by the ARIA pattern: one is in the tab order; arrow keys, Home and End move.

import { h } from "./dom.js";

/** `tabs`: `[id, label, panel]`. `.node` holds list and panels, `.select(id)`, `.selected()`, `.label(id, text)`. */
export function tabs(name, choices, onSelect = () => {}) {
  let current = choices[0][0];
  const buttons = new Map(choices.map(([id, label]) => [
    id,
    h("button", { type: "button", role: "tab", id: `tab-${id}`, "aria-controls": `panel-${id}`, on: { click: () => select(id) } }, label),
  ]));
  const panels = new Map(choices.map(([id, , panel]) => [
    id,
    h("div", { role: "tabpanel", id: `panel-${id}`, class: "panel", "aria-labelledby": `tab-${id}`, tabindex: "0" }, panel),
  ]));

  function select(id) {
    current = id;
    for (const [each, button] of buttons) {
      button.setAttribute("aria-selected", String(each === id));
      button.tabIndex = each === id ? 0 : -1;
      panels.get(each).hidden = each !== id;
    }
    onSelect(id);
  }

  function move(event) {
    const ids = [...buttons.keys()];
    const here = ids.indexOf(current);
    const next = { ArrowRight: here + 1, ArrowLeft: here - 1, Home: 0, End: ids.length - 1 }[event.key];
    if (next === undefined) return;
    event.preventDefault();
    select(ids.at(next % ids.length));
    buttons.get(current).focus();
  }

  const list = h("div", { class: "tabs", role: "tablist", "aria-label": name, on: { keydown: move } }, [...buttons.values()]);
  const node = h("div", {}, list, [...panels.values()]);
  select(current);
  return { node, select, selected: () => current, label: (id, text) => buttons.get(id).replaceChildren(text) };
}
