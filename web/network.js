// When the network under the page has changed, as far as a browser tells.

const LOOK_EVERY_MS = 2_000;
const ASLEEP_AFTER_MS = 10_000; // a timer that is so late did not run: the machine slept

/** Call `changed(why)` when the network came back or changed, or the machine woke up. Returns what stops it. */
export function watchNetwork(changed) {
  const stopped = new AbortController();
  const { signal } = stopped;
  const { connection } = navigator;

  addEventListener("online", () => changed("online"), { signal });

  // Without a type the event only tells of a new estimate of the speed, which comes often and means nothing.
  let type = connection?.type;
  connection?.addEventListener?.("change", () => connection.type !== type && changed("network"), { signal });
  connection?.addEventListener?.("change", () => (type = connection.type), { signal });

  let seen = Date.now();
  const look = () => {
    const away = Date.now() - seen;
    seen = Date.now();
    if (away > ASLEEP_AFTER_MS) changed("woke");
  };
  const timer = setInterval(look, LOOK_EVERY_MS);
  document.addEventListener("visibilitychange", () => document.visibilityState === "visible" && look(), { signal });
  return () => {
    clearInterval(timer);
    stopped.abort();
  };
}
