// The resources of the service that sessions are set up at.

import { get } from "../api.js";
import { badge, h } from "../dom.js";
import { emptyState, failureNotice, load } from "../failures.js";
import { count, NONE, time } from "../format.js";
import { table, textColumn } from "../table.js";
import { texts } from "../texts.js";

const words = texts.upstreams;
const REFRESH_MS = 5000;
const TONES = { ready: "good", cooling: "warn", down: "bad" };

function showState({ state, until }, cell) {
  const text = `${words.states[state] ?? state} ${until ?? ""}`;
  if (cell.dataset.shown === text) return;
  cell.dataset.shown = text;
  const rest = until ? h("span", { class: "soft" }, ` ${words.until(time(until))}`) : "";
  cell.replaceChildren(h("span", {}, badge(words.states[state] ?? state, TONES[state] ?? "neutral"), rest));
}

const COLUMNS = [
  textColumn("name", texts.names.name, ({ name }) => name, { value: ({ name }) => name }),
  textColumn("region", texts.names.region, ({ region }) => region || NONE, { value: ({ region }) => region }),
  { id: "state", title: texts.names.state, show: showState, value: ({ state }) => state },
  textColumn("weight", texts.names.weight, ({ weight }) => count(weight), { numeric: true }),
  textColumn("sessions", texts.names.sessions, ({ sessions }) => count(sessions), { numeric: true, value: ({ sessions }) => sessions }),
  textColumn("error", words.lastError, (row) => row.last_error || NONE),
];

export async function show({ place, signal }) {
  const body = h("section", { class: "card flush" });
  place.append(h("h1", {}, texts.nav.upstreams), h("p", { class: "lead" }, words.hint), body);
  const members = table({ caption: texts.nav.upstreams, columns: COLUMNS, key: ({ name }) => name, rowData: ({ name, state }) => ({ member: name, state }) });
  const refresh = async () => {
    const { members: found } = await get("/upstreams", {}, signal);
    members.update(found);
    return found.length === 0 ? emptyState(words.empty) : members.node;
  };
  await load(body, signal, refresh);
  const again = async () => {
    try {
      body.replaceChildren(await refresh());
    } catch (error) {
      if (!signal.aborted) body.replaceChildren(failureNotice(error, () => void again()));
    }
  };
  const timer = setInterval(() => { if (!document.hidden) void again(); }, REFRESH_MS);
  signal.addEventListener("abort", () => clearInterval(timer));
}
