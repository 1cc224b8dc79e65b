// One session: what it is, how its legs fare, how it was set up, and what happened in it.

import { get, Refused } from "../api.js";
import { span } from "../charts.js";
import { badge, h, setText } from "../dom.js";
import { endSession } from "../ending.js";
import { emptyState, load } from "../failures.js";
import { compact, count, dateTime, dollars, duration, milliseconds, offset, percent, took, utc } from "../format.js";
import { live, onLive } from "../live.js";
import { gradeOf, gradeTone } from "../quality.js";
import { addressOf } from "../addresses.js";
import { texts } from "../texts.js";

const words = texts.session;
const { names } = texts;
const REFRESH_MS = 5000;
const RECORD_MS = 500;
const RECORD_TRIES = 20;
const UNIX = 1e9; // anything above is a moment, anything below seconds since the beginning

/** Seconds since the session's beginning. */
const since = (entry, session) => (entry.at > UNIX ? entry.at - session.started_at : entry.at);

/** The stages of both legs as `[{leg, stage, from, to}]`, in the order they were reached; an entry's seconds are its own. */
function stagesOf(session) {
  const reached = (session.timeline ?? [])
    .filter(({ kind }) => kind === "stage")
    .map((entry) => ({ leg: entry.leg ?? "", stage: entry.text, to: since(entry, session) }))
    .sort((a, b) => a.to - b.to);
  const before = {};
  return reached.map(({ leg, stage, to }) => {
    const from = before[leg] ?? 0;
    before[leg] = to;
    return { leg, stage, from, to };
  });
}

function waterfall(session) {
  const stages = stagesOf(session);
  if (stages.length === 0) return [emptyState(words.noStages)];
  const total = stages.at(-1).to;
  const row = ({ leg, stage, from, to }) =>
    h("li", { data: { leg, stage } },
      h("span", { class: "waterfall-name" }, h("span", { class: "leg", data: { leg } }, texts.legs[leg] ?? leg), ` ${words.stages[stage] ?? stage}`),
      span(from, to, total, leg),
      h("span", { class: "figures" }, milliseconds(to * 1000)));
  return [h("ol", { class: "waterfall" }, stages.map(row)), h("p", { class: "hint" }, words.setUpHint)];
}

function facts(session) {
  const isLive = session.reason === undefined;
  const rows = [
    [names.tenant, session.tenant],
    [names.subject, h("code", {}, session.subject ?? "")],
    [names.policy, session.policy],
    [names.revision, h("code", {}, session.revision ?? "")],
    [names.door, session.door],
    [names.dialect, session.dialect],
    [names.deployment, session.deployment],
    [names.member, session.member],
    [names.started, h("time", { datetime: utc(session.started_at), title: utc(session.started_at) }, dateTime(session.started_at))],
    [isLive ? names.age : names.length, h("span", { data: { fact: "age" } }, duration(session.seconds ?? session.ended_at - session.started_at))],
    [names.turns, h("span", { data: { fact: "turns" } }, texts.sessions.turnsOf(session.turns) || count(0))],
    [names.tokens, h("span", { data: { fact: "tokens" } }, compact(session.tokens))],
    [names.cost, h("span", { data: { fact: "cost" } }, dollars(session.dollars))],
  ];
  return rows.filter(([, value]) => value !== undefined && value !== null && value !== "").flatMap(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]);
}

function legCard(leg, session) {
  const quality = session.quality?.[leg] ?? {};
  const grade = gradeOf(quality);
  const rows = [
    [words.transport, [session.transports?.[leg] ?? []].flat().join(", ")],
    [words.loss, percent(quality.loss)],
    [words.jitter, milliseconds(quality.jitter_ms)],
    [words.rtt, milliseconds(quality.rtt_ms)],
    [words.packetsIn, count(quality.packets_in)],
    [words.packetsOut, count(quality.packets_out)],
  ];
  return h("section", { class: "card", data: { leg } },
    h("h2", {}, names[leg], " ", badge(texts.quality[grade], gradeTone(grade))),
    h("dl", { class: "facts" }, rows.flatMap(([name, value]) => [h("dt", {}, name), h("dd", { class: "figures" }, value || "–")])));
}

const KIND_TONES = { decision: "warn", service_erred: "bad", disconnected: "warn", client_gone: "warn", reattach_failed: "bad", ended: "bad", answered: "good", answer_began: "busy", stage: "neutral" };

/** What an entry says beside its kind; a stage's time is the bar of the set-up. */
function entryText({ kind, text, seconds, tokens }) {
  const said = kind === "stage" ? (words.stages[text] ?? text) : kind === "phase" ? (texts.phases[text] ?? text) : text;
  const time = kind !== "stage" && typeof seconds === "number" && took(seconds);
  return [said, time, typeof tokens === "number" && words.tokens(tokens)].filter(Boolean).join(" · ");
}

