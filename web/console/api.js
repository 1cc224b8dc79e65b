// Requests to the admin API, and the credential they carry.

const BASE = "/admin/v1";
const KEPT = "relay.console.credential";
const REQUEST_MS = 30_000;
const TOO_LONG = 8_388_608; // characters of one event of the stream

/** The API said no. `code` and `message` are its own; `body` is all of its answer. */
export class Refused extends Error {
  constructor(status, body, retryAfter) {
    super(body?.error?.message ?? "");
    this.status = status;
    this.body = body;
    this.code = body?.error?.code ?? "";
    this.problems = body?.error?.problems ?? body?.problems ?? [];
    this.retryAfter = Number.parseInt(retryAfter ?? "", 10) || 0;
  }
}

/** The API did not answer. */
export class Unreachable extends Error {}

/** Whether a failure only says that nobody waits for the answer any more. */
export const abandoned = (error, signal) => signal?.aborted === true || error.name === "AbortError";

/** The credential lives in this tab's sessionStorage: it outlives a reload, not the tab. */
export const credential = {
  get: () => sessionStorage.getItem(KEPT),
  keep: (value) => sessionStorage.setItem(KEPT, value),
  forget: () => sessionStorage.removeItem(KEPT),
};

/** What cannot stand in a header cannot be a credential. */
export const sendable = (key) => /^[\x21-\x7e]+$/.test(key);

let onUnauthorized = () => {};

/** Who is told that the credential was refused. */
export function whenUnauthorized(listener) {
  onUnauthorized = listener;
}

async function send(method, path, { query = {}, json, text, etag, signal, anonymous = false, key = credential.get() } = {}) {
  const address = new URL(`${BASE}${path}`, location.origin);
  for (const [name, value] of Object.entries(query)) {
    if (value !== undefined && value !== null && value !== "") address.searchParams.set(name, value);
  }
  const headers = new Headers();
  if (!anonymous) headers.set("authorization", `Bearer ${key ?? ""}`);
  if (json !== undefined) headers.set("content-type", "application/json");
  if (text !== undefined) headers.set("content-type", "text/plain; charset=utf-8");
  if (etag !== undefined) headers.set("if-match", etag);
  const body = json === undefined ? text : JSON.stringify(json);
  try {
    return await fetch(address, { method, headers, body, signal, cache: "no-store", credentials: "omit", redirect: "error" });
  } catch (error) {
    if (abandoned(error, signal)) throw error;
    throw new Unreachable(error.message);
  }
}

async function refusal(answer, keyOfOwn) {
  const body = await answer.json().catch(() => null);
  if (answer.status === 401 && !keyOfOwn) onUnauthorized();
  return new Refused(answer.status, body, answer.headers.get("retry-after"));
}

/** One request; `{status, body, etag}`, the body parsed if it is JSON. Raises Refused or Unreachable. */
export async function request(method, path, options = {}) {
  const limit = AbortSignal.timeout(REQUEST_MS);
  const signal = options.signal ? AbortSignal.any([options.signal, limit]) : limit;
  try {
    const answer = await send(method, path, { ...options, signal });
    if (!answer.ok) throw await refusal(answer, options.key !== undefined);
    const isJson = (answer.headers.get("content-type") ?? "").includes("json");
    const body = answer.status === 204 ? null : await (isJson ? answer.json() : answer.text());
    return { status: answer.status, body, etag: answer.headers.get("etag") };
  } catch (error) {
    if (limit.aborted && !(error instanceof Refused)) throw new Unreachable("no answer in time");
    throw error instanceof SyntaxError || error instanceof TypeError ? new Unreachable(error.message) : error;
  }
}

/** What a GET answers. */
export const get = async (path, query, signal) => (await request("GET", path, { query, signal })).body;

/** The events of a stream until it ends, each `{event, data}`; EventSource could not send the credential. */
export async function* events(path, signal) {
  const answer = await send("GET", path, { signal });
  if (!answer.ok) throw await refusal(answer, false);
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let waiting = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    waiting += value.replaceAll("\r", "");
    if (waiting.length > TOO_LONG) throw new Unreachable("an event is too long");
    const blocks = waiting.split("\n\n");
    waiting = blocks.pop();
    for (const block of blocks) {
      const event = eventOf(block);
      if (event !== null) yield event;
    }
  }
}

function eventOf(block) {
  const lines = block.split("\n");
  const of = (name) => lines.filter((line) => line.startsWith(`${name}:`)).map((line) => line.slice(name.length + 1).trimStart());
  const data = of("data");
  return data.length === 0 ? null : { event: of("event")[0] ?? "message", data: JSON.parse(data.join("\n")) };
}
