// The panel "Check my connection": one row for each way, what it means, and a report for the help desk.

import { checkConnection, conclusionOf } from "./check.js";
import { asFailure, suspectOf } from "./failures.js";
import { announce, element } from "./page.js";
import { texts } from "./texts.js";

const words = texts.check;
const ROWS = ["signalling", "udp", "tcp", "turn_udp", "turn_tcp", "turn_tls"];

/**
 * `keyFor(signal)` gives an ephemeral key, or throws Failure; `context()` what the page last saw of a session:
 * `{session, failure, reason}`, each "" when there is none (reason: the relay's own word). Rows carry `data-way` and
 * `data-outcome`.
 */
export class CheckPanel {
  #keyFor;
  #context;
  #rows = new Map();
  #running = null;

  constructor(keyFor, context) {
    [this.#keyFor, this.#context] = [keyFor, context];
    for (const name of ROWS) this.#rows.set(name, addRow(element("check-ways"), name));
    element("check-run").addEventListener("click", () => void this.run());
    element("check-copy").addEventListener("click", () => void this.#copy());
  }

  /** Check every way and show it. Resolves to the conclusion as one text; null when a later run took its place. */
  async run() {
    this.#running?.abort();
    const mine = (this.#running = new AbortController());
    this.#begin();
    const result = await this.#check(mine.signal);
    if (this.#running !== mine) return null;
    this.#running = null;
    return this.#show(result);
  }

  async #check(signal) {
    try {
      const key = await this.#keyFor(signal);
      return await checkConnection(key, signal, (each) => {
        if (!signal.aborted) this.#row(each.way, each.outcome, valueOf(each));
      });
    } catch (error) {
      return { signalling: { failure: asFailure(error) }, relayOnly: false, ways: [] };
    }
  }

  #begin() {
    element("check-conclusion").hidden = element("check-report").hidden = true;
    for (const name of ROWS) this.#row(name, "running", words.outcomes.running);
    announce(words.running);
  }

  #show(result) {
    const { signalling, ways } = result;
    if (signalling.failure) {
      for (const name of ROWS) this.#row(name, "untried", words.outcomes.untried);
      this.#row("signalling", "blocked", signallingValue(signalling));
    }

    const { failure, reason } = this.#context();
    const { code, detail } = conclusionOf(result, suspectOf(failure, reason));
    const conclusion = words.conclusions[code](detail);
    element("check-conclusion").hidden = element("check-report").hidden = false;
    element("check-conclusion").textContent = conclusion;
    element("check-conclusion").dataset.conclusion = code;
    element("check-report-text").textContent = this.#report(signalling, ways, conclusion);
    element("check-copied").textContent = "";
    announce(conclusion);
    return conclusion;
  }

  #row(name, outcome, value) {
    const { row, shown } = this.#rows.get(name);
    row.dataset.outcome = outcome;
    shown.textContent = value;
  }

  // Nothing in it opens anything: no key, and of the page's address the origin only.
  #report(signalling, ways, conclusion) {
    const { session, failure, reason } = this.#context();
    const { onLine, connection } = navigator;
    const network = [onLine ? "online" : "offline", connection?.type, connection?.effectiveType];
    const lines = [
      [words.report.at, new Date().toISOString()],
      [words.report.page, location.origin],
      [words.report.browser, navigator.userAgent],
      [words.report.network, network.filter(Boolean).join(", ")],
      [words.report.session, [session, failure, reason].filter(Boolean).join(", ") || texts.stats.none],
      [words.ways.signalling, signallingValue(signalling)],
      ...ways.map((each) => [words.ways[each.way], [valueOf(each), ...each.targets].join("; ")]),
      [words.report.conclusion, conclusion],
    ];
    return lines.map(([name, value]) => `${name}: ${value}`).join("\n");
  }

  async #copy() {
    try {
      await navigator.clipboard.writeText(element("check-report-text").textContent);
      element("check-copied").textContent = words.report.copied;
    } catch {
      getSelection().selectAllChildren(element("check-report-text"));
      element("check-copied").textContent = words.report.selected;
    }
  }
}

function addRow(list, name) {
  const [row, label, shown] = ["li", "span", "span"].map((tag) => document.createElement(tag));
  row.dataset.way = name;
  row.dataset.outcome = "unknown";
  label.textContent = words.ways[name];
  shown.className = "outcome";
  shown.textContent = texts.stats.none;
  row.append(label, shown);
  list.append(row);
  return { row, shown };
}

const signallingValue = ({ failure, milliseconds }) =>
  failure ? failure.words.title : words.works(milliseconds);

function valueOf({ outcome, milliseconds, note }) {
  if (outcome === "works") return words.works(milliseconds);
  return outcome === "blocked" && note ? words.notes[note] : words.outcomes[outcome];
}
