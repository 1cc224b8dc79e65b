// The event log: every event of the channel and every step of the page, filtered, bounded.

import { texts } from "./texts.js";

export const ROWS_KEPT = 500;
const BODY_KEPT = 8_000; // characters of one event's JSON
const words = texts.events;

/** A list of rows, newest last; each carries `data-type` and `data-direction`. */
export class EventLog {
  #list;
  #filter;
  #direction;
  #count;
  #rows = [];
  #shown = 0;
  #since = performance.now();
  #pinned = true; // the newest row stays in view until the person scrolls away

  constructor({ list, filter, direction, count, clear }) {
    [this.#list, this.#filter, this.#direction, this.#count] = [list, filter, direction, count];
    for (const [value, label] of Object.entries(words.directions)) direction.append(new Option(label, value));
    filter.addEventListener("input", () => this.#applyFilter());
    direction.addEventListener("change", () => this.#applyFilter());
    clear.addEventListener("click", () => this.clear());
    list.addEventListener("scroll", () => {
      this.#pinned = list.scrollHeight - list.scrollTop - list.clientHeight < 40;
    });
    new ResizeObserver(() => this.#keepNewestInView()).observe(list);
    this.#showCount();
  }

  clear() {
    this.#rows = [];
    this.#shown = 0;
    this.#since = performance.now();
    this.#list.replaceChildren();
    this.#showCount();
  }

  /** Add an event; direction is `received`, `sent` or `page`. */
  add(direction, event) {
    const body = JSON.stringify(event, null, 2).slice(0, BODY_KEPT);
    const element = rowElement(this.#seconds(), direction, event.type, body);
    const row = { element, direction, searched: body.toLowerCase() };
    this.#rows.push(row);
    this.#list.append(element);
    this.#hideOrShow(row);
    this.#shown += element.hidden ? 0 : 1;
    if (this.#rows.length > ROWS_KEPT) this.#forgetOldest();
    this.#showCount();
    this.#keepNewestInView();
  }

  #seconds() {
    return ((performance.now() - this.#since) / 1000).toFixed(1);
  }

  #keepNewestInView() {
    if (this.#pinned) this.#list.scrollTop = this.#list.scrollHeight;
  }

  #forgetOldest() {
    const { element } = this.#rows.shift();
    this.#shown -= element.hidden ? 0 : 1;
    element.remove();
  }

  #applyFilter() {
    for (const row of this.#rows) this.#hideOrShow(row);
    this.#shown = this.#rows.filter(({ element }) => !element.hidden).length;
    this.#showCount();
  }

  #hideOrShow({ element, direction, searched }) {
    const wanted = this.#direction.value;
    const rightWay = wanted === "all" || wanted === direction;
    element.hidden = !(rightWay && searched.includes(this.#filter.value.trim().toLowerCase()));
  }

  #showCount() {
    this.#count.textContent = words.count(this.#shown, this.#rows.length, ROWS_KEPT);
  }
}

function rowElement(at, direction, type, body) {
  const [row, details, summary, time, mark, name, json] = [
    "li", "details", "summary", "time", "span", "code", "pre",
  ].map((tag) => document.createElement(tag));
  row.dataset.direction = direction;
  row.dataset.type = type;
  time.textContent = at;
  mark.className = "mark";
  mark.textContent = words.marks[direction];
  name.append(...breakable(type));
  json.textContent = body;
  summary.append(time, mark, name);
  details.append(summary, json);
  row.append(details);
  return row;
}

// Long names may break after a dot or an underscore, nowhere else while there is room.
function breakable(name) {
  return name.split(/(?<=[._])/).flatMap((part) => [part, document.createElement("wbr")]);
}
