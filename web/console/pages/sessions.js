// Who talks now, how well, and the button that ends it.

import { badge, choice, field, h, setText } from "../dom.js";
import { endSession } from "../ending.js";
import { emptyState, loadingState } from "../failures.js";
import { compact, count, dollars, duration, shortHash, shortId } from "../format.js";
import { live, onLive } from "../live.js";
import { gradeOf, sessionGrade, showQuality } from "../quality.js";
import { addressOf } from "../addresses.js";
import { onceColumn, table, textColumn } from "../table.js";
import { texts } from "../texts.js";

const words = texts.sessions;
const { names } = texts;
const AT_ONCE = 200;
const PHASE_TONES = { active: "good", waiting: "warn", closed: "neutral" };
const GRADES = { unknown: 0, good: 1, fair: 2, poor: 3 };

const sumOf = (turns) => Object.values(turns ?? {}).reduce((sum, number) => sum + number, 0);

function showPhase(session, cell) {
  if (cell.dataset.phase === session.phase) return;
  cell.dataset.phase = session.phase;
  cell.replaceChildren(badge(texts.phases[session.phase] ?? session.phase, PHASE_TONES[session.phase] ?? "busy"));
}

function showTurns({ turns }, cell) {
  setText(cell, count(sumOf(turns)));
  cell.title = words.turnsOf(turns);
}

function showUse(session, cell) {
  if (!cell.hasChildNodes()) cell.append(h("span", {}, h("span"), h("span", { class: "under" })));
  const [tokens, cost] = cell.firstElementChild.children;
  setText(tokens, compact(session.tokens));
  setText(cost, dollars(session.dollars));
}

const qualityColumn = (leg) => ({
  id: leg,
  title: names[leg],
  show: (session, cell) => showQuality(cell, session.quality?.[leg]),
  value: (session) => GRADES[gradeOf(session.quality?.[leg])],
});

function columnsFor(mayEnd) {
  const who = ({ tenant, subject }) => h("span", {}, tenant, h("code", { class: "under", title: subject ?? "" }, shortHash(subject)));
  const end = (session) =>
    h("button", { type: "button", class: "small danger-quiet", "aria-label": words.endNamed(session.id), on: { click: () => void endSession(session) } }, words.end);
  return [
    onceColumn("id", names.session, ({ id }) => h("a", { href: addressOf(["session", id]), title: id }, h("code", {}, shortId(id)))),
    onceColumn("tenant", names.who, who, { value: ({ tenant }) => tenant }),
    textColumn("policy", names.policy, ({ policy }) => policy, { value: ({ policy }) => policy }),
    { id: "phase", title: names.phase, show: showPhase, value: ({ phase }) => phase },
    textColumn("age", names.age, ({ seconds }) => duration(seconds), { numeric: true, value: ({ seconds }) => seconds }),
    qualityColumn("downstream"),
    qualityColumn("upstream"),
    { id: "turns", title: names.turns, numeric: true, show: showTurns, value: ({ turns }) => sumOf(turns) },
    { id: "tokens", title: names.tokens, numeric: true, show: showUse, value: ({ tokens }) => tokens },
    mayEnd && onceColumn("actions", names.actions, end, { unseen: true }),
  ].filter(Boolean);
}

const matches = (session, wanted) =>
  [session.id, session.tenant, session.subject, session.policy, session.member, session.deployment].some((value) => String(value ?? "").toLowerCase().includes(wanted));

export function show({ place, may, query, signal }) {
  const filter = h("input", { type: "search", id: "session-filter", autocomplete: "off", spellcheck: "false", placeholder: words.filterHint, value: query.get("filter") });
  const phase = choice([["", texts.filters.any], ...Object.entries(texts.phases).filter(([name]) => name !== "closed")], "", { id: "session-phase" });
  const grade = choice([["", texts.filters.any], ...Object.entries(texts.quality)], "", { id: "session-quality" });
  const summary = h("p", { class: "hint", id: "session-count", role: "status" });
  const rows = table({
    caption: words.heading,
    columns: columnsFor(may("operate")),
    key: ({ id }) => id,
    sort: ["age", false],
    rowData: ({ id }) => ({ session: id }),
  });
  const all = h("button", { type: "button", class: "more" });
  const nothing = h("div", {}, loadingState());
  let most = AT_ONCE;

  const draw = () => {
    if (live.sessions === null) return;
    const wanted = filter.value.trim().toLowerCase();
    const found = live.sessions.filter((session) =>
      matches(session, wanted) && (!phase.value || session.phase === phase.value) && (!grade.value || sessionGrade(session) === grade.value));
    rows.update(found.slice(0, most));
    rows.node.hidden = found.length === 0;
    nothing.hidden = found.length > 0;
    nothing.replaceChildren(emptyState(live.sessions.length === 0 ? words.empty : words.noneMatch));
    all.hidden = found.length <= most;
    setText(all, texts.table.showAll(found.length));
    setText(summary, [words.shown(found.length, live.sessions.length), live.more > 0 && words.more(live.more)].filter(Boolean).join(", "));
  };

  all.hidden = true;
  all.addEventListener("click", () => { most = Infinity; draw(); });
  for (const control of [filter, phase, grade]) control.addEventListener("input", draw);
  place.append(
    h("h1", {}, words.heading),
    h("div", { class: "filters live-filters" }, field(words.filter, filter), field(words.phase, phase), field(words.quality, grade)),
    summary,
    h("section", { class: "card flush", id: "sessions" }, rows.node, nothing, all),
  );
  onLive(draw, signal);
  draw();
}
