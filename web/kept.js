// What a tab keeps of its running session, so that this survives a reload: in sessionStorage, for this tab alone.

import { parsed } from "./failures.js";

const NAME = "relay.session";
const OWNED_WITHIN_MS = 1_500; // a page that is being reloaded lets go of its lock within this

/** Keep `{url, key, muted, microphone, lines}`; a browser that stores nothing cannot continue after a reload. */
export function keep(kept) {
  try {
    sessionStorage.setItem(NAME, JSON.stringify(kept));
  } catch {
    forget(); // full or forbidden: half of it is of no use
  }
}

/** What was kept, or null. */
export function kept() {
  try {
    const found = parsed(sessionStorage.getItem(NAME) ?? "null");
    const usable = typeof found?.key === "string" && new URL(found.url).origin === location.origin;
    return usable ? found : null;
  } catch {
    return null;
  }
}

export function forget() {
  try {
    sessionStorage.removeItem(NAME);
  } catch {
    // forbidden, so there is nothing
  }
}

/**
 * Own a session while this page lives: a duplicated tab has a copy of what was kept, and must not take the session
 * away. Resolves to what gives it up, or null when another tab has it.
 */
export function own(url) {
  return new Promise((owned) => {
    const held = () => new Promise((release) => owned(release));
    const { locks } = navigator;
    if (locks === undefined) return owned(() => undefined);
    return locks.request(url, { signal: AbortSignal.timeout(OWNED_WITHIN_MS) }, held).catch(() => owned(null));
  });
}
