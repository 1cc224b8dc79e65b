// How what went wrong is told: one place for the words, one shape of notice with a way to try again.

import { abandoned, Refused, Unreachable } from "./api.js";
import { h } from "./dom.js";
import { texts } from "./texts.js";

/** What was typed cannot be used; the message is for who typed it. */
export class Declined extends Error {}

/** A failure in one sentence, with the relay's own words where it gave some. */
export function failureText(error) {
  if (error instanceof Declined) return error.message;
  if (error instanceof Unreachable) return texts.failures.unreachable;
  if (!(error instanceof Refused)) {
    reportError(error);
    return texts.failures.page;
  }
  const known = texts.failures[error.code] ?? texts.failures[error.status];
  if (typeof known === "function") return known(error.retryAfter);
  return [known, error.message].filter(Boolean).join(" ") || texts.failures.other(error.status);
}

/** A notice of a failure with a button that tries again. */
export function failureNotice(error, retry) {
  return h(
    "div",
    { class: "notice", role: "alert", data: { tone: "bad" } },
    h("p", {}, failureText(error)),
    retry && h("button", { type: "button", on: { click: retry } }, texts.failures.retry),
  );
}

/** What stands where nothing is. */
export const emptyState = (text, ...more) => h("div", { class: "empty" }, h("p", {}, text), ...more);

/** Grey bars while something is fetched. */
export const loadingState = () =>
  h("div", { class: "loading", role: "status" }, h("span", { class: "unseen" }, texts.loading), h("i"), h("i"), h("i"));

/** Fill `place` with what `make` resolves to: loading, then the content, or the failure with a way to try again. */
export async function load(place, signal, make) {
  place.replaceChildren(loadingState());
  try {
    const content = await make();
    if (!signal.aborted) place.replaceChildren(...[content].flat());
  } catch (error) {
    if (abandoned(error, signal) || signal.aborted) return;
    place.replaceChildren(failureNotice(error, () => void load(place, signal, make)));
  }
}