/** The timeline: `.node`, and `.update(session)`, which leaves the boxes alone that somebody may be about to tick. */
function timeline() {
  const hidden = new Set();
  const boxes = h("fieldset", { class: "kinds" }, h("legend", { class: "unseen" }, words.kinds));
  const dropped = h("p", { class: "hint" });
  const rows = h("ol", { class: "timeline", id: "timeline", tabindex: "0", "aria-label": words.timeline });
  const nothing = h("div", {}, emptyState(words.noTimeline));
  let session = { timeline: [] };
  let shown = "";

  function box(kind) {
    const toggle = ({ target }) => {
      if (target.checked) hidden.delete(kind);
      else hidden.add(kind);
      draw();
    };
    return h("label", { class: "check" }, h("input", { type: "checkbox", checked: true, data: { kind }, on: { change: toggle } }), words.timelineKinds[kind] ?? kind);
  }

  function row(entry) {
    const at = since(entry, session);
    return h("li", { data: { kind: entry.kind } },
      h("span", { class: "figures when", title: utc(session.started_at + at) }, offset(at)),
      badge(words.timelineKinds[entry.kind] ?? entry.kind, KIND_TONES[entry.kind] ?? "neutral"),
      h("span", { class: "leg", data: { leg: entry.leg ?? "" } }, texts.legs[entry.leg ?? ""] ?? entry.leg),
      h("span", { class: "what" }, entryText(entry)));
  }

  function draw() {
    const chosen = session.timeline.filter(({ kind }) => !hidden.has(kind));
    rows.replaceChildren(...chosen.map(row));
    if (chosen.length === 0) rows.append(h("li", { class: "soft" }, words.noneShown));
  }

  return {
    node: h("div", {}, boxes, dropped, rows, nothing),
    update(now) {
      const entries = now.timeline ?? [];
      boxes.hidden = rows.hidden = entries.length === 0;
      nothing.hidden = entries.length > 0;
      setText(dropped, now.timeline_dropped > 0 ? words.dropped(now.timeline_dropped) : "");
      const news = `${entries.length} ${entries.at(-1)?.at}`;
      if (news === shown) return;
      shown = news;
      session = { ...now, timeline: entries.toSorted((a, b) => a.at - b.at) };
      const known = new Set([...boxes.querySelectorAll("input")].map(({ dataset }) => dataset.kind));
      for (const kind of new Set(entries.map((entry) => entry.kind))) if (!known.has(kind)) boxes.append(box(kind));
      draw();
    },
  };
}

function head(session, may) {
  const over = session.reason !== undefined;
  const state = over ? badge(session.reason, "neutral") : badge(texts.phases[session.phase] ?? session.phase, session.phase === "active" ? "good" : "busy");
  return h("div", { class: "heading" },
    h("div", {}, h("h1", { tabindex: "-1" }, texts.nav.session, " ", h("code", {}, session.id)), h("p", { id: "session-state" }, state)),
    !over && may("operate") && h("button", { type: "button", id: "end", class: "danger", on: { click: () => void endSession(session) } }, texts.sessions.endAction));
}

export async function show({ place, path: [id = ""], may, signal }) {
  const story = timeline();
  const back = h("p", { class: "crumb" }, h("a", { href: addressOf(["sessions"]) }, texts.session.back));
  const body = h("div", { class: "stack" });
  place.append(back, body);
  const fetchIt = () => get(`/sessions/${encodeURIComponent(id)}`, {}, signal);

  const parts = { head: h("div"), facts: h("dl", { class: "facts" }), legs: h("div", { class: "columns-2" }), stages: h("div") };
  let last = "";
  const draw = (session) => {
    const text = JSON.stringify([session.phase, session.reason]);
    if (text !== last) parts.head.replaceChildren(head(session, may));
    last = text;
    parts.facts.replaceChildren(...facts(session));
    parts.legs.replaceChildren(legCard("downstream", session), legCard("upstream", session));
    parts.stages.replaceChildren(...waterfall(session));
    story.update(session);
  };
  await load(body, signal, async () => {
    draw(await fetchIt());
    return [
      parts.head,
      h("div", { class: "columns-2" },
        h("section", { class: "card" }, h("h2", {}, words.facts), parts.facts),
        h("section", { class: "card", id: "set-up" }, h("h2", {}, words.setUp), parts.stages)),
      parts.legs,
      h("section", { class: "card" }, h("h2", {}, words.timeline), story.node,
        h("p", {}, h("a", { href: addressOf(["decisions"], { session: id }) }, words.decisions))),
    ];
  });
  follow(id, draw, fetchIt, parts, signal);
}

/** Keep the page up to date: the legs from the stream, all else every few seconds, until the session is over. */
function follow(id, draw, fetchIt, parts, signal) {
  let seen = false;
  let over = false;
  let tries = 0;
  const again = async () => {
    try {
      const session = await fetchIt();
      over = session.reason !== undefined;
      draw(session);
    } catch (error) {
      // It ended, and its record is written behind it; without one, what is shown is the last that was known.
      if (error instanceof Refused && error.status === 404) {
        tries += 1;
        over = tries >= RECORD_TRIES;
        if (!over && !signal.aborted) setTimeout(() => { if (!signal.aborted) void again(); }, RECORD_MS);
        parts.head.querySelector("#end")?.remove();
        const state = parts.head.querySelector("#session-state");
        if (state) state.replaceChildren(badge(words.isOver));
      }
    }
  };
  onLive(() => {
    if (over) return;
    const now = live.sessions?.find((session) => session.id === id);
    if (now === undefined) {
      if (seen) void again();
      seen = false;
      return;
    }
    seen = true;
    parts.legs.replaceChildren(legCard("downstream", now), legCard("upstream", now));
    const ageNode = parts.facts.querySelector("[data-fact=age]");
    if (ageNode) setText(ageNode, duration(now.seconds));
  }, signal);
  const timer = setInterval(() => { if (!over && seen && !document.hidden) void again(); }, REFRESH_MS);
  signal.addEventListener("abort", () => clearInterval(timer));
}
