// What was used, by whom, and how much of today's limits is left.

import { get } from "../api.js";
import { bar, columnChart } from "../charts.js";
import { choice, field, h } from "../dom.js";
import { emptyState, load } from "../failures.js";
import { day, searchForm, searchQuery, words as wordField } from "../filters.js";
import { compact, count, dayOf, dollars, minutes, shortHash, wholePercent } from "../format.js";
import { live } from "../live.js";
import { table, textColumn } from "../table.js";
import { texts } from "../texts.js";

const words = texts.usage;
const { names } = texts;
const DAYS = 29;
const MOST_DAYS = 92; // columns of the chart; the table has all days
const NEARLY = 0.8;

/** Each measure: what of a row, how it is written, and the limits' last word. */
const MEASURES = {
  sessions: { of: ({ sessions }) => sessions, write: count },
  minutes: { of: ({ seconds }) => seconds / 60, write: (value) => minutes(value * 60) },
  tokens: { of: ({ tokens }) => tokens, write: compact },
  dollars: { of: (row) => row.dollars, write: dollars },
};
const DAILY = ["minutes", "tokens", "dollars"];

export async function show({ place, query, me, signal }) {
  const fields = [
    day("since", texts.filters.since, dayOf(Date.now(), DAYS)),
    day("until", texts.filters.until, dayOf(Date.now())),
    me.tenant === null && wordField("tenant", names.tenant),
    { name: "by", label: words.by, fallback: "day", make: (value) => choice(Object.entries(words.byWords), value) },
  ].filter(Boolean);
  const today = h("section", { class: "card", id: "limits" }, h("h2", {}, words.today));
  const spent = h("div", { class: "stack" });
  const report = h("div", { class: "stack" });
  today.append(spent, h("p", { class: "hint" }, words.todayHint));
  place.append(h("h1", {}, words.heading), today, h("h2", {}, words.report), searchForm(["usage"], fields, query), report);
  const wanted = searchQuery(fields, query);
  await Promise.all([
    load(spent, signal, async () => limitsOf(await get("/limits", {}, signal), me)),
    load(report, signal, async () => reportOf((await get("/usage", wanted, signal)).rows, wanted)),
  ]);
}

const sumUp = (rows) =>
  rows.reduce((sum, row) => ({ sessions: sum.sessions + row.sessions, seconds: sum.seconds + row.seconds, tokens: sum.tokens + row.tokens, dollars: sum.dollars + row.dollars }), { sessions: 0, seconds: 0, tokens: 0, dollars: 0 });

/** Limits that are set, by scope, and what was used of them today. */
function limitsOf({ limits, today }, me) {
  const limitOf = (scope, measure) => limits[`${scope}_${measure}_a_day`] || 0;
  const running = (match) => (live.sessions ?? []).filter(match).length;
  const scopes = [
    me.tenant === null && { scope: "relay", rows: [{ name: words.scopes.relay, used: sumUp(today.tenants), running: running(() => true) }] },
    { scope: "tenant", rows: today.tenants.map((row) => ({ name: row.tenant, used: row, running: running(({ tenant }) => tenant === row.tenant) })) },
    { scope: "user", rows: today.subjects.map((row) => ({ name: shortHash(row.subject), used: row, running: running(({ subject }) => subject === row.subject) })) },
  ];
  const shown = scopes.filter(Boolean).flatMap(({ scope, rows }) => {
    const measures = DAILY.filter((measure) => limitOf(scope, measure) > 0);
    const most = limits[`${scope}_sessions`] || 0;
    if (measures.length === 0 && most === 0) return [];
    const meters = (row) => [
      most > 0 && meter(words.limitNames.sessions, row.running, most, count),
      ...measures.map((measure) => meter(words.limitNames[measure], MEASURES[measure].of(row.used), limitOf(scope, measure), MEASURES[measure].write)),
    ].filter(Boolean);
    const lines = rows.map((row) => h("li", { data: { scope, name: row.name } }, h("p", { class: "limit-name" }, row.name), h("div", { class: "limit-meters" }, meters(row))));
    return [scope !== "relay" && h("h3", {}, words.scopes[scope]), lines.length > 0 ? h("ul", { class: "plain limits" }, lines) : h("p", { class: "soft" }, words.nothingToday)].filter(Boolean);
  });
  return shown.length > 0 ? shown : [emptyState(words.noLimits)];
}

function meter(name, used, limit, write) {
  const ratio = used / limit;
  const tone = ratio >= 1 ? "bad" : ratio >= NEARLY ? "warn" : "accent";
  return h("div", { class: "meter-row" }, h("span", {}, name), bar(ratio, tone), h("span", { class: "figures" }, words.of(write(used), write(limit)), " ", h("span", { class: "soft" }, wholePercent(ratio))));
}

function reportOf(rows, { by, since, until }) {
  if (rows.length === 0) return [h("div", { class: "card" }, emptyState(words.empty))];
  const body = h("div", { class: "stack" });
  const measure = choice(Object.keys(MEASURES).map((name) => [name, words.limitNames[name]]), "minutes", { id: "measure" });
  const draw = () => body.replaceChildren(...[by === "day" && chart(rows, measure.value, since, until), usageTable(rows, by, measure.value)].filter(Boolean));
  measure.addEventListener("change", draw);
  draw();
  return [h("div", { class: "narrow-field" }, field(words.measure, measure)), body];
}

/** The last days of the period, those without any use too. */
function chart(rows, name, since, until) {
  const used = new Map(rows.map((row) => [row.day, MEASURES[name].of(row)]));
  const end = Date.parse(until) || Date.now();
  const days = Array.from({ length: MOST_DAYS }, (_, back) => dayOf(end, MOST_DAYS - 1 - back)).filter((each) => each >= since);
  const label = words.chart(words.limitNames[name]);
  const values = days.map((each) => used.get(each) ?? 0);
  const highest = words.highest(MEASURES[name].write(Math.max(0, ...values)));
  return h("section", { class: "card" }, h("h3", {}, label), h("p", { class: "hint" }, highest), columnChart(values, days.map((each) => each.slice(5)), label));
}

function usageTable(rows, by, name) {
  const measure = MEASURES[name];
  const top = Math.max(...rows.map(measure.of)) || 1;
  const total = sumUp(rows);
  const title = { day: names.day, tenant: names.tenant, subject: names.subject }[by];
  const shown = (row) => (by === "subject" ? shortHash(row.subject) : row[by]);
  const figures = Object.keys(MEASURES).map((each) =>
    textColumn(each, words.limitNames[each], (row) => MEASURES[each].write(MEASURES[each].of(row)), { numeric: true, value: MEASURES[each].of }));
  const made = table({
    caption: words.report,
    key: (row) => [row.day, row.tenant, row.subject].join(" "),
    sort: by === "day" ? ["of", true] : [name, true],
    columns: [
      textColumn("of", title, shown, { value: (row) => row[by] }),
      by === "subject" && textColumn("tenant", names.tenant, ({ tenant }) => tenant ?? "", { value: ({ tenant }) => tenant }),
      by !== "day" && { id: "bar", title: words.measure, unseen: true, show: (row, cell) => cell.replaceChildren(bar(measure.of(row) / top)) },
      ...figures,
    ].filter(Boolean),
  });
  made.update(rows);
  const sums = Object.entries(MEASURES).map(([each, { of, write }]) => `${words.limitNames[each]} ${write(of(total))}`).join(" · ");
  return h("section", { class: "card flush" }, made.node, h("p", { class: "table-foot figures" }, h("strong", {}, words.total), " ", sums));
}
