// A text area with line numbers, marks where something is wrong, and colours behind its text. Undo stays the browser's own.

import { h } from "./dom.js";
import { colouredLine } from "./highlight.js";
import { texts } from "./texts.js";

const INDENT = "  ";

/**
 * `.node` is the element. `.setProblems(problems)` marks `{line, severity, message}`, `.goTo(line)` puts the cursor
 * there. `onInput(text)` is called for every change a person makes.
 */
export function editor({ label, text, readOnly, onInput }) {
  const area = h("textarea", {
    class: "code-area",
    id: "policy-text",
    "aria-label": label,
    "aria-describedby": "editor-hint",
    spellcheck: "false",
    autocapitalize: "none",
    autocomplete: "off",
    wrap: "off",
    readonly: readOnly,
  });
  const gutter = h("div", { class: "code-gutter", "aria-hidden": "true" });
  const colours = h("div", { class: "code-colours", "aria-hidden": "true" });
  const node = h("div", { class: "code" }, h("div", { class: "code-gutter-frame" }, gutter), h("div", { class: "code-frame" }, colours, area));
  let lines = [];
  let problems = [];
  let released = false;

  /** Redraw the lines that differ: what is alike before and after stays. */
  function draw() {
    const now = area.value.split("\n");
    let head = 0;
    while (head < lines.length && head < now.length && lines[head] === now[head]) head += 1;
    let tail = 0;
    while (tail < lines.length - head && tail < now.length - head && lines.at(-1 - tail) === now.at(-1 - tail)) tail += 1;
    for (let count = lines.length - head - tail; count > 0; count -= 1) colours.children[head].remove();
    const after = colours.children[head] ?? null;
    for (const line of now.slice(head, now.length - tail)) colours.insertBefore(colouredLine(line), after);
    while (gutter.children.length > now.length) gutter.lastElementChild.remove();
    while (gutter.children.length < now.length) gutter.append(h("span", {}, String(gutter.children.length + 1)));
    lines = now;
    mark();
  }

  function mark() {
    const worst = new Map();
    for (const { line, severity, message } of problems) if (worst.get(line)?.severity !== "error") worst.set(line, { severity, message });
    [...gutter.children].forEach((number, index) => {
      const problem = worst.get(index + 1);
      number.dataset.severity = problem?.severity ?? "";
      number.title = problem?.message ?? "";
      colours.children[index].dataset.severity = problem?.severity ?? "";
    });
    const invalid = problems.some(({ severity }) => severity === "error");
    area.setAttribute("aria-invalid", String(invalid));
  }

  function follow() {
    gutter.style.transform = `translateY(${-area.scrollTop}px)`;
    colours.style.transform = `translate(${-area.scrollLeft}px, ${-area.scrollTop}px)`;
  }

  // execCommand is what keeps the browser's undo; nothing else does.
  const insert = (typed) => document.execCommand("insertText", false, typed);

  function onKey(event) {
    if (readOnly || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "Escape") {
      released = true;
    } else if (event.key === "Tab" && !event.shiftKey && !released) {
      event.preventDefault();
      insert(INDENT);
    } else if (event.key === "Enter") {
      const before = area.value.slice(0, area.selectionStart);
      const indent = /^ */.exec(before.slice(before.lastIndexOf("\n") + 1))[0];
      event.preventDefault();
      insert(`\n${indent}`);
    }
    if (event.key !== "Escape" && event.key !== "Tab") released = false;
  }

  area.value = text;
  area.addEventListener("input", () => { draw(); onInput(area.value); });
  area.addEventListener("scroll", follow);
  area.addEventListener("keydown", onKey);
  area.addEventListener("blur", () => { released = false; });
  draw();

  return {
    node: h("div", {}, node, h("p", { class: "hint", id: "editor-hint" }, readOnly ? "" : texts.policies.editorHint)),
    setProblems(found) {
      problems = found;
      mark();
    },
    goTo(line) {
      const start = lines.slice(0, line - 1).reduce((sum, each) => sum + each.length + 1, 0);
      area.focus();
      area.setSelectionRange(start, start + (lines[line - 1]?.length ?? 0));
      const height = area.scrollHeight / Math.max(1, lines.length);
      area.scrollTop = Math.max(0, (line - 1) * height - area.clientHeight / 2);
      follow();
    },
  };
}
