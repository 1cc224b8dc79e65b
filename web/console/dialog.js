// Questions before what cannot be undone: a modal dialog that stays open while the relay is asked and shows its refusal.

import { field, h, setText } from "./dom.js";
import { failureText } from "./failures.js";
import { texts } from "./texts.js";

/**
 * Ask, then run. `note` offers a field for the audit log; `word` must be typed first; `content` is a node above the
 * fields. `run(note)` does it: the dialog closes when it succeeded. Resolves to its result, or undefined if given up.
 */
export function ask({ title, body = "", content = null, action, danger = false, note = false, word = null, run }) {
  return new Promise((resolve) => {
    let result;
    const noteField = note && h("input", { type: "text", maxlength: 500, autocomplete: "off", class: "note-field" });
    const wordField = word && h("input", { type: "text", autocomplete: "off", spellcheck: "false", class: "word-field" });
    const failure = h("p", { class: "dialog-failure", role: "alert" });
    const confirm = h("button", { type: "submit", class: danger ? "danger" : "primary", disabled: word !== null }, action);
    const cancel = h("button", { type: "button", on: { click: () => dialog.close() } }, texts.dialog.cancel);
    const form = h(
      "form",
      { method: "dialog", novalidate: true, on: { submit: (event) => { event.preventDefault(); void go(); } } },
      h("h2", { id: "dialog-title" }, title),
      body && h("p", {}, body),
      content,
      noteField && field(texts.dialog.note, noteField, texts.dialog.noteHint),
      wordField && field(texts.dialog.word(word), wordField),
      failure,
      h("div", { class: "dialog-actions" }, cancel, confirm),
    );
    const dialog = h("dialog", { "aria-labelledby": "dialog-title", on: { close: () => { dialog.remove(); resolve(result); } } }, form);
    wordField?.addEventListener("input", () => { confirm.disabled = wordField.value.trim() !== word; });

    async function go() {
      if (confirm.disabled) return;
      confirm.disabled = true;
      setText(failure, "");
      try {
        result = (await run(noteField ? noteField.value.trim() : "")) ?? true;
        dialog.close();
      } catch (error) {
        setText(failure, failureText(error));
        confirm.disabled = false;
      }
    }

    document.body.append(dialog);
    dialog.showModal();
    const first = content?.querySelector("input, select");
    (wordField || noteField || first || (danger ? cancel : confirm)).focus();
  });
}

/** Show something until it is closed, such as a key that is seen only once. */
export function tell({ title, content }) {
  const close = h("button", { type: "button", class: "primary", on: { click: () => dialog.close() } }, texts.dialog.done);
  const dialog = h(
    "dialog",
    { "aria-labelledby": "dialog-title" },
    h("div", { class: "dialog-body" }, h("h2", { id: "dialog-title" }, title), content, h("div", { class: "dialog-actions" }, close)),
  );
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => { dialog.remove(); resolve(); });
    document.body.append(dialog);
    dialog.showModal();
  });
}
