// The relay as it is now: one stream for all pages, polled instead while it cannot be had, closed while nobody looks.

import { abandoned, events, get, Refused } from "./api.js";

const SAMPLES = 600; // one a second: ten minutes
const HIDDEN_MS = 30_000;
const PAUSES_MS = [1000, 2000, 5000, 10_000];

/** The middle of the known values, or null. */
export function median(values) {
  const sorted = values.filter((value) => typeof value === "number").sort((a, b) => a - b);
  if (sorted.length === 0) return null;
  const middle = sorted.length >> 1;
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

/** What is kept of one second: how many sessions, and the middle of their legs' figures. */
function sampleOf(sessions, at) {
  const of = (leg, figure) => median(sessions.map((session) => session.quality?.[leg]?.[figure]));
  return {
    at,
    sessions: sessions.length + live.more,
    downstreamRtt: of("downstream", "rtt_ms"),
    upstreamRtt: of("upstream", "rtt_ms"),
    downstreamLoss: of("downstream", "loss"),
    upstreamLoss: of("upstream", "loss"),
  };
}

/** `feed`: "connecting", "live", "polling" or "lost". */
export const live = { sessions: null, more: 0, status: null, history: [], feed: "connecting" };

/** The middle of what runs at this moment; null before anything is known. */
export const sampleNow = () => (live.sessions === null ? null : sampleOf(live.sessions, Date.now()));

const listeners = new Set();
let running = null;

const tell = () => listeners.forEach((listener) => listener());

/** Hear of every change until the signal says stop. */
export function onLive(listener, signal) {
  listeners.add(listener);
  signal.addEventListener("abort", () => listeners.delete(listener));
}

function take(event, data) {
  if (event === "sessions") Object.assign(live, { sessions: data.sessions, more: data.more ?? 0 });
  if (event === "status") live.status = data;
}

function setFeed(feed) {
  live.feed = feed;
  tell();
}

async function follow(signal, onEvent) {
  for await (const { event, data } of events("/sessions/stream", signal)) {
    onEvent();
    take(event, data);
    setFeed("live");
  }
}

async function refresh(signal) {
  const [sessions, status] = await Promise.all([get("/sessions", {}, signal), get("/status", {}, signal)]);
  take("sessions", sessions);
  take("status", status);
  setFeed(live.feed === "lost" ? "polling" : live.feed);
}

const pause = (ms, signal) =>
  new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener("abort", () => { clearTimeout(timer); resolve(); });
  });

// Whether to go on after an error: not when nobody waits any more, nor when the credential was refused.
const over = (error, signal) => abandoned(error, signal) || (error instanceof Refused && error.status === 401);

async function run(signal) {
  for (let tries = 0; !signal.aborted; tries += 1) {
    let feed = "lost";
    try {
      await refresh(signal);
      feed = "polling";
      await follow(signal, () => { tries = 0; });
    } catch (error) {
      if (over(error, signal)) return;
    }
    setFeed(feed);
    await pause(PAUSES_MS[Math.min(tries, PAUSES_MS.length - 1)], signal);
  }
}

function sample() {
  if (live.sessions === null || live.feed === "lost") return;
  live.history.push(sampleOf(live.sessions, Date.now() / 1000));
  if (live.history.length > SAMPLES) live.history.shift();
  tell();
}

/** Begin to follow; a second call changes nothing. */
export function startLive() {
  if (running !== null) return;
  running = new AbortController();
  const timer = setInterval(sample, 1000);
  running.signal.addEventListener("abort", () => clearInterval(timer));
  void run(running.signal);
}

function stopLive() {
  running?.abort();
  running = null;
}

/** Forget what was seen: somebody else may sign in. */
export function forgetLive() {
  stopLive();
  Object.assign(live, { sessions: null, more: 0, status: null, history: [], feed: "connecting" });
}

/** A tab in the background gives its stream back after a while and takes one when it is looked at again. */
export function followVisibility(signedIn) {
  let timer = null;
  document.addEventListener("visibilitychange", () => {
    clearTimeout(timer);
    if (document.hidden) timer = setTimeout(stopLive, HIDDEN_MS);
    else if (signedIn()) startLive();
  });
}
