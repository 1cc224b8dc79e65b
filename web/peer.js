// One peer connection to the relay and its event channel.

import { Failure } from "./failures.js";

const CHANNEL = "oai-events";

/** `hears` gets, until closed, `path(connectionState)`, `opened()`, `message(data)`, `closed()` and `sound(stream)`. */
export class Peer {
  #sender;
  #channel;
  #hears;

  constructor(configuration, track, hears) {
    const connection = new RTCPeerConnection(configuration);
    this.connection = connection;
    this.#hears = hears;
    this.#sender = connection.addTrack(track, new MediaStream([track]));
    connection.ontrack = ({ streams: [stream] }) => stream && this.#hears?.sound(stream);
    connection.onconnectionstatechange = () => this.#hears?.path(connection.connectionState);
    this.#channel = connection.createDataChannel(CHANNEL);
    this.#channel.onopen = () => this.#hears?.opened();
    this.#channel.onmessage = ({ data }) => this.#hears?.message(data);
    this.#channel.onclose = () => this.#hears?.closed();
  }

  /** Whether sound and events pass. */
  get ready() {
    return this.connection.connectionState === "connected" && this.#channel.readyState === "open";
  }

  /** Whether a way to the relay was found, if not yet secured. */
  get reached() {
    return ["connected", "completed"].includes(this.connection.iceConnectionState);
  }

  /** Whether new ICE credentials would be enough to come back: what lies above ICE is still in order. */
  get restartable() {
    return this.#channel.readyState === "open" && this.connection.sctp?.transport.state === "connected";
  }

  /** The offer to post; with `restart` one with new ICE credentials. */
  async offer({ restart = false } = {}) {
    if (restart) this.connection.restartIce();
    await this.connection.setLocalDescription();
    return this.connection.localDescription.sdp;
  }

  /** Take the relay's answer. Throws Failure for one that is none. */
  async accept(answer, status = 200) {
    await this.connection.setRemoteDescription({ type: "answer", sdp: answer }).catch(() => {
      throw new Failure("answer_unexpected", { status });
    });
  }

  /** Send an event; false when the channel is not open. */
  send(event) {
    if (this.#channel.readyState !== "open") return false;
    this.#channel.send(JSON.stringify(event));
    return true;
  }

  /** Speak through another microphone from now on. */
  async useMicrophone(track) {
    await this.#sender.replaceTrack(track);
  }

  close() {
    this.#hears = null;
    this.connection.close();
  }
}
