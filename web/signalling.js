// The three HTTP requests of a session, at the GA doors of the page's own origin.

import { Failure, parsed, refusalOf } from "./failures.js";

const MINT_PATH = "v1/realtime/client_secrets";
const CALL_PATH = "v1/realtime/calls";
const ANSWER_WITHIN_MS = 45_000; // the relay answers a call after the service did, within its own shorter deadline
const HANG_UP_WITHIN_MS = 2_000;

/** Ask for an ephemeral key with the client's key. Returns the `ek_…` value. */
export async function mint(clientKey, signal) {
  const { status, text } = await post(MINT_PATH, clientKey, "application/json", '{"session":{"type":"realtime"}}', signal);
  const value = parsed(text)?.value;
  if (typeof value !== "string") throw new Failure("answer_unexpected", { status });
  return value;
}

/** Post the SDP offer. Returns the SDP `answer` and the `session` URL (null when the relay named none of its own). */
export async function call(ephemeralKey, offer, signal) {
  const { status, headers, text } = await post(CALL_PATH, ephemeralKey, "application/sdp", offer, signal);
  if (!text.startsWith("v=0")) throw new Failure("answer_unexpected", { status });
  return { answer: text, session: ownUrl(headers.get("location")) };
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

async function post(path, key, type, body, signal) {
  try {
    const response = await fetch(path, {
      method: "POST",
      headers: { authorization: `Bearer ${key}`, "content-type": type },
      body,
      cache: "no-store",
      signal: AbortSignal.any([signal, AbortSignal.timeout(ANSWER_WITHIN_MS)]),
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
