// What administrators did and tried, and whether the log is whole.

import { get } from "../api.js";
import { badge, h } from "../dom.js";
import { emptyState, failureNotice, failureText, load } from "../failures.js";
import { moment, oneOf, searchForm, searchQuery, words as wordField } from "../filters.js";
import { shortTime } from "../format.js";
import { onceColumn, pagedTable, textColumn } from "../table.js";
import { texts } from "../texts.js";

const words = texts.audit;
const LIMIT = 100;
const FIELDS = [
  wordField("actor", words.actor),
  wordField("action", words.action),
  wordField("target", words.target),
  wordField("tenant", texts.names.tenant),
  oneOf("accepted", words.outcome, [["true", words.accepted], ["false", words.refused]]),
  moment("since", texts.filters.since),
  moment("until", texts.filters.until),
];

function details({ body }) {
  const entries = Object.entries(body ?? {});
  if (entries.length === 0) return "";
  return h("details", {}, h("summary", {}, body.note || words.details), h("pre", { class: "source small" }, JSON.stringify(body, null, 2)));
}

const COLUMNS = [
  textColumn("number", words.number, ({ number }) => String(number), { numeric: true }),
  textColumn("at", texts.names.at, ({ at }) => shortTime(at)),
  onceColumn("actor", words.actor, ({ actor, role }) => h("span", {}, actor, " ", h("span", { class: "soft" }, texts.roles[role] ?? role))),
  onceColumn("action", words.action, ({ action }) => h("code", {}, action)),
  textColumn("target", words.target, ({ target, tenant }) => target || tenant),
  onceColumn("outcome", words.outcome, ({ accepted }) => (accepted ? badge(words.accepted, "good") : badge(words.refused, "bad"))),
  onceColumn("details", words.details, details),
];

/** The button that has the relay read the whole chain, and what came of it. */
function chainCheck(signal) {
  const outcome = h("p", { class: "chain", id: "chain", role: "status" });
  const button = h("button", { type: "button", id: "verify", on: { click: check } }, words.verify);

  async function check() {
    button.disabled = true;
    outcome.replaceChildren(badge(words.verifying, "busy"));
    try {
      const { ok, rows, first_bad: bad } = await get("/audit/verify", {}, signal);
      outcome.replaceChildren(ok ? badge(words.sound(rows), "good") : badge(words.broken(bad), "bad"));
    } catch (error) {
      if (!signal.aborted) outcome.replaceChildren(badge(failureText(error), "bad"));
    }
    button.disabled = false;
  }

  return h("div", { class: "actions" }, outcome, button);
}

export async function show({ place, query, me, signal }) {
  const wanted = searchQuery(FIELDS, query);
  const rows = h("section", { class: "card flush" });
  place.append(
    h("div", { class: "heading" }, h("h1", {}, words.heading), me.tenant === null && chainCheck(signal)),
    h("p", { class: "lead" }, words.hint),
    searchForm(["audit"], FIELDS, query),
    rows,
  );
  await load(rows, signal, () =>
    pagedTable({
      caption: words.heading,
      columns: COLUMNS,
      key: ({ number }) => number,
      rowData: ({ action, accepted }) => ({ action, accepted }),
      signal,
      empty: () => emptyState(words.empty),
      onFailure: (error) => rows.append(failureNotice(error)),
      fetchPage: async (before) => {
        const { audit, next } = await get("/audit", { ...wanted, before, limit: LIMIT }, signal);
        return { rows: audit, next };
      },
    }));
}
