// The talk page: what a click does, and what the page shows in each state.

import { EventLog } from "./eventlog.js";
import { Failure, asFailure } from "./failures.js";
import { Meters } from "./meters.js";
import { microphones, obstacle, openMicrophone } from "./microphone.js";
import { announce, element, fillTexts, hideNotice, showNotice, showStatus, wireTabs } from "./page.js";
import { Session } from "./session.js";
import { StatsPanel, describe, reading } from "./stats.js";
import { texts } from "./texts.js";
import { Transcript } from "./transcript.js";

const STATS_EVERY_MS = 1_000;

fillTexts();
const keyField = element("key");
const microphoneList = element("microphone");
const startButton = element("start");
const muteButton = element("mute");
const sound = element("remote-audio");
const meters = new Meters();
const stats = new StatsPanel(element("stats"));
const transcript = new Transcript(element("transcript"), element("transcript-lines"), element("transcript-empty"));
const log = new EventLog({
  list: element("event-rows"),
  filter: element("event-filter"),
  direction: element("event-direction"),
  count: element("event-count"),
  clear: element("event-clear"),
});

let state = "idle"; // idle | starting | live | ended | failed
let session = null;
let track = null; // the open microphone
let muted = false;
let statsTimer = null;
let countdownTimer = null;

// --- states -------------------------------------------------------------------------------------------------------

function enter(next, status) {
  state = next;
  document.body.dataset.state = next;
  showStatus(status);
  const busy = next === "starting" || next === "live";
  startButton.textContent = {
    idle: texts.controls.start,
    starting: texts.controls.cancel,
    live: texts.controls.stop,
    ended: texts.controls.again,
    failed: texts.controls.again,
  }[next];
  startButton.classList.toggle("stop", busy);
  keyField.disabled = busy;
  muteButton.disabled = next !== "live";
  log.add("page", { type: `page.${status}` });
}

async function start() {
  const key = keyField.value.trim();
  const early = obstacle() ?? keyTrouble(key);
  if (early) return fail(early);
  reset();
  const mine = new Session(listenerOf(() => session === mine));
  session = mine;
  enter("starting", "microphone");
  announce(texts.status.microphone);
  try {
    const opened = await openMicrophone(microphoneList.value);
    if (session !== mine) return opened.stop(); // cancelled while the browser asked
    useTrack(opened);
  } catch (error) {
    if (session === mine) fail(asFailure(error));
    return undefined;
  }
  await listMicrophones();
  return session === mine ? mine.start(key, track) : undefined;
}

function stop() {
  const ending = session;
  finish("ended", "ended");
  announce(texts.announce.stopped);
  void ending?.stop();
}

function fail(failure, { wasLive = false } = {}) {
  const ended = wasLive && failure.code === "session_ended";
  const outcome = ended ? "ended" : "failed";
  finish(outcome, outcome);
  document.body.dataset.failure = failure.code;
  document.body.dataset.reason = failure.detail.reason ?? "";
  const words = failure.words;
  showNotice(words, ended ? "warn" : "bad");
  announce(`${words.title}. ${words.advice}`, { urgent: true });
  log.add("page", { type: `page.${failure.code}`, ...failure.detail });
  const keyAtFault = failure.code === "key_refused" || failure.code === "key_missing";
  keyField.setAttribute("aria-invalid", String(keyAtFault));
  if (keyAtFault) keyField.focus();
}

function finish(next, status) {
  session = null;
  clearInterval(statsTimer);
  clearInterval(countdownTimer);
  track?.stop();
  track = null;
  sound.srcObject = null;
  void meters.close();
  setMuted(false);
  hideNotice();
  if (state === "live") stats.show({ state: texts.stats.states.closed });
  transcript.close();
  enter(next, status);
}

function reset() {
  hideNotice();
  delete document.body.dataset.failure;
  delete document.body.dataset.reason;
  keyField.setAttribute("aria-invalid", "false");
  transcript.clear();
  stats.clear();
  log.clear();
}

// A header value outside visible ASCII cannot be sent, so such a key is wrong for sure.
function keyTrouble(key) {
  if (key === "") return new Failure("key_missing");
  return /^[\x21-\x7e]+$/.test(key) ? null : new Failure("key_refused", { message: "" });
}

// --- the session ------------------------------------------------------------------------------------------------

function listenerOf(isCurrent) {
  const handlers = {
    stage: (stage) => {
      enter("starting", stage);
      announce(texts.status[stage]);
    },
    live: () => {
      enter("live", "live");
      announce(texts.announce.live);
      stats.show({ session: session.id ?? texts.stats.none });
      statsTimer = watchStats(session);
    },
    path: showPath,
    sound: play,
    event: (direction, event) => {
      log.add(direction, event);
      if (direction === "received") transcript.follow(event);
      if (event.type === "relay.session.ending") countDown(event);
    },
    ended: (failure, wasLive) => failure && fail(failure, { wasLive }),
  };
  return Object.fromEntries(
    Object.entries(handlers).map(([name, handle]) => [name, (...facts) => isCurrent() && handle(...facts)]),
  );
}

