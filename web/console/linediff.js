// What two texts differ in, line by line.

import { h } from "./dom.js";
import { emptyState } from "./failures.js";
import { texts } from "./texts.js";

const MOST_CELLS = 4_000_000; // of the table that compares what head and tail do not share
const AROUND = 3;

/** `[["same" | "removed" | "added", line]]`, or null where the texts are too long to compare. */
export function diffLines(old, now) {
  const [a, b] = [old.split("\n"), now.split("\n")];
  let head = 0;
  while (head < a.length && head < b.length && a[head] === b[head]) head += 1;
  let tail = 0;
  while (tail < a.length - head && tail < b.length - head && a.at(-1 - tail) === b.at(-1 - tail)) tail += 1;
  const middle = between(a.slice(head, a.length - tail), b.slice(head, b.length - tail));
  if (middle === null) return null;
  const same = (line) => ["same", line];
  return [...a.slice(0, head).map(same), ...middle, ...a.slice(a.length - tail).map(same)];
}

/** The longest common subsequence, by the table of its lengths. */
function between(a, b) {
  if (a.length * b.length > MOST_CELLS) return null;
  const width = b.length + 1;
  const lengths = new Uint32Array((a.length + 1) * width);
  for (let i = a.length - 1; i >= 0; i -= 1) {
    for (let j = b.length - 1; j >= 0; j -= 1) {
      lengths[i * width + j] = a[i] === b[j] ? lengths[(i + 1) * width + j + 1] + 1 : Math.max(lengths[(i + 1) * width + j], lengths[i * width + j + 1]);
    }
  }
  const out = [];
  let [i, j] = [0, 0];
  while (i < a.length && j < b.length) {
    if (a[i] === b[j]) out.push(["same", a[i++], j++]);
    else if (lengths[(i + 1) * width + j] >= lengths[i * width + j + 1]) out.push(["removed", a[i++]]);
    else out.push(["added", b[j++]]);
  }
  while (i < a.length) out.push(["removed", a[i++]]);
  while (j < b.length) out.push(["added", b[j++]]);
  return out.map(([kind, line]) => [kind, line]);
}

const SIGNS = { same: " ", removed: "−", added: "+" };

/** The differences with a few lines around each, as an element. */
export function diffView(old, now, label) {
  const lines = diffLines(old, now);
  if (lines === null) return emptyState(texts.policies.tooLong);
  if (lines.every(([kind]) => kind === "same")) return emptyState(texts.policies.same);
  const near = new Set();
  lines.forEach(([kind], index) => {
    if (kind !== "same") for (let at = index - AROUND; at <= index + AROUND; at += 1) near.add(at);
  });
  let gap = false;
  const rows = lines.flatMap(([kind, line], index) => {
    if (!near.has(index)) {
      if (gap) return [];
      gap = true;
      return [h("div", { class: "diff-gap", "aria-hidden": "true" }, "⋯")];
    }
    gap = false;
    const word = kind === "same" ? null : h("span", { class: "unseen" }, kind === "added" ? texts.policies.diffAdded : texts.policies.diffRemoved, ": ");
    return [h("div", { class: "diff-line", data: { kind } }, h("span", { class: "diff-sign", "aria-hidden": "true" }, SIGNS[kind]), word, h("span", {}, line || " "))];
  });
  return h("div", { class: "diff", role: "group", tabindex: "0", "aria-label": label }, rows);
}
