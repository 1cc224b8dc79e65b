// The connection panel: what the browser measures of the leg between this page and the relay.

import { texts } from "./texts.js";

const words = texts.stats;
const ROWS = [
  "state", "roundTrip", "lossIn", "lossOut", "jitterIn", "jitterOut", "buffer", "rateIn", "rateOut", "codec", "path",
  "session",
];

/** A `<dl>` with one row per measure; each value element carries `data-stat`. */
export class StatsPanel {
  #values;

  constructor(list) {
    this.#values = new Map(ROWS.map((name) => [name, addRow(list, name)]));
    this.clear();
  }

  /** Show formatted values (`{name: text}`); the other rows stay as they are. */
  show(values) {
    for (const [name, text] of Object.entries(values)) this.#values.get(name).textContent = text;
  }

  clear() {
    for (const value of this.#values.values()) value.textContent = words.none;
    this.show({ state: words.states.new });
  }
}

function addRow(list, name) {
  const [row, term, value] = ["div", "dt", "dd"].map((tag) => document.createElement(tag));
  term.textContent = words[name];
  value.dataset.stat = name;
  row.append(term, value);
  list.append(row);
  return value;
}

/** One reading of a peer connection: counters and gauges in seconds, bytes, packets; absent ones undefined. */
export async function reading(peer) {
  const report = [...(await peer.getStats()).values()];
  const find = (type, fits = () => true) => report.find((entry) => entry.type === type && fits(entry)) ?? {};
  const audio = ({ kind }) => kind === "audio";
  const selected = find("transport").selectedCandidatePairId;
  const pair = find("candidate-pair", (entry) =>
    selected ? entry.id === selected : entry.nominated && entry.state === "succeeded");
  const inbound = find("inbound-rtp", audio);
  return {
    at: performance.now() / 1000,
    pair,
    inbound,
    outbound: find("outbound-rtp", audio),
    atRelay: find("remote-inbound-rtp", audio),
    codec: find("codec", ({ id }) => id === inbound.codecId),
    local: find("local-candidate", ({ id }) => id === pair.localCandidateId),
    remote: find("remote-candidate", ({ id }) => id === pair.remoteCandidateId),
  };
}

/** The panel's texts from a reading and the one before it (null for the first). */
export function describe(now, before) {
  const { pair, inbound, outbound, atRelay, codec, local, remote } = now;
  const roundTrip = pair.currentRoundTripTime ?? atRelay.roundTripTime;
  return {
    roundTrip: format(words.milliseconds, roundTrip, 1000),
    lossIn: lossText(inbound, before?.inbound),
    lossOut: format(words.share, atRelay.fractionLost, 100),
    jitterIn: format(words.fine, inbound.jitter, 1000),
    jitterOut: format(words.fine, atRelay.jitter, 1000),
    buffer: format(words.milliseconds, perUnit(inbound, before?.inbound), 1000),
    rateIn: format(words.kilobits, rate(now, before, "inbound", "bytesReceived"), 8 / 1000),
    rateOut: format(words.kilobits, rate(now, before, "outbound", "bytesSent"), 8 / 1000),
    codec: codec.mimeType ? `${codec.mimeType.replace("audio/", "")} ${codec.clockRate / 1000} kHz` : words.none,
    path: remote.address
      ? `${local.protocol} ${local.candidateType} → ${remote.address}:${remote.port}`
      : words.none,
  };
}

/** What the relay is told of two readings, the later one first (null before the first): its own words, null if unknown. */
export function figures(now, before) {
  const { pair, inbound, atRelay } = now;
  const told = {
    rtt_seconds: pair.currentRoundTripTime ?? atRelay.roundTripTime,
    jitter_seconds: inbound.jitter,
    buffer_seconds: perUnit(inbound, before?.inbound),
    loss_in: lossBetween(inbound, before?.inbound),
    loss_out: atRelay.fractionLost,
    concealed: concealedBetween(inbound, before?.inbound),
  };
  return Object.fromEntries(
    Object.entries(told).map(([name, value]) => [name, Number.isFinite(value) ? value : null]),
  );
}

/** The share of packets lost between two inbound readings, 0 to 1; undefined before the first packet. */
export function lossBetween(now, before) {
  const lost = (now.packetsLost ?? 0) - (before?.packetsLost ?? 0);
  const received = (now.packetsReceived ?? 0) - (before?.packetsReceived ?? 0);
  if (now.packetsReceived === undefined) return undefined;
  return lost + received > 0 ? Math.max(0, lost) / (lost + received) : 0;
}

// The share of the samples played that the browser had to make up.
function concealedBetween(now, before) {
  const concealed = (now.concealedSamples ?? Number.NaN) - (before?.concealedSamples ?? 0);
  const played = (now.totalSamplesReceived ?? 0) - (before?.totalSamplesReceived ?? 0);
  return played > 0 ? concealed / played : undefined;
}

function lossText(inbound, before) {
  const loss = lossBetween(inbound, before);
  return loss === undefined ? words.none : words.percent(loss * 100, Math.max(0, inbound.packetsLost));
}

// Mean time a sample waited in the playback buffer since the last reading.
function perUnit(now, before) {
  const emitted = (now.jitterBufferEmittedCount ?? 0) - (before?.jitterBufferEmittedCount ?? 0);
  const waited = (now.jitterBufferDelay ?? 0) - (before?.jitterBufferDelay ?? 0);
  return emitted > 0 ? waited / emitted : undefined;
}

function rate(now, before, side, counter) {
  const count = (now[side][counter] ?? Number.NaN) - (before?.[side][counter] ?? Number.NaN);
  return count / (now.at - (before?.at ?? now.at));
}

function format(text, value, scale) {
  return Number.isFinite(value) ? text(value * scale) : words.none;
}
