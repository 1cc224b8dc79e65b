// One conversation with the relay: signalling, the peer connection, coming back to it, and the first reason to end.

import { targetsOf } from "./candidates.js";
import { Failure, asFailure, parsed } from "./failures.js";
import { watchNetwork } from "./network.js";
import { Peer } from "./peer.js";
import { Recovery } from "./recovery.js";
import { Reporter } from "./reporter.js";
import { call, comeBack, hangUp, iceServers, mint } from "./signalling.js";
import { reading } from "./stats.js";
import { texts } from "./texts.js";

const CONNECT_WITHIN_MS = 20_000;
const RESTART_WITHIN_MS = 5_000;
const REATTACH_WITHIN_MS = 12_000;
const LOOK_EVERY_MS = 50;
const NETWORK_CHANGES = ["online", "network", "woke"]; // of network.js; the others are of the peer connection
const CLOSE_AFTER_REASON_MS = 1_000; // the relay closes 100 ms after it gave a reason; never wait for ever

// The relay maps the name to the transcription model it has, or leaves transcription out.
const ASK_FOR_TRANSCRIPTION = {
  type: "session.update",
  event_id: "page_transcription",
  session: { type: "realtime", audio: { input: { transcription: { model: "gpt-4o-mini-transcribe" } } } },
};

/**
 * The listener hears: `stage("mint" | "call" | "connect")`, `live()`, `path(connectionState)`, `sound(stream)`,
 * `reconnecting(cause)`, `reconnected("restart" | "reattach")`, `event("received" | "sent", event)` and, exactly once,
 * `ended(failure | null, wasLive)` (null: the person stopped).
 */
export class Session {
  #listener;
  #track = null;
  #peer = null; // the one in service
  #newcomer = null; // the one that is to take its place
  #configuration = { iceServers: [] };
  #serversUntil = Number.POSITIVE_INFINITY;
  #key = "";
  #url = null;
  #abort = new AbortController();
  #recovery = null;
  #unwatch = () => undefined;
  #reporter = null;
  #reason = null;
  #live = false;
  #resumed = false;
  #over = false;

