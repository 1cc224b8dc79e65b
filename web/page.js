// What the page shows beside the panels: its texts, its state, the notice, and what screen readers hear.

import { language, textAt, texts } from "./texts.js";

export const element = (id) => document.getElementById(id);

/** Put the texts of texts.js where index.html asks for them. */
export function fillTexts() {
  document.documentElement.lang = language;
  for (const node of document.querySelectorAll("[data-text]")) node.textContent = textAt(node.dataset.text);
  for (const node of document.querySelectorAll("[data-text-label]")) {
    node.setAttribute("aria-label", textAt(node.dataset.textLabel));
  }
  for (const node of document.querySelectorAll("[data-text-placeholder]")) {
    node.placeholder = textAt(node.dataset.textPlaceholder);
  }
}

const TONES = {
  idle: "neutral",
  microphone: "busy",
  mint: "busy",
  call: "busy",
  connect: "busy",
  live: "good",
  muted: "warn",
  reconnecting: "busy",
  ended: "neutral",
  failed: "bad",
};

/** Show a word of `texts.status` in the status pill. */
export function showStatus(word) {
  const pill = element("status");
  pill.textContent = texts.status[word];
  pill.dataset.tone = TONES[word];
  pill.dataset.status = word;
}

/** Say something to screen readers; urgent things interrupt them. */
export function announce(text, { urgent = false } = {}) {
  element(urgent ? "alarm" : "announcer").textContent = text;
}

/** Show a notice `{title, advice}`; `tone` is "bad", "warn" or "info". `action` is a button, `{label, run}`. */
export function showNotice({ title, advice }, tone, action = null) {
  element("notice").hidden = false;
  element("notice").dataset.tone = tone;
  element("notice-title").textContent = title;
  element("notice-advice").textContent = advice;
  element("notice-finding").hidden = true;
  const button = element("notice-action");
  button.hidden = action === null;
  if (action !== null) button.textContent = action.label;
  button.onclick = action?.run ?? null;
}

/** Add to the notice what was found out since. */
export function showFinding(text) {
  element("notice-finding").hidden = false;
  element("notice-finding").textContent = text;
}

export function hideNotice() {
  element("notice").hidden = true;
  element("alarm").textContent = "";
}

/** Tabs by the ARIA pattern: one is in the tab order; arrow keys, Home and End move. Returns what selects one by id. */
export function wireTabs(list) {
  const tabs = [...list.querySelectorAll("[role=tab]")];
  const select = (chosen) => {
    for (const tab of tabs) {
      tab.setAttribute("aria-selected", String(tab === chosen));
      tab.tabIndex = tab === chosen ? 0 : -1;
      element(tab.getAttribute("aria-controls")).hidden = tab !== chosen;
    }
  };
  list.addEventListener("click", ({ target }) => tabs.includes(target) && select(target));
  list.addEventListener("keydown", (event) => {
    const here = tabs.indexOf(document.activeElement);
    const next = { ArrowRight: here + 1, ArrowLeft: here - 1, Home: 0, End: tabs.length - 1 }[event.key];
    if (next === undefined) return;
    event.preventDefault();
    const tab = tabs.at(next % tabs.length);
    select(tab);
    tab.focus();
  });
  return (id) => select(element(id));
}
