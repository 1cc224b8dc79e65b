// Every revision of the policies: who, when, why; what one changed against another; and the way back.

import { get, request } from "../api.js";
import { ask } from "../dialog.js";
import { badge, choice, field, h, toast } from "../dom.js";
import { emptyState, failureNotice, load } from "../failures.js";
import { dateTime, shortHash } from "../format.js";
import { changesTable } from "../review.js";
import { addressOf } from "../addresses.js";
import { onceColumn, pagedTable, textColumn } from "../table.js";
import { texts } from "../texts.js";

const words = texts.revisions;
const LIMIT = 50;

const reload = () => dispatchEvent(new Event("hashchange"));

export async function show({ place, path: [number], query, may, signal }) {
  if (number !== undefined) return showOne(place, number, may, signal);
  const body = h("div", { class: "stack" });
  place.append(h("h1", {}, words.heading), body);
  return load(body, signal, async () => {
    const set = await get("/policies", {}, signal);
    const failed = (error) => body.append(failureNotice(error));
    const rows = await pagedTable({
      caption: words.heading,
      columns: columnsFor(set, may),
      key: (revision) => revision.number,
      rowData: (revision) => ({ revision: revision.number }),
      signal,
      empty: () => emptyState(words.empty),
      onFailure: failed,
      fetchPage: async (before) => {
        const { revisions, next } = await get("/policies/revisions", { before, limit: LIMIT }, signal);
        return { rows: revisions, next };
      },
    });
    const comparison = h("div");
    const [from, to] = [query.get("from"), query.get("to")];
    if (from && to) void showDiff(comparison, from, to, signal);
    return [set.revision > 1 && may("read_policies") && compareForm(set.revision, from, to), comparison, h("section", { class: "card flush" }, rows)].filter(Boolean);
  });
}

function columnsFor(set, may) {
  const name = ({ number }) => h("span", {}, may("read_policies") ? h("a", { href: addressOf(["revisions", String(number)]), "aria-label": words.viewNamed(number) }, String(number)) : String(number),
    number === set.revision && [" ", badge(words.current, "good")]);
  const back = ({ number }) => number !== set.revision && h("button", { type: "button", class: "small", "aria-label": words.rollbackNamed(number), on: { click: () => void rollback(number, set.etag) } }, words.rollback);
  return [
    onceColumn("number", texts.names.revision, name),
    textColumn("at", texts.names.at, ({ at }) => dateTime(at)),
    textColumn("author", words.author, ({ author }) => author),
    textColumn("note", texts.names.note, ({ note }) => note),
    onceColumn("hash", words.hash, ({ hash }) => h("code", { class: "soft", title: hash }, shortHash(hash))),
    may("govern") && set.managed && onceColumn("actions", texts.names.actions, (row) => back(row) || "", { unseen: true }),
  ].filter(Boolean);
}

function rollback(number, etag) {
  return ask({
    title: words.rollbackTitle(number),
    body: words.rollbackBody,
    action: words.rollback,
    note: true,
    run: async (note) => {
      const { body } = await request("POST", `/policies/revisions/${number}/rollback`, { json: { note }, etag });
      toast(words.rolledBack(number, body.revision));
      reload();
    },
  });
}

function compareForm(last, from, to) {
  const number = (value) => h("input", { type: "number", min: 1, max: last, value });
  const [old, now] = [number(from ?? last - 1), number(to ?? last)];
  const go = (event) => {
    event.preventDefault();
    location.hash = addressOf(["revisions"], { from: old.value, to: now.value });
  };
  return h("form", { class: "filters", novalidate: true, on: { submit: go } },
    field(words.from, old), field(words.to, now),
    h("div", { class: "filter-actions" }, h("button", { type: "submit", class: "primary" }, words.compare)));
}

async function showDiff(place, from, to, signal) {
  const body = h("div");
  place.append(h("section", { class: "card", id: "comparison" }, h("h2", {}, words.diffTitle(from, to)), body));
  await load(body, signal, async () => changesTable((await get(`/policies/revisions/${encodeURIComponent(from)}/diff`, { to }, signal)).changes));
}

async function showOne(place, number, may, signal) {
  const body = h("div", { class: "stack" });
  const choose = h("div", { class: "card" });
  place.append(h("p", { class: "crumb" }, h("a", { href: addressOf(["revisions"]) }, words.back)), h("h1", {}, texts.policies.revision(Number(number))), body);
  await load(body, signal, async () => {
    const { author, at, note, files } = await get(`/policies/revisions/${encodeURIComponent(number)}`, {}, signal);
    const text = h("pre", { class: "source", tabindex: "0" });
    const show = (path) => { text.textContent = files[path]; text.setAttribute("aria-label", texts.policies.editor(path)); };
    const paths = Object.keys(files).sort();
    const select = choice(paths.map((path) => [path, path]), paths[0], { on: { change: ({ target }) => show(target.value) } });
    if (paths.length > 0) show(paths[0]);
    choose.append(field(words.files, select), text);
    return [h("p", { class: "soft" }, [author, dateTime(at), note].filter(Boolean).join(" · ")), choose];
  });
}
