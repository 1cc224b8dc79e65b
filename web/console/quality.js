// What a leg's figures mean: three words, from the worst of loss, jitter and round trip.

import { signalBars } from "./charts.js";
import { h, setText } from "./dom.js";
import { milliseconds, percent } from "./format.js";
import { texts } from "./texts.js";

// Up to the first it is good, up to the second fair; speech suffers audibly beyond.
const BOUNDS = { loss: [0.01, 0.03], jitter_ms: [20, 50], rtt_ms: [150, 400] };
const LEVELS = { unknown: 0, poor: 1, fair: 2, good: 3 };
const TONES = { unknown: "neutral", poor: "bad", fair: "warn", good: "good" };

/** `good`, `fair`, `poor`, or `unknown` while nothing was measured. */
export function gradeOf(quality) {
  const grades = Object.entries(BOUNDS)
    .filter(([name]) => typeof quality?.[name] === "number")
    .map(([name, [good, fair]]) => (quality[name] <= good ? "good" : quality[name] <= fair ? "fair" : "poor"));
  if (grades.length === 0) return "unknown";
  return ["poor", "fair", "good"].find((grade) => grades.includes(grade));
}

/** The worse of both legs. */
export function sessionGrade(session) {
  const grades = ["downstream", "upstream"].map((leg) => gradeOf(session.quality?.[leg]));
  return ["poor", "fair", "good"].find((grade) => grades.includes(grade)) ?? "unknown";
}

export const gradeTone = (grade) => TONES[grade];

/** A leg's quality in a table cell: bars, word, figures; updated in place. */
export function showQuality(cell, quality) {
  const grade = gradeOf(quality);
  if (!cell.hasChildNodes()) cell.append(h("span", { class: "quality" }, h("span"), h("span", { class: "quality-word" }), h("span", { class: "figures" })));
  const [bars, word, figures] = cell.firstElementChild.children;
  if (cell.dataset.grade !== grade) {
    cell.dataset.grade = grade;
    bars.replaceChildren(signalBars(LEVELS[grade]));
    setText(word, texts.quality[grade]);
  }
  const known = grade !== "unknown";
  setText(figures, known ? [percent(quality.loss), milliseconds(quality.jitter_ms), milliseconds(quality.rtt_ms)].join(" · ") : "");
}
