// Every text a person reads on this page, in one place. To translate: copy, translate the values, change `language`.

export const language = "en";

const whole = new Intl.NumberFormat(language, { maximumFractionDigits: 0 });
const tenth = new Intl.NumberFormat(language, { minimumFractionDigits: 1, maximumFractionDigits: 1 });
const plural = new Intl.PluralRules(language);

const list = new Intl.ListFormat(language, { type: "conjunction" });

const seconds = (count) => `${whole.format(count)} ${plural.select(count) === "one" ? "second" : "seconds"}`;
const tryAgain = (retryAfter) => (retryAfter > 0 ? `Try again in ${seconds(retryAfter)}.` : "Try again in a moment.");

export const texts = {
  page: { title: "Talk to the model", heading: "Talk to the model", skip: "Skip to the conversation" },

  controls: {
    key: "Access key",
    keyHint: "From your administrator. This page stores it nowhere.",
    microphone: "Microphone",
    microphoneHint: "The names appear once the browser may use the microphone.",
    microphoneDefault: "The browser’s default",
    microphoneUnnamed: (number) => `Microphone ${whole.format(number)}`,
    start: "Start talking",
    again: "Start again",
    cancel: "Cancel",
    stop: "Stop",
    mute: "Mute",
    unmute: "Unmute",
  },

  meters: { you: "You", model: "Model" },

  status: {
    idle: "Ready",
    microphone: "Waiting for the microphone…",
    mint: "Checking the key…",
    call: "Calling the model…",
    connect: "Connecting…",
    live: "Live",
    muted: "Live, muted",
    reconnecting: "Reconnecting…",
    ended: "Ended",
    failed: "Not connected",
  },

  announce: {
    live: "Connected. You can speak now.",
    muted: "Microphone muted.",
    unmuted: "Microphone on.",
    reconnecting: "The connection is interrupted. Reconnecting.",
    recovered: "The connection is back.",
    stopped: "Conversation ended.",
  },

  transcript: {
    heading: "Conversation",
    empty: "Nothing said yet. Start, then speak: both sides appear here.",
    you: "You",
    model: "Model",
    speaking: "Speaking…",
    spoken: (length) => `Spoke for ${tenth.format(length)} s`,
    heard: "Spoke",
    answering: "Answering…",
    noAnswer: "No spoken answer",
    untranscribed: "could not be transcribed",
    interrupted: "interrupted",
  },

  details: { label: "Details", connection: "Connection", events: "Events", check: "Check" },

  check: {
    hint: "Tries each way from this browser to the relay. Nothing is recorded, and the microphone stays off.",
    run: "Check my connection",
    running: "Checking the connection…",
    list: "Ways to the relay",
    ways: {
      signalling: "Signalling (HTTPS)",
      udp: "UDP",
      tcp: "TCP",
      turn_udp: "TURN over UDP",
      turn_tcp: "TURN over TCP",
      turn_tls: "TURN over TLS",
    },
    works: (value) => (value === undefined ? "works" : `works, ${whole.format(Math.max(1, value))} ms`),
    outcomes: {
      running: "checking…",
      blocked: "blocked",
      altered: "not secured",
      not_offered: "not offered",
      untried: "not checked",
    },
    // Why a way over a TURN server is blocked.
    notes: {
      no_answer: "no answer from the server",
      refused: "refused by the server",
      no_relay: "server works, relay not reached",
    },
    conclusions: {
      no_signalling: ({ failure }) => `Nothing could be checked. ${failure.words.title}: ${failure.words.advice}`,
      untried: ({ failure }) =>
        failure.status === 404 || failure.status === 405
          ? "This relay has no connection check."
          : `Not every way could be checked. ${failure.words.title}: ${failure.words.advice}`,
      nothing_offered: () => "The relay offers this browser no way for sound at all. Tell your administrator.",
      all_well: ({ open }) => `Everything a conversation needs works from here; it goes over ${wayWords(open[0])}.`,
      works_now: ({ open }) =>
        `This browser reaches the relay now (over ${wayWords(open[0])}). Start again; if that fails too, the ` +
        "fault is on the relay’s side: tell your administrator.",
      second_best: ({ open, shut }) =>
        `Your network does not let ${listOf(betterThan(shut, open[0]))} through; ${wayWords(open[0])} works. ` +
        "A conversation can use that, but its sound may falter when packets are lost; your network team can open the " +
        "better way.",
      all_blocked: ({ shut }) =>
        `The relay answers, but your network lets no sound through: ${listOf(shut)} ` +
        `${shut.length > 1 ? "are all" : "is"} blocked. Ask your network team to open one of them.`,
      loopback_only: ({ shut }) =>
        `The relay asks for sound at its own machine’s loopback address only (${listOf(shut)}). Firefox sends none there, ` +
        "and from another machine nobody can: have the relay advertise another address (its setting ice.advertise).",
      altered: ({ shut }) =>
        `Packets get through, but the encrypted connection does not: a firewall or proxy alters ${listOf(shut)}.`,
      service_side: ({ open }) =>
        `This browser reaches the relay (over ${wayWords(open[0])}). What failed is the relay’s own way to the ` +
        "model’s service. Tell your administrator.",
    },
    report: {
      heading: "Report for the help desk",
      copy: "Copy report",
      copied: "Copied.",
      selected: "Selected: copy it with the keyboard.",
      at: "Connection check at",
      page: "Relay",
      browser: "Browser",
      network: "Network",
      session: "Last conversation",
      conclusion: "Conclusion",
    },
  },

  events: {
    filter: "Filter by type or content",
    direction: "Direction",
    directions: { all: "Both ways", received: "Received", sent: "Sent", page: "This page" },
    marks: { received: "in", sent: "out", page: "page" },
    clear: "Clear",
    count: (shown, kept, limit) =>
      shown === kept
        ? `${whole.format(kept)} events (the last ${whole.format(limit)} are kept)`
        : `${whole.format(shown)} of ${whole.format(kept)} events`,
    unreadable: "unreadable message",
  },

  stats: {
    state: "State",
    states: {
      new: "not connected",
      connecting: "connecting",
      connected: "connected",
      disconnected: "interrupted",
      failed: "failed",
      closed: "closed",
    },
    roundTrip: "Round trip to the relay",
    lossIn: "Loss, relay to you",
    lossOut: "Loss, you to relay",
    jitterIn: "Jitter, relay to you",
    jitterOut: "Jitter, you to relay",
    buffer: "Playback buffer",
    rateIn: "Received",
    rateOut: "Sent",
    codec: "Codec",
    path: "Path",
    session: "Session",
    none: "–",
    milliseconds: (value) => `${whole.format(value)} ms`,
    fine: (value) => `${tenth.format(value)} ms`,
    percent: (value, total) => `${tenth.format(value)} % (${whole.format(total)} in all)`,
    share: (value) => `${tenth.format(value)} %`,
    kilobits: (value) => `${whole.format(value)} kb/s`,
  },

  notice: { label: "Message" },

  ending: (left, why) => ({
    title: left > 0 ? `This conversation ends in ${seconds(left)}` : "This conversation is ending",
    advice: why,
  }),

  microphoneLost: {
    title: "The microphone is gone",
    advice: "It was unplugged or switched off. Choose another one above; the conversation goes on.",
  },
  playbackBlocked: {
    title: "The browser blocks the sound",
    advice: "It plays after a click; or allow this site to play sound in the address bar.",
    action: "Play the sound",
  },
  resume: {
    title: "Your conversation is still there",
    advice: "The page was reloaded. Continue within a few seconds, before the relay ends it.",
    action: "Continue the conversation",
  },

  // One entry per failure code of failures.js: what happened, and what the person can do.
  failures: {
    insecure_origin: ({ origin }) => ({
      title: "This address is not secure, so the browser gives no microphone",
      advice:
        `Browsers allow the microphone on https:// addresses and on localhost only; this page came from ${origin}. ` +
        "Open it with https://, or on the relay’s own machine at http://localhost.",
    }),
    browser_unsupported: () => ({
      title: "This browser cannot hold a voice conversation",
      advice: "It has no WebRTC, or WebRTC is switched off. Use a current Chrome, Edge, Firefox or Safari.",
    }),
    key_missing: () => ({ title: "The access key is missing", advice: "Enter the access key, then start." }),
    microphone_refused: ({ blocked }) => ({
      title: "The microphone was not allowed",
      advice: blocked
        ? "The browser or the system blocks it for this site. Allow it in the address bar (or in the system’s privacy settings), then start again."
        : "Start again, and choose “Allow” when the browser asks.",
    }),
    microphone_missing: () => ({
      title: "No microphone was found",
      advice: "Plug one in or switch it on, or choose another one in the list, then start again.",
    }),
    microphone_busy: () => ({
      title: "The microphone cannot be opened",
      advice: "Another program may be using it, or the system blocks it. Close the other program, then start again.",
    }),
    key_refused: ({ message }) => ({
      title: "The access key was refused",
      advice: `Check it for missing characters, or ask your administrator for a new one.${said(message)}`,
    }),
    origin_refused: ({ origin }) => ({
      title: "The relay does not serve pages from this address",
      advice: `Ask your administrator to add ${origin} to the allowed origins.`,
    }),
    rate_limited: ({ retryAfter }) => ({
      title: "Too many attempts",
      advice: tryAgain(retryAfter),
    }),
    relay_busy: ({ retryAfter, message }) => ({
      title: "No conversation can be opened right now",
      advice: `${tryAgain(retryAfter)}${said(message)}`,
    }),
    request_refused: ({ status, message }) => ({
      title: "The conversation was refused",
      advice: message === "" ? `The answer had status ${status} and no explanation.` : message,
    }),
    relay_unreachable: ({ offline }) => ({
      title: "The relay does not answer",
      advice: offline
        ? "This computer is offline. Check the network, then start again."
        : "It may be down or restarting, or the network keeps you from it. Start again in a moment.",
    }),
    relay_timeout: () => ({
      title: "The relay took too long to answer",
      advice: "Start again; if it stays so, tell your administrator.",
    }),
    answer_unexpected: ({ status }) => ({
      title: "Something else answered in place of the relay",
      advice: `The answer (status ${status}) is not one the relay gives. A proxy or a sign-in page may be in between.`,
    }),
    network_blocked: ({ targets }) => ({
      title: "The network blocks the voice connection",
      advice:
        "The relay accepted the call, but no media packet came through. A firewall probably blocks " +
        `${blockedTargets(targets)}; ask your network team to open it.`,
    }),
    connection_failed: () => ({
      title: "The voice connection could not be secured",
      advice: "Packets came through, but the encrypted connection did not. A firewall or proxy may alter UDP packets.",
    }),
    session_ended: ({ reason, message }) => ({
      title: "The conversation was ended",
      advice: texts.reasons[reason] ?? (message === "" ? "No reason was given." : message),
    }),
    session_dropped: () => ({
      title: "The connection was lost",
      advice: "The relay went away without a reason, or the network was gone for too long. Start again.",
    }),
    session_over: () => ({
      title: "The conversation is over",
      advice:
        "The relay has ended it: this page was away for too long, or the relay was restarted. You can start a new one.",
    }),
    unexpected: ({ message }) => ({
      title: "Something went wrong in this page",
      advice: `Reload it and try again.${said(message)}`,
    }),
  },

  // One entry per end reason of the relay.
  reasons: {
    client_left: "This page left the conversation.",
    client_hung_up: "The conversation was hung up.",
    client_lost: "The relay no longer received anything from this page. The network may have changed.",
    client_unreachable: "The relay could not reach this page. A firewall may block UDP.",
    client_dtls_failed: "The encrypted connection between this page and the relay could not be made.",
    client_channel_timeout: "The event channel of this page did not open in time.",
    client_protocol_error: "This page sent something that the relay could not read.",
    client_message_too_large: "This page sent a message that is too large.",
    client_flood: "This page sent too many messages.",
    client_too_slow: "This page took in events too slowly.",
    service_refused: "The model’s service refused the conversation.",
    service_left: "The model’s service ended the conversation.",
    service_lost: "The relay lost the connection to the model’s service. Start again.",
    service_unreachable: "The relay could not reach the model’s service. Tell your administrator if it stays so.",
    service_dtls_failed: "The encrypted connection between the relay and the model’s service could not be made.",
    service_channel_timeout: "The model’s service did not become ready in time. Start again.",
    service_protocol_error: "The model’s service sent something that the relay could not read.",
    service_message_too_large: "The model’s service sent a message that is too large.",
    service_too_slow: "The model’s service took in events too slowly.",
    session_expired: "It reached the longest time a conversation may last. You can start a new one.",
    policy_unconfirmed: "The model’s service did not confirm your administrator’s settings in time.",
    policy_not_in_force: "Your administrator’s settings were not in force, so the conversation was closed.",
    policy_killed: "An administrator stopped these conversations.",
    policy_time_limit: "It reached the longest time your administrator allows.",
    policy_idle: "Nothing happened for as long as your administrator allows.",
    policy_disclosed: "The model began to repeat what it must keep to itself, so the conversation was closed.",
    policy_region: "The model’s service is not available where your administrator allows these conversations. Try again later.",
    policy_unrecorded: "The relay could not keep the records your administrator asks for. Tell your administrator.",
    quota_time: "The minutes that may be talked today are used up.",
    quota_tokens: "What may be used of the model today is used up.",
    quota_cost: "What may be spent today is used up.",
    quota_sessions: "More conversations were running than are allowed at the same time.",
    offer_refused: "The relay could not use this browser’s offer.",
    request_cancelled: "The call was given up before it was connected.",
    early_unused: "It was prepared for this page and not used.",
    operator_ended: "An administrator ended it.",
    relay_draining: "The relay is about to restart. Start again in a moment.",
    worker_lost: "A part of the relay stopped. Start again.",
    relay_failed: "The relay had an internal failure. Start again; tell your administrator if it happens again.",
  },
};

function said(message) {
  return message ? ` The relay said: “${message}”` : "";
}

// A way as `UDP to 192.0.2.1:8443`, or by its server's URL.
function wayWords({ way, targets }) {
  return `${texts.check.ways[way]} to ${targets.join(", ")}`;
}

const listOf = (ways) => list.format(ways.map(wayWords));

const ORDER = Object.keys(texts.check.ways);
const betterThan = (ways, { way }) => ways.filter((each) => ORDER.indexOf(each.way) < ORDER.indexOf(way));

const blockedTargets = ({ udp, tcp }) =>
  [udp.length > 0 && `UDP to ${udp.join(", ")}`, tcp.length > 0 && `TCP to ${tcp.join(", ")}`]
    .filter(Boolean).join(" and ") || "UDP";

/** The text at a dotted path, for the `data-text` attributes of index.html. */
export function textAt(path) {
  const text = path.split(".").reduce((place, name) => place?.[name], texts);
  if (typeof text !== "string") throw new Error(`no text at ${path}`);
  return text;
}
