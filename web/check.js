// Which ways from this browser to the relay are open: each by a real attempt, with no microphone and no session.

import { targetsOf, withOnly } from "./candidates.js";
import { asFailure } from "./failures.js";
import { connectionCheck, iceServers } from "./signalling.js";
import { reading } from "./stats.js";

const TRY_FOR_MS = 8_000;
const LOOK_EVERY_MS = 50;
const UNREACHABLE = 701; // WebRTC §4.8.3, RTCPeerConnectionIceErrorEvent: no answer from the server

// By preference: how a session would choose.
const WAYS = [
  { way: "udp", carrier: "udp" },
  { way: "tcp", carrier: "tcp" },
  { way: "turn_udp", carrier: "udp", server: /^turn:(?!.*transport=tcp)/i },
  { way: "turn_tcp", carrier: "udp", server: /^turn:.*transport=tcp/i },
  { way: "turn_tls", carrier: "udp", server: /^turns:/i },
];

/**
 * Check every way with an ephemeral key; `tell(result)` hears each as it is known, `signalling` first. A result is
 * `{way, outcome, targets, milliseconds, note}`: outcome `works`, `blocked`, `altered` (packets pass, the encrypted
 * connection does not), `not_offered`, or `untried` with a `failure`; note, of a TURN way that is blocked, `no_answer`,
 * `refused` or `no_relay`.
 *
 * Resolves to `{signalling: {milliseconds} | {failure}, relayOnly, ways}`.
 */
export async function checkConnection(key, signal, tell) {
  let configuration;
  const began = performance.now();
  try {
    ({ configuration } = await iceServers(key, signal));
  } catch (error) {
    return { signalling: { failure: asFailure(error) }, relayOnly: false, ways: [] };
  }
  const signalling = { milliseconds: performance.now() - began };
  tell({ way: "signalling", outcome: "works", ...signalling });
  const attempts = WAYS.map(async (wanted) => {
    const result = { way: wanted.way, targets: [], ...(await attempt(wanted, key, configuration, signal)) };
    tell(result);
    return result;
  });
  return {
    signalling,
    relayOnly: configuration.iceTransportPolicy === "relay",
    ways: await Promise.all(attempts),
  };
}

/**
 * What the results mean: `{code, detail}`, a key of `texts.check.conclusions`. `suspect` is whose connection ended the
 * last conversation (`suspectOf` in failures.js).
 */
export function conclusionOf({ signalling, relayOnly, ways }, suspect) {
  if (signalling.failure) return { code: "no_signalling", detail: { failure: signalling.failure } };
  const untried = ways.find(({ outcome }) => outcome === "untried");
  if (untried) return { code: "untried", detail: { failure: untried.failure } };
  // With a relay-only policy a session does not even try the direct ways.
  const tried = ways.filter(({ way }) => !relayOnly || way.startsWith("turn"));
  const usable = tried.filter(({ outcome }) => outcome !== "not_offered");
  const open = usable.filter(({ outcome }) => outcome === "works");
  const shut = usable.filter(({ outcome }) => outcome !== "works");
  const detail = { open, shut };
  if (usable.length === 0) return { code: "nothing_offered", detail };
  const altered = shut.some(({ outcome }) => outcome === "altered");
  if (altered && open.length === 0) return { code: "altered", detail };
  if (open.length === 0) return { code: shut.every(isLoopback) ? "loopback_only" : "all_blocked", detail };
  if (suspect === "service") return { code: "service_side", detail };
  if (usable[0] !== open[0]) return { code: "second_best", detail };
  return { code: suspect === "network" ? "works_now" : "all_well", detail };
}

// Firefox sends no media to these at all, and from another machine they lead nowhere.
const isLoopback = ({ targets }) => targets.every((target) => /^(127\.|\[::1\])/.test(target));

async function attempt({ carrier, server }, key, configuration, signal) {
  const servers = configuration.iceServers
    .map((each) => ({ ...each, urls: [each.urls].flat().filter((url) => server?.test(url)) }))
    .filter(({ urls }) => urls.length > 0);
  if (server && servers.length === 0) return { outcome: "not_offered" };
  const peer = new RTCPeerConnection({ iceServers: servers, iceTransportPolicy: server ? "relay" : "all" });
  const heard = { allocated: false, errors: [] };
  peer.onicecandidate = ({ candidate }) => (heard.allocated ||= candidate?.type === "relay");
  peer.onicecandidateerror = ({ errorCode }) => heard.errors.push(errorCode);
  try {
    peer.addTransceiver("audio", { direction: "recvonly" });
    await peer.setLocalDescription();
    const answer = withOnly(await connectionCheck(key, peer.localDescription.sdp, signal), carrier);
    const targets = server ? servers.flatMap(({ urls }) => urls) : targetsOf(answer, carrier);
    if (targetsOf(answer, carrier).length === 0) return { outcome: "not_offered" };
    await peer.setRemoteDescription({ type: "answer", sdp: answer });
    return { targets, ...(await outcomeOf(peer, signal)), ...(server && { note: noteOf(heard) }) };
  } catch (error) {
    return { outcome: "untried", failure: asFailure(error) };
  } finally {
    peer.close();
  }
}

async function outcomeOf(peer, signal) {
  const until = performance.now() + TRY_FOR_MS;
  while (performance.now() < until && !["connected", "failed"].includes(peer.connectionState)) {
    signal.throwIfAborted();
    await new Promise((resolve) => setTimeout(resolve, LOOK_EVERY_MS));
  }
  if (peer.connectionState !== "connected") {
    const reached = ["connected", "completed"].includes(peer.iceConnectionState);
    return { outcome: reached ? "altered" : "blocked" };
  }
  const { currentRoundTripTime } = (await reading(peer)).pair;
  return { outcome: "works", milliseconds: currentRoundTripTime && currentRoundTripTime * 1000 };
}

function noteOf({ allocated, errors }) {
  if (allocated) return "no_relay";
  return errors.some((code) => code !== UNREACHABLE) ? "refused" : "no_answer";
}
