// The pages by the first word of the address's fragment: `#/sessions/rs_1?tenant=a`. All are loaded at the start: a relay that
// is away must not take the pages with it.

import { show as audit } from "./pages/audit.js";
import { show as controls } from "./pages/controls.js";
import { show as decisions } from "./pages/decisions.js";
import { show as ended } from "./pages/ended.js";
import { show as keys } from "./pages/keys.js";
import { show as overview } from "./pages/overview.js";
import { show as policies } from "./pages/policies.js";
import { show as revisions } from "./pages/revisions.js";
import { show as session } from "./pages/session.js";
import { show as sessions } from "./pages/sessions.js";
import { show as upstreams } from "./pages/upstreams.js";
import { show as usage } from "./pages/usage.js";

/** `permission`: without it the page is not shown; `wholeRelay`: not for administrators confined to a tenant. */
export const PAGES = [
  { name: "overview", group: "watch", permission: "read", show: overview },
  { name: "sessions", group: "watch", permission: "read", show: sessions },
  { name: "ended", group: "watch", permission: "read", show: ended },
  { name: "upstreams", group: "watch", permission: "read", wholeRelay: true, show: upstreams },
  { name: "policies", group: "govern", permission: "read", wholeRelay: true, show: policies },
  { name: "revisions", group: "govern", permission: "read", wholeRelay: true, show: revisions },
  { name: "controls", group: "govern", permission: "read", wholeRelay: true, show: controls },
  { name: "usage", group: "account", permission: "read", show: usage },
  { name: "decisions", group: "account", permission: "read", show: decisions },
  { name: "audit", group: "account", permission: "read", show: audit },
  { name: "keys", group: "account", permission: "own", show: keys },
  { name: "session", permission: "read", show: session },
];

/** The page of a path, null for one that does not exist. */
export const pageAt = (path) => PAGES.find(({ name }) => name === path[0]) ?? null;
