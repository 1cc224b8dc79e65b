// The talk page: what a click does, and what the page shows in each state.

import { CheckPanel } from "./checkpanel.js";
import { EventLog } from "./eventlog.js";
import { Failure, asFailure, suspectOf } from "./failures.js";
import { forget, keep, kept, own } from "./kept.js";
import { Meters } from "./meters.js";
import { microphoneGranted, microphones, obstacle, openMicrophone } from "./microphone.js";
import { announce, element, fillTexts, hideNotice, showFinding, showNotice, showStatus, wireTabs } from "./page.js";
import { Session } from "./session.js";
import { hangUp, mint } from "./signalling.js";
import { StatsPanel, describe, reading } from "./stats.js";
import { texts } from "./texts.js";
import { Transcript } from "./transcript.js";

const STATS_EVERY_MS = 1_000;
const CALM_MS = 400; // coming back within this is not worth a word

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
let reconnectingTimer = null;
let waiting = null; // a session that a page before this one had, until the person continues it
let disown = () => undefined; // lets another page of this tab have the session
let last = { session: "", failure: "", reason: "" }; // for the report of a check

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
  leaveWaiting();
  reset();
  return withMicrophone("microphone", (mine) => mine.start(key, track));
}

/** Make a session once the microphone is open. */
async function withMicrophone(status, begin, ticket = null) {
  const mine = new Session(listenerOf(() => session === mine), ticket);
  session = mine;
  enter("starting", status);
  announce(texts.status[status]);
  try {
    const opened = await openMicrophone(microphoneList.value);
    if (session !== mine) return opened.stop(); // cancelled while the browser asked
    useTrack(opened);
  } catch (error) {
    if (session === mine) fail(asFailure(error));
    return undefined;
  }
  await listMicrophones();
  return session === mine ? begin(mine) : undefined;
}

function stop() {
  const ending = session;
  finish("ended", "ended");
  announce(texts.announce.stopped);
  void ending?.stop();
}

function fail(failure, { wasLive = false } = {}) {
  const ended = failure.code === "session_over" || (wasLive && failure.code === "session_ended");
  const outcome = ended ? "ended" : "failed";
  const reason = failure.detail.reason ?? "";
  last = { session: session?.id ?? "", failure: failure.code, reason: reason || (failure.refusal ?? "") };
  finish(outcome, outcome);
  document.body.dataset.failure = failure.code;
  document.body.dataset.reason = reason;
  const words = failure.words;
  const suspect = suspectOf(last.failure, last.reason);
  const check = { label: texts.check.run, run: () => void checkNow() };
  showNotice(words, ended ? "warn" : "bad", suspect === "" ? null : check);
  announce(`${words.title}. ${words.advice}`, { urgent: true });
  log.add("page", { type: `page.${failure.code}`, ...failure.detail });
  const keyAtFault = failure.code === "key_refused" || failure.code === "key_missing";
  keyField.setAttribute("aria-invalid", String(keyAtFault));
  if (keyAtFault) keyField.focus();
  if (suspect === "network") void checkNow();
}

function finish(next, status) {
  session = null;
  forget();
  disown();
  clearInterval(statsTimer);
  clearInterval(countdownTimer);
  clearTimeout(reconnectingTimer);
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
      enter("live", muted ? "muted" : "live");
      announce(texts.announce.live);
      stats.show({ session: session.id ?? texts.stats.none });
      statsTimer = watchStats(session);
      void remember(session);
    },
    path: (path) => stats.show({ state: texts.stats.states[path] }),
    reconnecting: showReconnecting,
    reconnected: showReconnected,
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

function showReconnecting(cause) {
  log.add("page", { type: "page.reconnecting", cause });
  clearTimeout(reconnectingTimer);
  reconnectingTimer = setTimeout(() => {
    showStatus("reconnecting");
    announce(texts.announce.reconnecting);
  }, state === "live" ? CALM_MS : 0);
}

function showReconnected(way) {
  clearTimeout(reconnectingTimer);
  log.add("page", { type: "page.reconnected", way });
  if (element("status").dataset.status === "reconnecting") announce(texts.announce.recovered);
  showStatus(muted ? "muted" : "live");
}

function play(stream) {
  sound.srcObject = stream;
  meters.attach(element("meter-model"), stream.getAudioTracks()[0]);
  sound.play().catch((error) => {
    const { playbackBlocked: words } = texts;
    if (error.name === "NotAllowedError") showNotice(words, "warn", { label: words.action, run: playNow });
    else log.add("page", { type: "page.playback", message: error.message }); // replaced or closed before it began
  });
}

function playNow() {
  hideNotice();
  void sound.play();
  meters.resume();
}

function watchStats(watched) {
  let [before, of] = [null, null];
  return setInterval(async () => {
    const { peer } = watched;
    if (!peer) return;
    const now = await reading(peer);
    if (session !== watched) return;
    stats.show(describe(now, peer === of ? before : null)); // another peer connection counts from zero
    [before, of] = [now, peer];
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

// --- across a reload ------------------------------------------------------------------------------------------------

// What a reload of this page needs; from here on a duplicate of this tab has it too, and must not use it.
async function remember(mine) {
  const { ticket } = mine;
  if (ticket === null) return;
  keepSession(ticket);
  const owned = await own(ticket.url);
  if (session === mine) disown = owned ?? disown;
  else owned?.();
}

function keepSession(ticket) {
  keep({ ...ticket, muted, microphone: microphoneList.value, lines: transcript.lines });
}

async function takeUp() {
  const found = kept();
  if (found === null) return;
  const owned = await own(found.url);
  if (owned === null) return forget(); // another tab, of which this one is a copy, has the conversation
  [disown, waiting] = [owned, found];
  transcript.restore(found.lines ?? []);
  if (await microphoneGranted()) return void resume();
  showNotice(texts.resume, "info", { label: texts.resume.action, run: () => void resume() });
  announce(`${texts.resume.title}. ${texts.resume.advice}`);
}

async function resume() {
  const { url, key, muted: wasMuted, microphone, lines } = waiting;
  waiting = null;
  reset();
  transcript.restore(lines ?? []);
  setMuted(wasMuted === true);
  if ([...microphoneList.options].some(({ value }) => value === microphone)) microphoneList.value = microphone;
  await withMicrophone("reconnecting", (mine) => mine.resume(track), { url, key });
}

// The person starts anew instead.
function leaveWaiting() {
  if (waiting === null) return;
  void hangUp(waiting.url, waiting.key);
  waiting = null;
  forget();
  disown();
}

function leavePage() {
  const ticket = session?.ticket ?? null;
  if (ticket !== null) keepSession(ticket); // a reload comes back to it; otherwise the relay ends it after a while
  else if (session !== null) stop();
}

// --- the check ------------------------------------------------------------------------------------------------------

const selectTab = wireTabs(document.querySelector("[role=tablist]"));
const checkPanel = new CheckPanel(keyForCheck, () => ({ ...last, session: session?.id ?? last.session }));

// A running conversation's key will do; otherwise one is minted, which costs nothing and is not used up.
async function keyForCheck(signal) {
  if (session?.ticket) return session.ticket.key;
  const key = keyField.value.trim();
  const trouble = keyTrouble(key);
  if (trouble) throw trouble;
  return mint(key, signal);
}

async function checkNow() {
  const failure = document.body.dataset.failure;
  selectTab("tab-check");
  const conclusion = await checkPanel.run();
  const stillShown = failure !== undefined && document.body.dataset.failure === failure;
  if (conclusion !== null && stillShown) showFinding(conclusion);
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
window.addEventListener("pagehide", leavePage);

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
  await takeUp();
}
