// Numbers, times and names as people read them.

import { language } from "./texts.js";

const formats = (options) => new Intl.NumberFormat(language, options);
const whole = formats({ maximumFractionDigits: 0 });
const tenth = formats({ minimumFractionDigits: 1, maximumFractionDigits: 1 });
const short = formats({ notation: "compact", maximumFractionDigits: 1 });
const money = formats({ style: "currency", currency: "USD", minimumFractionDigits: 2, maximumFractionDigits: 2 });
const pence = formats({ style: "currency", currency: "USD", minimumFractionDigits: 4, maximumFractionDigits: 4 });
const clock = new Intl.DateTimeFormat(language, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
const nearMoment = new Intl.DateTimeFormat(language, { month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
const moment = new Intl.DateTimeFormat(language, { dateStyle: "medium", timeStyle: "medium", hourCycle: "h23" });

export const NONE = "–";
const DAY = 86_400;
const CENT = 0.1;
const THOUSANDS = 100_000;

const known = (value) => typeof value === "number" && Number.isFinite(value);
const orNone = (write) => (value) => (known(value) ? write(value) : NONE);

export const count = orNone((value) => whole.format(value));
export const compact = orNone((value) => (value < THOUSANDS ? whole.format(value) : short.format(value)));
export const percent = orNone((ratio) => `${tenth.format(ratio * 100)} %`);
export const wholePercent = orNone((ratio) => `${whole.format(ratio * 100)} %`);
export const milliseconds = orNone((value) => `${whole.format(value)} ms`);
export const dollars = orNone((value) => (value > 0 && value < CENT ? pence : money).format(value));
export const time = orNone((at) => clock.format(at * 1000));
export const dateTime = orNone((at) => moment.format(at * 1000));
/** A moment in a table: a year old at most, or said elsewhere. */
export const shortTime = orNone((at) => nearMoment.format(at * 1000));
export const utc = orNone((at) => new Date(at * 1000).toISOString());
export const minutes = orNone((seconds) => tenth.format(seconds / 60));
export const bytes = orNone((value) => (value < 1024 ? `${whole.format(value)} B` : `${tenth.format(value / 1024)} KiB`));

/** How long something took: `610 ms`, `2.6 s`. */
export const took = orNone((seconds) => (seconds < 1 ? `${whole.format(seconds * 1000)} ms` : `${tenth.format(seconds)} s`));

const two = (value) => String(value).padStart(2, "0");

/** Seconds as `3:07`, `1:02:03` or `2 d 4:00:00`. */
export const duration = orNone((seconds) => {
  const all = Math.max(0, Math.floor(seconds));
  const days = Math.floor(all / DAY);
  const [hours, mins, secs] = [Math.floor((all % DAY) / 3600), Math.floor((all % 3600) / 60), all % 60];
  if (days > 0) return `${days} d ${hours}:${two(mins)}:${two(secs)}`;
  return hours > 0 ? `${hours}:${two(mins)}:${two(secs)}` : `${mins}:${two(secs)}`;
});

/** Seconds since a beginning, to the millisecond, as `+0.123 s` or `+2:07.5`. */
export const offset = orNone((seconds) =>
  seconds < 60 ? `+${seconds.toFixed(3)} s` : `+${Math.floor(seconds / 60)}:${(seconds % 60).toFixed(1).padStart(4, "0")}`,
);

const HASH_SHOWN = 8;
const PREFIX = /^rs_/;

/** A hash or an id by its beginning: enough to tell two apart on a screen. */
export const shortHash = (value) => (value ? String(value).slice(0, HASH_SHOWN) : NONE);
export const shortId = (value) => value.replace(PREFIX, "").slice(0, HASH_SHOWN);

/** The day of UTC, `2026-11-22`, so many days before now. */
export const dayOf = (now, before = 0) => new Date(now - before * DAY * 1000).toISOString().slice(0, 10);

/** What a `datetime-local` field holds, as Unix seconds; empty: undefined. */
export const secondsOf = (value) => (value ? new Date(value).getTime() / 1000 : undefined);
