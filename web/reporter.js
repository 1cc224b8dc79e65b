// What the page measures, told to the relay every ten seconds and once more before it hangs up.

import { report } from "./signalling.js";
import { figures, reading } from "./stats.js";

const EVERY_MS = 10_000;

export class Reporter {
  #url;
  #key;
  #of = null;
  #before = null;
  #timer;

  /** `connection` gives the RTCPeerConnection in service, null for none. */
  constructor(url, key, connection) {
    [this.#url, this.#key] = [url, key];
    this.#timer = setInterval(() => void this.tell(connection()), EVERY_MS);
  }

  /** Tell what there is since the last time. Never throws. */
  async tell(connection) {
    if (connection === null || connection.connectionState === "closed") return;
    const now = await reading(connection);
    const before = connection === this.#of ? this.#before : null; // another peer connection counts from zero
    [this.#of, this.#before] = [connection, now];
    await report(this.#url, this.#key, figures(now, before));
  }

  stop() {
    clearInterval(this.#timer);
  }
}