  /** With the `ticket` of a session that a page before this one had, `resume` comes back to it. */
  constructor(listener, ticket = null) {
    this.#listener = listener;
    if (ticket === null) return;
    [this.#url, this.#key, this.#resumed] = [ticket.url, ticket.key, true];
    this.#serversUntil = 0; // nothing is known of them yet
  }

  /** The peer connection, for its statistics; null before the call and after the end. */
  get peer() {
    return this.#peer?.connection ?? null;
  }

  /** The relay's id of this session (`rs_…`), or null. */
  get id() {
    return this.#url?.split("/").pop() ?? null;
  }

  /** What it takes to come back to this session, `{url, key}`; null while there is nothing to come back to. */
  get ticket() {
    const running = (this.#live || this.#resumed) && !this.#over && this.#url !== null;
    return running ? { url: this.#url, key: this.#key } : null;
  }

  /** Set everything up; the listener hears how it goes. Never throws. */
  async start(clientKey, track) {
    this.#track = track;
    try {
      await this.#setUp(clientKey);
    } catch (error) {
      this.#end(asFailure(error));
    }
  }

  /** Come back to the ticket's session; the listener hears how it goes. Never throws. */
  async resume(track) {
    this.#track = track;
    await this.#comeBack("reload");
  }

  /** Speak through another microphone from now on. */
  async useMicrophone(track) {
    this.#track = track;
    await this.#peer?.useMicrophone(track);
  }

  /** End the conversation on the person's wish: told to the relay first, so that it is recorded as a hang-up. */
  async stop() {
    const [peer, url] = [this.#peer, this.#url];
    this.#peer = null;
    this.#end(null);
    await this.#reporter?.tell(peer?.connection ?? null); // a session that is over takes no report
    if (url !== null) await hangUp(url, this.#key);
    peer?.close();
  }

  async #setUp(clientKey) {
    const { signal } = this.#abort;
    this.#listener.stage("mint");
    this.#key = await mint(clientKey, signal);
    await this.#askForServers(signal);

    this.#peer = this.#newPeer();
    const offer = await this.#peer.offer();
    signal.throwIfAborted();
    this.#listener.stage("call");
    const { answer, session } = await call(this.#key, offer, signal);
    this.#url = session;

    this.#listener.stage("connect");
    await this.#peer.accept(answer, 201);
    setTimeout(() => this.#live || this.#resumed || this.#lost("timeout"), CONNECT_WITHIN_MS);
  }

  async #askForServers(signal) {
    const { configuration, expiresAt } = await iceServers(this.#key, signal);
    [this.#configuration, this.#serversUntil] = [configuration, expiresAt];
  }

  #newPeer() {
    const peer = new Peer(this.#configuration, this.#track, {
      path: (state) => this.#inService(peer) && this.#pathChanged(state),
      opened: () => this.#opened(peer),
      message: (data) => this.#inService(peer) && this.#received(data),
      closed: () => this.#inService(peer) && this.#lost("closed"),
      sound: (stream) => (peer.stream = stream) && this.#inService(peer) && this.#listener.sound(stream),
    });
    return peer;
  }

  #inService(peer) {
    return peer === this.#peer && !this.#over;
  }

  // The relay hears a new peer from the moment its channel is open, and lets go of the one before.
  #opened(peer) {
    if (peer === this.#newcomer && !this.#over) {
      this.#peer?.close();
      [this.#peer, this.#newcomer] = [peer, null];
      if (peer.stream) this.#listener.sound(peer.stream);
    }
    if (this.#inService(peer)) this.#pathChanged(peer.connection.connectionState);
  }

  #pathChanged(state) {
    this.#listener.path(state);
    if (state === "failed" || (state === "disconnected" && this.#live)) this.#lost(state);
    else if (this.#peer.ready && !this.#live) this.#goLive();
  }

  #goLive() {
    this.#live = true;
    this.#unwatch = watchNetwork((why) => void this.#comeBack(why));
    if (this.#url !== null) this.#reporter = new Reporter(this.#url, this.#key, () => this.peer);
    this.#listener.live();
  }

  #received(data) {
    const event = parsed(data);
    if (typeof event?.type !== "string") {
      this.#listener.event("received", { type: texts.events.unreadable, data: String(data).slice(0, 200) });
      return;
    }
    this.#listener.event("received", event);
    // After coming back by a new peer connection there is another one, of a session that has it already.
    if (event.type === "session.created" && !event.session?.audio?.input?.transcription) {
      this.#send(ASK_FOR_TRANSCRIPTION);
    }
    if (event.type === "error" && Object.hasOwn(texts.reasons, event.error?.code)) this.#reasonGiven(event.error);
  }

  #send(event) {
    if (this.#peer.send(event)) this.#listener.event("sent", event);
  }

  #reasonGiven({ code, message }) {
    this.#reason ??= new Failure("session_ended", { reason: code, message: String(message ?? "") });
    setTimeout(() => this.#end(this.#reason), CLOSE_AFTER_REASON_MS);
  }

  // --- coming back --------------------------------------------------------------------------------------------------

  // The connection went, or never came: by the relay's reason if it gave one, else by what can be seen from here.
  #lost(cause) {
    if (this.#over) return;
    if (this.#reason !== null) this.#end(this.#reason);
    else if (this.#live) void this.#comeBack(cause);
    else if (this.#peer.reached) this.#end(new Failure("connection_failed"));
    else this.#end(new Failure("network_blocked", { targets: this.#targets() }));
  }

  #targets() {
    const sdp = this.#peer.connection.remoteDescription?.sdp ?? "";
    return Object.fromEntries(["udp", "tcp"].map((transport) => [transport, targetsOf(sdp, transport)]));
  }

  async #comeBack(cause) {
    if (this.#over || this.#reason !== null) return;
    if (this.#recovery !== null) {
      if (NETWORK_CHANGES.includes(cause)) this.#recovery.changed();
      return;
    }
    if (this.#url === null) {
      this.#end(new Failure("session_dropped"));
      return;
    }
    this.#listener.reconnecting(cause);
    this.#recovery = new Recovery({
      canRestart: () => this.#peer?.restartable ?? false,
      restart: (signal) => this.#restart(signal),
      reattach: (signal) => this.#reattach(signal),
    });
    try {
      this.#back(await this.#recovery.run(this.#abort.signal));
    } catch (error) {
      this.#end(this.#reason ?? asFailure(error));
    }
  }

  #back(way) {
    this.#recovery = null;
    if (this.#over) return;
    if (!this.#live) this.#goLive();
    this.#listener.reconnected(way);
    // What happened meanwhile was not listened to.
    if (!this.#peer.ready) this.#lost("closed");
  }

  async #restart(signal) {
    const peer = this.#peer;
    await this.#renewServers(signal);
    peer.connection.setConfiguration(this.#configuration);
    const offer = await peer.offer({ restart: true });
    await peer.accept(await comeBack(this.#url, this.#key, offer, signal));
    const [, ufrag] = /^a=ice-ufrag:(\S+)/m.exec(offer);
    return soon(async () => peer.ready && (await isOnPathOf(peer.connection, ufrag)), RESTART_WITHIN_MS, signal);
  }

  // The peer before stays until the new one takes its place: it may find its way back first.
  async #reattach(signal) {
    await this.#renewServers(signal);
    const peer = (this.#newcomer = this.#newPeer());
    try {
      const offer = await peer.offer();
      await peer.accept(await comeBack(this.#url, this.#key, offer, signal));
      return await soon(() => peer.ready, REATTACH_WITHIN_MS, signal);
    } finally {
      if (!this.#inService(peer)) peer.close();
      this.#newcomer = null;
    }
  }

  async #renewServers(signal) {
    if (Date.now() / 1000 > this.#serversUntil - 5) await this.#askForServers(signal);
  }

  #end(failure) {
    if (this.#over) return;
    this.#over = true;
    this.#abort.abort();
    this.#unwatch();
    this.#reporter?.stop();
    const relayKnows = failure === null || failure === this.#reason || failure.code === "session_over";
    if (!relayKnows && this.#url !== null) void hangUp(this.#url, this.#key);
    this.#peer?.close();
    this.#peer = null;
    this.#listener.ended(failure, this.#live);
  }
}

async function isOnPathOf(connection, ufrag) {
  const { usernameFragment } = (await reading(connection)).local;
  return usernameFragment === undefined || usernameFragment === ufrag; // a browser that does not tell is believed
}

/** Whether `check` comes true within so many milliseconds. Throws when aborted. */
async function soon(check, within, signal) {
  for (const until = performance.now() + within; performance.now() < until; ) {
    signal.throwIfAborted();
    if (await check()) return true;
    await new Promise((resolve) => setTimeout(resolve, LOOK_EVERY_MS));
  }
  return false;
}
