// The two moments of publishing that need thought: what is about to change, and that somebody else was faster.

import { badge, h } from "./dom.js";
import { draftOf, fetchTheirs, rebase, setDraft } from "./drafts.js";
import { dateTime } from "./format.js";
import { diffView } from "./linediff.js";
import { changesTable, directionBadge } from "./review.js";
import { texts } from "./texts.js";

const words = texts.policies;

/** What stands in the question: how many changes of each direction, and all of them. */
export function publishSummary({ body: { changes } }) {
  const looser = changes.filter(({ direction }) => direction === "looser").length;
  const counts = Object.entries(Object.groupBy(changes, ({ direction }) => direction));
  return h("div", { class: "stack" },
    h("p", { class: "counts" }, counts.map(([direction, each]) => [directionBadge(direction), ` ${each.length} `])),
    looser > 0 && h("p", { class: "notice", data: { tone: "warn" } }, words.looserWarning(looser)),
    changesTable(changes));
}

/** The notice of a revision that came in between, with both ways out; `done` when one was taken. */
export async function staleNotice(done) {
  const { last, files } = await fetchTheirs();
  const keep = () => { rebase(files); done(); };
  const take = () => {
    for (const [path, { text, etag }] of files) setDraft(path, text, text, etag);
    done();
  };
  const compare = [...files].map(([path, { text }]) =>
    h("div", {}, h("h3", {}, h("code", {}, path), " ", badge(`− ${words.theirs}`), " ", badge(`+ ${words.yours}`)), diffView(text ?? "", draftOf(path)?.text ?? "", words.diffLabel(path))));
  return h("section", { class: "notice", id: "stale", role: "alert", data: { tone: "warn" } },
    h("h2", {}, words.staleTitle),
    last && h("p", {}, words.staleBody(last.number, last.author, dateTime(last.at)), " ", last.note && h("q", {}, last.note)),
    h("p", {}, words.staleHint),
    h("div", { class: "stack" }, compare),
    h("div", { class: "actions" },
      h("button", { type: "button", class: "primary", id: "stale-keep", on: { click: keep } }, words.staleKeep),
      h("button", { type: "button", id: "stale-take", on: { click: take } }, words.staleTake)));
}
