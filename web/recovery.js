// Coming back to a running session: which way to try next, and how long.

import { Failure } from "./failures.js";

// How long the relay keeps the session is its own matter: once it answers it says so. This bounds the asking.
const GIVE_UP_AFTER_MS = 120_000;
const PAUSES_MS = [250, 500, 1_000, 2_000, 4_000, 8_000];
const SAME_CHANGE_MS = 500; // one change of network comes as several events
const OVER = [401, 403, 404, 405];
const NOT_THIS_WAY = [400, 409];

/**
 * Tries `ways.restart(signal)` (ICE restart) while `ways.canRestart()`, then `ways.reattach(signal)` (a new peer
 * connection): each resolves to whether sound and events pass again, and throws Failure for a refusal.
 */
export class Recovery {
  #ways;
  #attempt = null;
  #began = 0;

  constructor(ways) {
    this.#ways = ways;
  }

  /** The network changed once more: what is under way is in vain. */
  changed() {
    if (performance.now() - this.#began > SAME_CHANGE_MS) this.#attempt?.abort();
  }

  /** Resolves to the way that worked, `restart` or `reattach`; throws Failure, or what `signal` was aborted with. */
  async run(signal) {
    const giveUpAt = performance.now() + GIVE_UP_AFTER_MS;
    let [failures, mayRestart] = [0, true];
    for (;;) {
      this.#begin();
      const stop = AbortSignal.any([signal, this.#attempt.signal]);
      const way = mayRestart && this.#ways.canRestart() ? "restart" : "reattach";
      let pause;
      try {
        if (await this.#ways[way](stop)) return way;
        pause = way === "restart" ? 0 : backOff(failures);
        mayRestart = false;
      } catch (error) {
        signal.throwIfAborted();
        pause = this.#attempt.signal.aborted ? 0 : pauseAfter(error, way, failures);
        if (NOT_THIS_WAY.includes(error.status) && pause === 0) mayRestart = false;
      }
      failures += 1;
      if (performance.now() + pause > giveUpAt) throw new Failure("session_dropped");
      await rest(pause, stop);
      signal.throwIfAborted();
      if (this.#attempt.signal.aborted) [failures, mayRestart] = [0, true];
    }
  }

  #begin() {
    this.#attempt = new AbortController();
    this.#began = performance.now();
  }
}

// Throws what cannot be mended by trying again.
function pauseAfter(error, way, failures) {
  const { status = 0, retryAfter = 0 } = error;
  if (!(error instanceof Failure)) throw error;
  if (OVER.includes(status)) throw new Failure("session_over");
  if (retryAfter > 0) return retryAfter * 1000;
  if (NOT_THIS_WAY.includes(status)) {
    if (way === "reattach") throw error;
    return 0;
  }
  return backOff(failures);
}

const backOff = (failures) => PAUSES_MS[Math.min(failures, PAUSES_MS.length - 1)];

function rest(milliseconds, signal) {
  if (milliseconds === 0 || signal.aborted) return Promise.resolve();
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, milliseconds);
    signal.addEventListener("abort", () => (clearTimeout(timer), resolve()), { once: true });
  });
}
