// Search forms whose values stand in the address, so that a search can be sent to a colleague and found again with Back.

import { choice, field, h } from "./dom.js";
import { secondsOf } from "./format.js";
import { addressOf } from "./addresses.js";
import { texts } from "./texts.js";

/** A text field of a search. */
export const words = (name, label) => ({ name, label, make: (value) => h("input", { type: "search", name, value, autocomplete: "off", spellcheck: "false" }) });

/** A closed choice of a search, with "any" before it. */
export const oneOf = (name, label, options) => ({
  name,
  label,
  make: (value) => choice([["", texts.filters.any], ...options], value, { name }),
});

/** A moment, asked for in local time and sent as Unix seconds. */
export const moment = (name, label) => ({
  name,
  label,
  make: (value) => h("input", { type: "datetime-local", name, value }),
  sent: secondsOf,
});

/** A day of UTC. */
export const day = (name, label, fallback = "") => ({ name, label, fallback, make: (value) => h("input", { type: "date", name, value }) });

const valueOf = (each, query) => query.get(each.name) ?? each.fallback ?? "";

/** The form; sending it goes to the page's address with the values in it. */
export function searchForm(path, fields, query) {
  const controls = fields.map((each) => each.make(valueOf(each, query)));
  const go = (event) => {
    event.preventDefault();
    const values = Object.fromEntries(fields.map((each, index) => [each.name, controls[index].value.trim()]));
    const address = addressOf(path, values);
    if (address === location.hash) dispatchEvent(new Event("hashchange"));
    else location.hash = address;
  };
  return h(
    "form",
    { class: "filters", role: "search", novalidate: true, on: { submit: go } },
    fields.map((each, index) => field(each.label, controls[index])),
    h("div", { class: "filter-actions" },
      h("button", { type: "submit", class: "primary" }, texts.filters.apply),
      h("a", { class: "button", href: addressOf(path) }, texts.filters.clear)),
  );
}

/** The values as the API takes them. */
export function searchQuery(fields, query) {
  return Object.fromEntries(fields.map((each) => [each.name, each.sent ? each.sent(valueOf(each, query)) : valueOf(each, query)]));
}
