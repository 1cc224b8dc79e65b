// One conversation with the relay: signalling, the peer connection, the event channel, and the first reason to end.

import { Failure, asFailure, parsed } from "./failures.js";
import { call, hangUp, mint } from "./signalling.js";
import { texts } from "./texts.js";

const CONNECT_WITHIN_MS = 20_000;
const CLOSE_AFTER_REASON_MS = 1_000; // the relay closes 100 ms after it gave a reason; never wait for ever

// The relay maps the name to the transcription model it has, or leaves transcription out.
const ASK_FOR_TRANSCRIPTION = {
  type: "session.update",
  event_id: "page_transcription",
  session: { type: "realtime", audio: { input: { transcription: { model: "gpt-4o-mini-transcribe" } } } },
};

/**
 * The listener hears: `stage("mint" | "call" | "connect")`, `live()`, `path(connectionState)`, `sound(stream)`,
 * `event("received" | "sent", event)` and, exactly once, `ended(failure | null, wasLive)` (null: the person stopped).
 */
export class Session {
  #listener;
  #peer = null;
  #channel = null;
  #sender = null;
  #ephemeralKey = "";
  #url = null;
  #abort = new AbortController();
  #reason = null;
  #live = false;
  #over = false;

  constructor(listener) {
    this.#listener = listener;
  }

  /** The peer connection, for its statistics; null before the call and after the end. */
  get peer() {
    return this.#peer;
  }

  /** The relay's id of this session (`rs_…`), or null. */
  get id() {
    return this.#url?.split("/").pop() ?? null;
  }

  /** Set everything up; the listener hears how it goes. Never throws. */
  async start(clientKey, track) {
    try {
      await this.#setUp(clientKey, track);
    } catch (error) {
      this.#end(asFailure(error));
    }
  }

  /** Speak through another microphone from now on. */
  async useMicrophone(track) {
    await this.#sender?.replaceTrack(track);
  }

  /** End the conversation on the person's wish: told to the relay first, so that it is recorded as a hang-up. */
  async stop() {
    const [peer, url] = [this.#peer, this.#url];
    this.#peer = null;
    this.#end(null);
    if (url !== null) await hangUp(url, this.#ephemeralKey);
    peer?.close();
  }

  async #setUp(clientKey, track) {
    const signal = this.#abort.signal;
    this.#listener.stage("mint");
    this.#ephemeralKey = await mint(clientKey, signal);

    const peer = this.#open(track);
    await peer.setLocalDescription();
    signal.throwIfAborted();
    this.#listener.stage("call");
    const { answer, session } = await call(this.#ephemeralKey, peer.localDescription.sdp, signal);
    this.#url = session;

    this.#listener.stage("connect");
    await peer.setRemoteDescription({ type: "answer", sdp: answer }).catch(() => {
      throw new Failure("answer_unexpected", { status: 201 });
    });
    setTimeout(() => this.#live || this.#lost(), CONNECT_WITHIN_MS);
  }

  #open(track) {
    const peer = new RTCPeerConnection({ iceServers: [] });
    this.#peer = peer;
    this.#sender = peer.addTrack(track, new MediaStream([track]));
    peer.ontrack = ({ streams: [stream] }) => stream && this.#listener.sound(stream);
    peer.onconnectionstatechange = () => this.#pathChanged(peer.connectionState);

    const channel = peer.createDataChannel("oai-events");
    this.#channel = channel;
    channel.onopen = () => this.#pathChanged(peer.connectionState);
    channel.onmessage = ({ data }) => this.#received(data);
    channel.onclose = () => this.#lost();
    return peer;
  }

  #pathChanged(state) {
    if (this.#over) return;
    this.#listener.path(state);
    if (state === "failed") this.#lost();
    if (state === "connected" && this.#channel.readyState === "open" && !this.#live) {
      this.#live = true;
      this.#listener.live();
    }
  }

  #received(data) {
    if (this.#over) return;
    const event = parsed(data);
    if (typeof event?.type !== "string") {
      this.#listener.event("received", { type: texts.events.unreadable, data: String(data).slice(0, 200) });
      return;
    }
    this.#listener.event("received", event);
    if (event.type === "session.created") this.#send(ASK_FOR_TRANSCRIPTION);
    if (event.type === "error" && Object.hasOwn(texts.reasons, event.error?.code)) this.#reasonGiven(event.error);
  }

  #send(event) {
    if (this.#channel.readyState !== "open") return;
    this.#channel.send(JSON.stringify(event));
    this.#listener.event("sent", event);
  }

  #reasonGiven({ code, message }) {
    this.#reason ??= new Failure("session_ended", { reason: code, message: String(message ?? "") });
    setTimeout(() => this.#end(this.#reason), CLOSE_AFTER_REASON_MS);
  }

  // The connection went, or never came: by the relay's reason if it gave one, else by what can be seen from here.
  #lost() {
    if (this.#over) return;
    if (this.#reason !== null || this.#live) {
      this.#end(this.#reason ?? new Failure("session_dropped"));
      return;
    }
    const reached = ["connected", "completed"].includes(this.#peer.iceConnectionState);
    const targets = targetsOf(this.#peer.remoteDescription?.sdp ?? "");
    this.#end(reached ? new Failure("connection_failed") : new Failure("network_blocked", { targets }));
  }

  #end(failure) {
    if (this.#over) return;
    this.#over = true;
    this.#abort.abort();
    const relayKnows = failure === null || failure === this.#reason;
    if (!relayKnows && this.#url !== null) void hangUp(this.#url, this.#ephemeralKey);
    this.#peer?.close();
    this.#peer = null;
    this.#listener.ended(failure, this.#live);
  }
}

/** Where the relay's answer says media must go, as `address:port` (RFC 8839 §5.1); at most four. */
export function targetsOf(sdp) {
  const found = [...sdp.matchAll(/^a=candidate:\S+ 1 udp \d+ (\S+) (\d+) /gim)].map(([, address, port]) =>
    address.includes(":") ? `[${address}]:${port}` : `${address}:${port}`,
  );
  return [...new Set(found)].slice(0, 4);
}
