// Sessions that are over, from the store.

import { get } from "../api.js";
import { badge, h } from "../dom.js";
import { emptyState, failureNotice, load } from "../failures.js";
import { moment, oneOf, searchForm, searchQuery, words as wordField } from "../filters.js";
import { END_REASONS } from "../reasons.js";
import { compact, shortTime, dollars, duration, shortHash, shortId } from "../format.js";
import { addressOf } from "../addresses.js";
import { onceColumn, pagedTable, textColumn } from "../table.js";
import { texts } from "../texts.js";

const { names } = texts;
const LIMIT = 50;
const FIELDS = [
  wordField("tenant", names.tenant),
  wordField("subject", names.subject),
  oneOf("reason", names.reason, END_REASONS.map((reason) => [reason, reason])),
  moment("since", texts.filters.since),
  moment("until", texts.filters.until),
];

const lengthOf = (session) => session.seconds ?? session.ended_at - session.started_at;
const ORDINARY = new Set(["client_left", "client_hung_up", "early_unused", "request_cancelled"]);

const COLUMNS = [
  onceColumn("id", names.session, ({ id }) => h("a", { href: addressOf(["session", id]), title: id }, h("code", {}, shortId(id)))),
  textColumn("ended", names.ended, (session) => shortTime(session.ended_at)),
  textColumn("tenant", names.tenant, ({ tenant }) => tenant),
  onceColumn("subject", names.subject, ({ subject }) => h("code", { title: subject ?? "" }, shortHash(subject))),
  textColumn("policy", names.policy, ({ policy }) => policy),
  onceColumn("reason", names.reason, ({ reason }) => badge(reason, ORDINARY.has(reason) ? "neutral" : "warn")),
  textColumn("length", names.length, (session) => duration(lengthOf(session)), { numeric: true }),
  textColumn("tokens", names.tokens, ({ tokens }) => compact(tokens), { numeric: true }),
  textColumn("cost", names.cost, ({ dollars: cost }) => dollars(cost), { numeric: true }),
];

export async function show({ place, query, signal }) {
  const wanted = searchQuery(FIELDS, query);
  const rows = h("section", { class: "card flush" });
  place.append(h("h1", {}, texts.nav.ended), searchForm(["ended"], FIELDS, query), rows);
  await load(rows, signal, () =>
    pagedTable({
      caption: texts.nav.ended,
      columns: COLUMNS,
      key: ({ id }) => id,
      signal,
      rowData: ({ id }) => ({ session: id }),
      empty: () => emptyState(texts.ended.empty),
      onFailure: (error) => rows.append(failureNotice(error)),
      fetchPage: async (before) => {
        const { sessions, next } = await get("/sessions/recorded", { ...wanted, before, limit: LIMIT }, signal);
        return { rows: sessions, next };
      },
    }));
}
