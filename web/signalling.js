// The HTTP requests of the page, at the GA doors of its own origin.

import { Failure, parsed, refusalOf } from "./failures.js";

const MINT_PATH = "v1/realtime/client_secrets";
const CALL_PATH = "v1/realtime/calls";
const ICE_SERVERS_PATH = "v1/realtime/ice_servers";
const CHECK_PATH = "v1/realtime/connection_check";
const ANSWER_WITHIN_MS = 45_000; // the relay answers a call after the service did, within its own shorter deadline
const ANSWER_OFFER_WITHIN_MS = 8_000; // what the relay answers by itself: longer means that the network swallowed it
const HANG_UP_WITHIN_MS = 2_000;
const REPORT_WITHIN_MS = 1_000;
const NO_SUCH_DOOR = [404, 405];

/** Ask for an ephemeral key with the client's key. Returns the `ek_…` value. */
export async function mint(clientKey, signal) {
  const body = '{"session":{"type":"realtime"}}';
  const { status, text } = await ask(MINT_PATH, clientKey, { type: "application/json", body, signal });
  const value = parsed(text)?.value;
  if (typeof value !== "string") throw new Failure("answer_unexpected", { status });
  return value;
}

/** Which STUN and TURN servers to use: `{configuration, expiresAt}`, for RTCPeerConnection and in Unix seconds. */
export async function iceServers(ephemeralKey, signal) {
  let told = {};
  try {
    const { status, text } = await ask(ICE_SERVERS_PATH, ephemeralKey, { method: "GET", signal });
    told = parsed(text);
    if (!Array.isArray(told?.ice_servers)) throw new Failure("answer_unexpected", { status });
  } catch (error) {
    if (!NO_SUCH_DOOR.includes(error.status)) throw error; // a relay without the door has no servers
  }
  const servers = (told.ice_servers ?? []).map(({ urls, username, credential }) => ({ urls, username, credential }));
  return {
    configuration: {
      iceServers: servers,
      iceTransportPolicy: servers.length > 0 && told.ice_transport_policy === "relay" ? "relay" : "all",
    },
    expiresAt: servers.length > 0 && Number.isFinite(told.expires_at) ? told.expires_at : Number.POSITIVE_INFINITY,
  };
}

/** Post the SDP offer. Returns the SDP `answer` and the `session` URL (null when the relay named none of its own). */
export async function call(ephemeralKey, offer, signal) {
  const { headers, text } = await postOffer(CALL_PATH, ephemeralKey, offer, ANSWER_WITHIN_MS, signal);
  return { answer: text, session: ownUrl(headers.get("location")) };
}

/** Post an offer to a running session, of its peer connection or of a new one. Returns the SDP answer. */
export async function comeBack(session, ephemeralKey, offer, signal) {
  return (await postOffer(session, ephemeralKey, offer, ANSWER_OFFER_WITHIN_MS, signal)).text;
}

/** Post the offer of a connection check. Returns the SDP answer. */
export async function connectionCheck(ephemeralKey, offer, signal) {
  return (await postOffer(CHECK_PATH, ephemeralKey, offer, ANSWER_OFFER_WITHIN_MS, signal)).text;
}

/** End the session at the relay; also works while the page goes away. True when the relay confirmed. */
export async function hangUp(session, ephemeralKey) {
  try {
    const response = await fetch(`${session}/hangup`, {
      method: "POST",
      headers: { authorization: `Bearer ${ephemeralKey}` },
      keepalive: true,
      signal: AbortSignal.timeout(HANG_UP_WITHIN_MS),
    });
    return response.ok;
  } catch {
    return false; // closing the connection ends the session as well
  }
}

/** Tell the relay what this side measures; also works while the page goes away. */
export async function report(session, ephemeralKey, figures) {
  try {
    await fetch(`${session}/stats`, {
      method: "POST",
      headers: { authorization: `Bearer ${ephemeralKey}`, "content-type": "application/json" },
      body: JSON.stringify(figures),
      keepalive: true,
      signal: AbortSignal.timeout(REPORT_WITHIN_MS),
    });
  } catch {
    // Figures are for whoever runs the relay; the conversation does not depend on them.
  }
}

async function postOffer(path, key, offer, within, signal) {
  const answer = await ask(path, key, { type: "application/sdp", body: offer, within, signal });
  if (!answer.text.startsWith("v=0")) throw new Failure("answer_unexpected", { status: answer.status });
  return answer;
}

async function ask(path, key, { method = "POST", type, body, within = ANSWER_WITHIN_MS, signal }) {
  try {
    const response = await fetch(path, {
      method,
      headers: { authorization: `Bearer ${key}`, ...(type && { "content-type": type }) },
      body,
      cache: "no-store",
      signal: AbortSignal.any([signal, AbortSignal.timeout(within)]),
    });
    const { ok, status, headers } = response;
    const answer = { status, headers, text: await response.text() };
    if (!ok) throw refusalOf(answer);
    return answer;
  } catch (error) {
    if (error instanceof Failure || error.name === "AbortError") throw error;
    if (error.name === "TimeoutError") throw new Failure("relay_timeout");
    throw new Failure("relay_unreachable", { offline: !navigator.onLine });
  }
}

// The credential goes to the page's own origin only, whatever the header says.
function ownUrl(path) {
  if (path === null) return null;
  const url = new URL(path, location.href);
  return url.origin === location.origin ? url.href : null;
}