function showPath(path) {
  stats.show({ state: texts.stats.states[path] });
  if (state !== "live") return;
  if (path === "disconnected") {
    showStatus("interrupted");
    announce(texts.announce.interrupted);
  } else if (path === "connected" && element("status").dataset.status === "interrupted") {
    showStatus(muted ? "muted" : "live");
    announce(texts.announce.recovered);
  }
}

function play(stream) {
  sound.srcObject = stream;
  meters.attach(element("meter-model"), stream.getAudioTracks()[0]);
  sound.play().catch((error) => {
    if (error.name === "NotAllowedError") showNotice(texts.playbackBlocked, "warn");
    else log.add("page", { type: "page.playback", message: error.message }); // replaced or closed before it began
  });
}

function watchStats(watched) {
  let before = null;
  return setInterval(async () => {
    if (!watched.peer) return;
    const now = await reading(watched.peer);
    if (session !== watched) return;
    stats.show(describe(now, before));
    before = now;
  }, STATS_EVERY_MS);
}

function countDown({ seconds_left: secondsLeft, reason }) {
  const endsAt = performance.now() + Number(secondsLeft) * 1000;
  const why = texts.reasons[reason] ?? "";
  const show = () => {
    const words = texts.ending(Math.max(0, Math.round((endsAt - performance.now()) / 1000)), why);
    showNotice(words, "warn");
    return words;
  };
  clearInterval(countdownTimer);
  countdownTimer = setInterval(show, 1000);
  const { title, advice } = show();
  announce(`${title}. ${advice}`, { urgent: true }); // once, not every second
}

// --- the microphone -----------------------------------------------------------------------------------------------

function useTrack(opened) {
  track?.stop();
  track = opened;
  track.enabled = !muted;
  meters.attach(element("meter-you"), track);
  track.onended = () => showNotice(texts.microphoneLost, "warn");
}

async function changeMicrophone() {
  const current = session;
  if (state !== "live") return;
  try {
    const opened = await openMicrophone(microphoneList.value);
    if (session !== current) return void opened.stop();
    useTrack(opened);
    hideNotice();
    await current.useMicrophone(opened);
  } catch (error) {
    const words = asFailure(error).words;
    showNotice(words, "warn"); // the conversation goes on with the microphone it had
    announce(words.title, { urgent: true });
  }
}

async function listMicrophones() {
  const chosen = microphoneList.value;
  const options = (await microphones()).map(
    ({ label, deviceId }, index) => new Option(label || texts.controls.microphoneUnnamed(index + 1), deviceId),
  );
  microphoneList.replaceChildren(new Option(texts.controls.microphoneDefault, ""), ...options);
  microphoneList.value = options.some(({ value }) => value === chosen) ? chosen : "";
  element("microphone-hint").hidden = options.length > 0;
}

function setMuted(value) {
  muted = value;
  if (track) track.enabled = !muted;
  muteButton.setAttribute("aria-pressed", String(muted));
  muteButton.textContent = muted ? texts.controls.unmute : texts.controls.mute;
}

function toggleMute() {
  setMuted(!muted);
  showStatus(muted ? "muted" : "live");
  announce(muted ? texts.announce.muted : texts.announce.unmuted);
}

// --- the page -----------------------------------------------------------------------------------------------------

// A key may come in the link's fragment, which no server ever sees; it leaves the address bar at once.
function takeKeyFromLink() {
  const key = new URLSearchParams(location.hash.slice(1)).get("key");
  if (key === null) return;
  keyField.value = key;
  history.replaceState(null, "", location.pathname + location.search);
}

element("controls").addEventListener("submit", (event) => {
  event.preventDefault();
  if (state === "starting" || state === "live") stop();
  else void start();
});
muteButton.addEventListener("click", toggleMute);
microphoneList.addEventListener("change", () => void changeMicrophone());
window.addEventListener("hashchange", takeKeyFromLink);
window.addEventListener("pagehide", () => session && stop());

wireTabs(document.querySelector("[role=tablist]"));
takeKeyFromLink();
setMuted(false);
enter("idle", "idle");
const hindrance = obstacle();
if (hindrance) {
  fail(hindrance);
  startButton.disabled = true;
  microphoneList.append(new Option(texts.controls.microphoneDefault, ""));
} else {
  navigator.mediaDevices.addEventListener("devicechange", () => void listMicrophones());
  await listMicrophones();
}
