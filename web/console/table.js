// Tables that sort, stack into cards on narrow screens, and are updated in place so that focus and selection survive.

import { h, setText } from "./dom.js";
import { texts } from "./texts.js";

/** A column of plain text; `value` is what it sorts by, if it sorts. */
export const textColumn = (id, title, write, more = {}) => ({ id, title, show: (row, cell) => setText(cell, write(row)), ...more });

/** A column whose cell is made once for a row and then left alone. */
export const onceColumn = (id, title, make, more = {}) => ({
  id,
  title,
  show: (row, cell) => { if (!cell.hasChildNodes()) cell.append(make(row)); },
  ...more,
});

/**
 * A table; `.node` is its element, `.update(rows)` shows rows. A column: `{id, title, show(row, cell), value?, numeric?}`.
 * `key(row)` names a row across updates. `sort` is `[id, descending]`.
 */
export function table({ caption, columns, key, sort = null, rowData = () => ({}) }) {
  const known = new Map();
  const heads = new Map(columns.map((column) => [column.id, head(column)]));
  const body = h("tbody", { role: "rowgroup" });
  const node = h(
    "table",
    { role: "table" },
    h("caption", { class: "unseen" }, caption),
    h("thead", { role: "rowgroup" }, h("tr", { role: "row" }, [...heads.values()])),
    body,
  );
  let shown = [];

  function head(column) {
    const label = column.unseen ? h("span", { class: "unseen" }, column.title) : column.title;
    const attributes = { scope: "col", role: "columnheader", class: column.numeric ? "numeric" : null };
    if (!column.value) return h("th", attributes, label);
    const button = h("button", { type: "button", class: "sort", on: { click: () => sortBy(column) } }, label);
    return h("th", attributes, button);
  }

  function sortBy(column) {
    const descending = sort?.[0] === column.id ? !sort[1] : column.numeric === true;
    sort = [column.id, descending];
    update(shown);
  }

  function ordered(rows) {
    const column = columns.find(({ id }) => id === sort?.[0]);
    for (const [id, cell] of heads) {
      if (id === sort?.[0]) cell.setAttribute("aria-sort", sort[1] ? "descending" : "ascending");
      else cell.removeAttribute("aria-sort");
    }
    if (!column) return rows;
    const factor = sort[1] ? -1 : 1;
    return [...rows].sort((a, b) => factor * compare(column.value(a), column.value(b)));
  }

  function rowOf(row) {
    const cells = columns.map((column) =>
      h("td", { role: "cell", class: column.numeric ? "numeric" : null, data: { column: column.id, label: column.unseen ? "" : column.title } }));
    return h("tr", { role: "row", data: { ...rowData(row), key: key(row) } }, cells);
  }

  function update(rows) {
    shown = rows;
    const gone = new Set(known.keys());
    const focused = node.contains(document.activeElement) ? document.activeElement : null;
    let place = body.firstElementChild;
    for (const row of ordered(rows)) {
      const name = key(row);
      gone.delete(name);
      if (!known.has(name)) known.set(name, rowOf(row));
      const line = known.get(name);
      columns.forEach((column, index) => column.show(row, line.cells[index]));
      if (line === place) place = place.nextElementSibling;
      else body.insertBefore(line, place);
    }
    for (const name of gone) {
      known.get(name).remove();
      known.delete(name);
    }
    if (focused?.isConnected && document.activeElement !== focused) focused.focus({ preventScroll: true });
  }

  return { node: h("div", { class: "table-frame" }, node), update, size: () => known.size };
}

function compare(a, b) {
  if (typeof a === "string" || typeof b === "string") return String(a ?? "").localeCompare(String(b ?? ""));
  return (a ?? -Infinity) - (b ?? -Infinity) || 0;
}

/** A table whose rows come a page at a time: `fetchPage(before)` answers `{rows, next}`. Resolves to its element. */
export async function pagedTable({ fetchPage, empty, signal, onFailure, ...options }) {
  const made = table(options);
  const more = h("button", { type: "button", class: "more" }, texts.table.more);
  const first = await fetchPage(undefined);
  let { rows, next } = first;
  const place = h("div", { class: "paged" }, made.node, more);
  const show = () => {
    made.update(rows);
    more.hidden = !next;
  };
  more.addEventListener("click", async () => {
    more.disabled = true;
    try {
      const page = await fetchPage(next);
      rows = [...rows, ...page.rows];
      next = page.next;
      show();
    } catch (error) {
      if (!signal.aborted) onFailure(error);
    }
    more.disabled = false;
  });
  show();
  return rows.length === 0 ? empty() : place;
}
