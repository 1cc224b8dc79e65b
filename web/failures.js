// The closed vocabulary of what can go wrong, and how a refusal of the relay becomes one of its words.

import { texts } from "./texts.js";

/** A failure a person must hear of: `code` is a key of `texts.failures`, `detail` what its text needs. */
export class Failure extends Error {
  constructor(code, detail = {}) {
    super(code);
    this.code = code;
    this.detail = detail;
  }

  /** `{title, advice}` in the language of the page. */
  get words() {
    return texts.failures[this.code](this.detail);
  }
}

// Failures, end reasons and error codes after which a check of the connection can tell more.
const SUSPECTS = {
  network: /^(network_blocked|connection_failed|client_unreachable|client_dtls_failed)$/,
  service: /^service_(unreachable|timeout|lost|dtls_failed|channel_timeout)$/,
  either: /^(session_dropped|session_over|relay_timeout|client_lost)$/,
};

/** Whose connection is at fault by these words: "network" (from here to the relay), "service", "either" or "". */
export const suspectOf = (...words) =>
  Object.keys(SUSPECTS).find((suspect) => words.some((word) => SUSPECTS[suspect].test(word))) ?? "";

export const asFailure = (error) =>
  error instanceof Failure ? error : new Failure("unexpected", { message: String(error?.message ?? error) });

/**
 * A refused request: status and code of the error body decide (`{error: {message, type, param, code}}`).
 * Beside its words the failure carries the `status`, the relay's own `refusal` (its error code, or "") and the seconds
 * to wait (`retryAfter`, 0 when unknown).
 */
export function refusalOf({ status, headers, text }) {
  const retryAfter = secondsToWait(headers);
  const error = parsed(text)?.error;
  return Object.assign(wordsFor(status, error, retryAfter), { status, refusal: String(error?.code ?? ""), retryAfter });
}

function wordsFor(status, error, retryAfter) {
  if (typeof error !== "object" || error === null) return new Failure("answer_unexpected", { status });
  const message = typeof error.message === "string" ? error.message.slice(0, 500) : "";
  // Of the 401s, one is of the relay's own credential: the person's key is in order.
  if (status === 401 && error.code !== "service_unauthorized") return new Failure("key_refused", { message });
  if (status === 403 && error.code === "origin_not_allowed") {
    return new Failure("origin_refused", { origin: location.origin });
  }
  if (status === 429 && error.code === "rate_limit_exceeded") return new Failure("rate_limited", { retryAfter });
  if (status === 429 || status === 503) return new Failure("relay_busy", { retryAfter, message });
  return new Failure("request_refused", { status, message });
}

/** The parsed JSON, or undefined for anything else (a proxy's page, a truncated answer). */
export function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** Seconds from `retry-after-ms` or `retry-after` (seconds or date, RFC 9110 §10.2.3); 0 when unknown. */
export function secondsToWait(headers) {
  const milliseconds = Number.parseFloat(headers.get("retry-after-ms") ?? "");
  if (milliseconds > 0) return Math.ceil(milliseconds / 1000);
  const value = headers.get("retry-after") ?? "";
  if (/^\d+$/.test(value)) return Number(value);
  const date = Date.parse(value);
  return Number.isNaN(date) ? 0 : Math.max(0, Math.ceil((date - Date.now()) / 1000));
}
