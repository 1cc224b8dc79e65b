// What policies decided, searched.

import { get } from "../api.js";
import { badge, h } from "../dom.js";
import { emptyState, failureNotice, load } from "../failures.js";
import { moment, oneOf, searchForm, searchQuery, words as wordField } from "../filters.js";
import { shortTime, shortId } from "../format.js";
import { addressOf } from "../addresses.js";
import { onceColumn, pagedTable, textColumn } from "../table.js";
import { texts } from "../texts.js";

const words = texts.decisions;
const { names } = texts;
const LIMIT = 100;
const TONES = { refuse: "bad", end: "bad", strip: "warn", rewrite: "warn", withhold: "warn" };
const FIELDS = [
  wordField("session", names.session),
  wordField("tenant", names.tenant),
  wordField("policy", names.policy),
  oneOf("verdict", words.verdict, Object.entries(words.verdicts)),
  wordField("rule", words.rule),
  moment("since", texts.filters.since),
  moment("until", texts.filters.until),
];

function verdictOf({ verdict, would_be: wouldBe }) {
  const done = badge(words.verdicts[verdict] ?? verdict, TONES[verdict] ?? "neutral");
  return wouldBe ? h("span", {}, done, " ", h("span", { class: "soft" }, words.wouldBe(wouldBe))) : done;
}

const COLUMNS = [
  textColumn("at", names.at, ({ at }) => shortTime(at)),
  onceColumn("session", names.session, ({ session }) => h("a", { href: addressOf(["session", session]), title: session }, h("code", {}, shortId(session)))),
  onceColumn("tenant", names.tenantPolicy, ({ tenant, policy }) => h("span", {}, tenant, h("span", { class: "under" }, policy))),
  textColumn("leg", words.leg, ({ leg }) => texts.legs[leg] ?? leg),
  onceColumn("event", words.event, (row) => h("code", {}, row.event_type)),
  onceColumn("verdict", words.verdict, verdictOf),
  onceColumn("rule", words.rule, ({ rule }) => h("code", {}, rule)),
];

export async function show({ place, query, signal }) {
  const wanted = searchQuery(FIELDS, query);
  const rows = h("section", { class: "card flush" });
  place.append(h("h1", {}, words.heading), h("p", { class: "lead" }, words.hint), searchForm(["decisions"], FIELDS, query), rows);
  await load(rows, signal, () =>
    pagedTable({
      caption: words.heading,
      columns: COLUMNS,
      key: ({ number }) => number,
      signal,
      empty: () => emptyState(words.empty),
      onFailure: (error) => rows.append(failureNotice(error)),
      fetchPage: async (before) => {
        const { decisions, next } = await get("/decisions", { ...wanted, before, limit: LIMIT }, signal);
        return { rows: decisions, next };
      },
    }));
}
