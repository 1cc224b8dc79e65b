// Is everything well, in one look.

import { get } from "../api.js";
import { bar, sparkline } from "../charts.js";
import { badge, h, setText } from "../dom.js";
import { emptyState } from "../failures.js";
import { count, dateTime, duration, milliseconds, percent, shortId, wholePercent } from "../format.js";
import { live, onLive, sampleNow } from "../live.js";
import { sessionGrade, showQuality } from "../quality.js";
import { addressOf } from "../addresses.js";
import { onceColumn, table, textColumn } from "../table.js";
import { texts } from "../texts.js";

const FULL = 0.9;
const MOST_SHOWN = 8;
const MEMBERS_MS = 5000;
const words = texts.overview;

function tile(name, id) {
  const value = h("p", { class: "tile-value" });
  const note = h("p", { class: "hint" });
  const chart = h("div", { class: "tile-chart" });
  const node = h("section", { class: "card tile", "aria-labelledby": `${id}-name`, data: { tile: id } }, h("h2", { id: `${id}-name` }, name), value, chart, note);
  return { node, show: (text, series, more, floor) => {
    setText(value, text);
    setText(note, more);
    chart.replaceChildren(sparkline(series, { label: words.chart(name, text), floor }));
  } };
}

const column = (name) => live.history.map((sample) => sample[name]);
const worst = (leg, figure) => Math.max(-1, ...(live.sessions ?? []).map((session) => session.quality?.[leg]?.[figure] ?? -1));
const noteOf = (value, write) => (value < 0 ? "" : words.worst(write(value)));

function showTiles(tiles) {
  const sessions = column("sessions");
  const now = sampleNow() ?? { downstreamRtt: null, downstreamLoss: null };
  const over = words.lastMinutes(live.history.length);
  const peak = sessions.length > 0 ? words.peak(count(Math.max(...sessions))) : "";
  tiles.sessions.show(count(live.sessions === null ? null : live.sessions.length + live.more), [sessions], [peak, over].filter(Boolean).join(" · "), 4);
  const rtt = noteOf(worst("downstream", "rtt_ms"), milliseconds);
  tiles.roundTrip.show(milliseconds(now.downstreamRtt), [column("downstreamRtt"), column("upstreamRtt")], [rtt, over].filter(Boolean).join(" · "), 100);
  const loss = noteOf(worst("downstream", "loss"), percent);
  tiles.loss.show(percent(now.downstreamLoss), [column("downstreamLoss"), column("upstreamLoss")], [loss, over].filter(Boolean).join(" · "), 0.02);
}

function membersBadge(members) {
  const able = members.filter(isReady).length;
  return badge(words.readyOf(able, members.length), able === members.length ? "good" : able > 0 ? "warn" : "bad");
}

function stateRows({ ready, reasons, draining, kill_switch: kill, policies, store, workers, started_at: started }, members) {
  const named = [...(kill?.tenants ?? []), ...(kill?.policies ?? [])].length;
  const killed = kill?.everybody ? badge(words.everybody, "bad") : named > 0 ? badge(words.someOff(named), "warn") : badge(words.off, "good");
  const rows = [
    [words.readiness, ready ? badge(words.ready, "good") : badge([words.notReady, ...Object.keys(reasons ?? {})].join(": "), "bad")],
    [words.killSwitch, killed],
    [words.drain, draining ? badge(words.draining, "warn") : badge(words.taking, "good")],
    [words.policies, policies?.managed && policies.revision !== null ? words.revision(policies.revision) : words.fromFiles],
    [words.store, store?.ok ? badge(words.storeOk(store.kind), "good") : badge(words.storeBad(store?.kind ?? ""), "bad")],
    members.length > 0 && [texts.nav.upstreams, membersBadge(members)],
    (workers ?? []).length > 0 && [words.workers, words.readyOf(workers.filter(isReady).length, workers.length)],
    [words.up, started === undefined ? "" : dateTime(started)],
  ];
  return rows.filter(Boolean).flatMap(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]);
}

const isReady = ({ state }) => state === "ready";

function capacityRows(capacity) {
  const resources = Object.entries(capacity ?? {});
  if (resources.length === 0) return [emptyState(words.noCapacity)];
  return resources.map(([name, ratio]) =>
    h("div", { class: "meter-row", data: { resource: name } },
      h("span", {}, words.resources[name] ?? name), bar(ratio, ratio >= FULL ? "bad" : "accent"), h("span", { class: "figures" }, wholePercent(ratio))));
}

function attentionTable() {
  return table({
    caption: words.attention,
    key: ({ id }) => id,
    columns: [
      onceColumn("id", texts.names.session, ({ id }) => h("a", { href: addressOf(["session", id]) }, h("code", {}, shortId(id)))),
      textColumn("tenant", texts.names.tenant, ({ tenant }) => tenant),
      textColumn("age", texts.names.age, ({ seconds }) => duration(seconds), { numeric: true }),
      { id: "downstream", title: texts.names.downstream, show: (row, cell) => showQuality(cell, row.quality?.downstream) },
      { id: "upstream", title: texts.names.upstream, show: (row, cell) => showQuality(cell, row.quality?.upstream) },
    ],
  });
}

export function show({ place, me, signal }) {
  const tiles = {
    sessions: tile(words.sessions, "sessions"),
    roundTrip: tile(words.roundTrip, "round-trip"),
    loss: tile(words.loss, "loss"),
  };
  const state = h("dl", { class: "facts" });
  const capacity = h("div", { class: "meters" });
  const poor = attentionTable();
  const none = h("div", { class: "empty" });
  place.append(
    h("h1", {}, texts.nav.overview),
    h("div", { class: "tiles" }, Object.values(tiles).map(({ node }) => node)),
    h("p", { class: "hint legend" }, words.median),
    h("div", { class: "columns-2" },
      h("section", { class: "card" }, h("h2", {}, words.state), state),
      h("section", { class: "card" }, h("h2", {}, words.capacity), capacity, h("p", { class: "hint" }, words.capacityHint))),
    h("section", { class: "card" }, h("h2", {}, words.attention), poor.node, none),
  );

  let shownStatus = null;
  let members = []; // of the pool: those who are confined to a tenant are not told of them
  const draw = () => {
    showTiles(tiles);
    const bad = (live.sessions ?? []).filter((session) => sessionGrade(session) === "poor").slice(0, MOST_SHOWN);
    poor.update(bad);
    poor.node.hidden = bad.length === 0;
    none.hidden = bad.length > 0;
    setText(none, live.sessions?.length ? words.attentionNone : words.attentionEmpty);
    if (live.status === null || live.status === shownStatus) return;
    shownStatus = live.status;
    state.replaceChildren(...stateRows(live.status, members));
    capacity.replaceChildren(...capacityRows(live.status.capacity));
  };
  onLive(draw, signal);
  draw();
  if (me.tenant !== null) return;
  const ask = async () => {
    try {
      ({ members } = await get("/upstreams", {}, signal));
    } catch {
      return; // what was known stays; the frame says when the relay does not answer
    }
    shownStatus = null;
    draw();
  };
  void ask();
  const timer = setInterval(() => { if (!document.hidden) void ask(); }, MEMBERS_MS);
  signal.addEventListener("abort", () => clearInterval(timer));
}
