// What the changes mean, before they are published: problems, what changes, whom it meets, the texts side by side.

import { request } from "./api.js";
import { badge, h, setText } from "./dom.js";
import { changedFiles, draftCount, draftOf, draftPaths } from "./drafts.js";
import { emptyState, failureNotice, load } from "./failures.js";
import { shortHash, shortId } from "./format.js";
import { diffView } from "./linediff.js";
import { addressOf } from "./addresses.js";
import { table, onceColumn, textColumn } from "./table.js";
import { tabs } from "./tabs.js";
import { texts } from "./texts.js";

const words = texts.policies;
const TONES = { tighter: "good", looser: "bad", changed: "warn" };

export const directionBadge = (direction) => badge(words.directions[direction] ?? direction, TONES[direction] ?? "neutral");

const whatChanges = ({ what, old, new: now }) =>
  h("span", {}, what && h("code", {}, what), what && " ", h("span", { class: "was" }, old), " → ", h("span", {}, now));

/** Semantic changes as a table. */
export function changesTable(changes) {
  if (changes.length === 0) return emptyState(words.noChanges);
  const made = table({
    caption: words.changes,
    key: ({ index }) => index,
    columns: [
      textColumn("policy", texts.names.policy, ({ policy }) => policy),
      onceColumn("what", words.what, whatChanges),
      onceColumn("direction", words.direction, ({ direction }) => directionBadge(direction)),
    ],
    rowData: ({ direction }) => ({ direction }),
  });
  made.update(changes.map((change, index) => ({ ...change, index })));
  return made.node;
}

function affected({ live = [], recorded = [], truncated = false }) {
  const running = table({
    caption: words.liveAffected,
    key: ({ session }) => session,
    columns: [
      onceColumn("session", texts.names.session, ({ session }) => h("a", { href: addressOf(["session", session]) }, h("code", {}, shortId(session)))),
      textColumn("tenant", texts.names.tenant, ({ tenant }) => tenant),
      textColumn("from", words.from, ({ from }) => from ?? ""),
      textColumn("to", words.to, ({ to }) => to ?? words.nobody),
      textColumn("changes", words.changes, ({ changes }) => String(changes ?? ""), { numeric: true }),
      textColumn("how", words.how, ({ how }) => words.howWords[how] ?? how),
    ],
  });
  const seen = table({
    caption: words.recordedAffected,
    key: ({ tenant, subject }) => `${tenant} ${subject}`,
    columns: [
      textColumn("tenant", texts.names.tenant, ({ tenant }) => tenant),
      textColumn("subject", texts.names.subject, ({ subject }) => shortHash(subject)),
      textColumn("from", words.from, ({ from }) => from ?? ""),
      textColumn("to", words.to, ({ to, certain }) => [to ?? words.nobody, certain === false && `(${words.uncertain})`].filter(Boolean).join(" ")),
    ],
  });
  running.update(live);
  seen.update(recorded);
  return h("div", { class: "stack" },
    h("p", { class: "hint" }, words.dryRunHint),
    h("h3", {}, words.liveAffected), live.length > 0 ? running.node : emptyState(words.noneLive),
    h("h3", {}, words.recordedAffected), recorded.length > 0 ? seen.node : emptyState(words.noneRecorded),
    truncated && h("p", { class: "hint" }, words.truncated));
}

function problemList(problems, goTo) {
  if (problems.length === 0) return emptyState(words.sound);
  const row = ({ file, line, path, message, severity }) =>
    h("li", { data: { severity, file, line } },
      h("button", { type: "button", class: "problem", "aria-label": `${words.severity[severity]}: ${message} ${words.goTo(file, line)}`, on: { click: () => goTo(file, line) } },
        badge(words.severity[severity] ?? severity, severity === "error" ? "bad" : "warn"),
        h("span", { class: "problem-text" }, path && h("code", {}, path), " ", message),
        h("span", { class: "soft figures" }, file, line > 0 && `:${line}`)));
  return h("ol", { class: "problems", id: "problems" }, problems.map(row));
}

/** The panel of checks; `goTo(file, line)` shows a place, `onProblems(problems)` hears what was found. */
export function review({ goTo, onProblems, signal }) {
  const places = { problems: h("div", { "aria-live": "polite" }), changes: h("div"), dryRun: h("div"), text: h("div") };
  const state = h("span", { class: "soft check-state", id: "check-state", role: "status" });
  let problems = [];
  let version = 0;
  let compared = null;

  const errors = () => problems.filter(({ severity }) => severity === "error").length;
  const view = tabs(words.tabs, [["problems", words.problems, places.problems], ["changes", words.changes, places.changes], ["dry-run", words.dryRun, places.dryRun], ["text", words.text, places.text]], (id) => draw(id));

  function dryRun() {
    if (compared?.version !== version) compared = { version, answer: request("POST", "/policies/dry-run", { json: { files: changedFiles() }, signal }) };
    return compared.answer.then(({ body }) => body);
  }

  function draw(id) {
    if (draftCount() === 0) {
      for (const place of Object.values(places)) place.replaceChildren(emptyState(words.notChecked));
    } else if (id === "text") {
      places.text.replaceChildren(...draftPaths().map((path) => {
        const { text, was } = draftOf(path);
        return h("div", {}, h("h3", {}, h("code", {}, path)), diffView(was ?? "", text ?? "", words.diffLabel(path)));
      }));
    } else if (id !== "problems") {
      const place = id === "changes" ? places.changes : places.dryRun;
      if (errors() > 0) place.replaceChildren(emptyState(words.brokenFirst));
      else void load(place, signal, async () => (id === "changes" ? changesTable((await dryRun()).changes) : affected(await dryRun())));
    }
  }

  function showProblems(found) {
    problems = found.toSorted((a, b) => (a.severity === "error" ? 0 : 1) - (b.severity === "error" ? 0 : 1));
    const bad = errors();
    setText(state, words.problemCount(bad, found.length - bad));
    state.dataset.outcome = bad > 0 ? "broken" : found.length > 0 ? "doubtful" : "sound";
    places.problems.replaceChildren(problemList(problems, goTo));
    onProblems(found);
    draw(view.selected());
  }

  async function check() {
    const asked = version;
    if (draftCount() === 0) return showNothing();
    setText(state, words.checking);
    state.dataset.outcome = "checking";
    try {
      const { body } = await request("POST", "/policies/check", { json: { files: changedFiles() }, signal });
      if (asked === version) showProblems(body.problems);
    } catch (error) {
      if (signal.aborted) return undefined;
      setText(state, "");
      places.problems.replaceChildren(failureNotice(error, () => void check()));
    }
    return undefined;
  }

  function showNothing() {
    setText(state, "");
    state.dataset.outcome = "";
    onProblems([]);
    draw(view.selected());
  }

  draw(view.selected());
  view.node.querySelector("[role=tablist]").after(h("p", { class: "check-line" }, state));
  return { node: view.node, check, showProblems, changed: () => { version += 1; } };
}
