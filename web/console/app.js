// The frame: signed in or not, the navigation, which page stands in it, and what is wrong everywhere.

import { addressOf, placeOf } from "./addresses.js";
import { credential, request, whenUnauthorized } from "./api.js";
import { ask } from "./dialog.js";
import { announce, element, fillTexts, h, setText } from "./dom.js";
import { draftCount, dropDrafts } from "./drafts.js";
import { failureNotice } from "./failures.js";
import { followVisibility, forgetLive, live, onLive, startLive } from "./live.js";
import { PAGES, pageAt } from "./routes.js";
import { finishReturn, showSignIn, signInText } from "./signin.js";
import { texts } from "./texts.js";

let me = null;
let leaving = new AbortController();
let within = null;
const signedIn = new AbortController();

function setState(state) {
  document.body.dataset.state = state;
  element("shell").hidden = state !== "in";
  element("sign-in").hidden = state !== "out";
  element("skip").hidden = state !== "in";
}

/** Show the way in. Changes that are not published stay: whoever comes back goes on with them. */
function leave(why = "") {
  credential.forget();
  forgetLive();
  leaving.abort();
  me = null;
  element("page").replaceChildren();
  for (const dialog of document.querySelectorAll("dialog")) dialog.close();
  setState("out");
  document.title = texts.shell.title;
  void showSignIn(element("sign-in"), why, enter);
}

function signOut() {
  const end = async () => {
    dropDrafts();
    leave();
  };
  if (draftCount() === 0) return end();
  const { discardTitle: title, discardBody } = texts.policies;
  return ask({ title, body: discardBody(draftCount()), action: texts.shell.signOut, danger: true, run: end });
}

function enter(person) {
  me = person;
  element("sign-in").replaceChildren();
  setText(element("who-name"), me.name);
  setText(element("who-role"), texts.shell.who(texts.roles[me.role] ?? me.role, me.tenant));
  showNavigation();
  setState("in");
  startLive();
  showPage();
}

/** Whether the signed-in person may. */
const may = (permission) => me.permissions.includes(permission);
const reachable = (page) => may(page.permission) && !(page.wholeRelay && me.tenant);

function showNavigation() {
  const groups = Object.entries(Object.groupBy(PAGES.filter(({ group }) => group), ({ group }) => group));
  element("nav").replaceChildren(
    ...groups.map(([group, pages]) => [group, pages.filter(reachable)]).filter(([, pages]) => pages.length > 0).map(([group, pages]) =>
      h("div", { class: "nav-group" },
        h("p", { id: `nav-${group}` }, texts.nav.groups[group]),
        h("ul", { "aria-labelledby": `nav-${group}` },
          pages.map(({ name }) => h("li", {}, h("a", { href: addressOf([name]), data: { page: name } }, texts.nav[name])))))),
  );
}

async function showPage() {
  if (me === null) return;
  leaving.abort();
  leaving = new AbortController();
  const { signal } = leaving;
  const { path, query } = placeOf(location.hash);
  const page = pageAt(path);
  const section = page?.name ?? "";
  for (const link of element("nav").querySelectorAll("a")) {
    if (link.dataset.page === section) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  toggleMenu(false);
  const place = h("div", { class: "page", data: { page: section } });
  const moved = within !== null;
  within = location.hash;
  element("page").replaceChildren(place);
  window.scrollTo(0, 0);
  const title = page === null ? texts.shell.unknownPage : texts.nav[page.name];
  document.title = `${title} – ${texts.shell.title}`;
  if (moved) {
    element("page").focus({ preventScroll: true });
    announce(title);
  }
  if (page === null || !reachable(page)) {
    place.append(h("h1", {}, title), h("div", { class: "empty" }, h("p", {}, page === null ? texts.shell.unknownPageText : texts.shell.notAllowed)));
    return;
  }
  try {
    await page.show({ place, path: path.slice(1), query, me, may, signal });
  } catch (error) {
    if (!signal.aborted) place.replaceChildren(failureNotice(error, showPage));
  }
}

function toggleMenu(open) {
  element("menu").setAttribute("aria-expanded", String(open));
  element("side-body").dataset.open = String(open);
}

const FEED_TONES = { connecting: "busy", live: "good", polling: "warn", lost: "bad" };

function showFrame() {
  const feed = element("feed");
  feed.dataset.tone = FEED_TONES[live.feed];
  feed.dataset.feed = live.feed;
  setText(feed, texts.feed[live.feed]);
  const { status } = live;
  if (status === null) return;
  setText(element("node"), texts.shell.node(status.node, status.version));
  const lines = bannersOf(status);
  const shown = element("banners");
  const wanted = lines.map(([tone, text]) => `${tone} ${text}`).join("\n");
  if (shown.dataset.shown === wanted) return;
  shown.dataset.shown = wanted;
  shown.replaceChildren(...lines.map(([tone, text]) => h("p", { class: "banner", data: { tone } }, text)));
}

function bannersOf({ kill_switch: kill, draining, ready, reasons, store }) {
  const stopped = [...(kill?.tenants ?? []), ...(kill?.policies ?? [])].length;
  return [
    kill?.everybody && ["bad", texts.banners.killed],
    !kill?.everybody && stopped > 0 && ["warn", texts.banners.killedSome(kill.tenants ?? [], kill.policies ?? [])],
    draining && ["warn", texts.banners.draining],
    !ready && !draining && ["bad", texts.banners.notReady(Object.keys(reasons ?? {}))],
    store?.ok === false && ["bad", texts.banners.store],
  ].filter(Boolean);
}

async function start() {
  fillTexts();
  whenUnauthorized(() => { if (me !== null) leave(texts.signIn.ended); });
  element("sign-out").addEventListener("click", () => void signOut());
  element("menu").addEventListener("click", () => toggleMenu(element("menu").getAttribute("aria-expanded") !== "true"));
  element("skip").addEventListener("click", (event) => { event.preventDefault(); element("page").focus(); });
  addEventListener("hashchange", () => void showPage());
  onLive(showFrame, signedIn.signal);
  followVisibility(() => me !== null);
  try {
    await finishReturn();
    if (credential.get() === null) return leave();
    return enter((await request("GET", "/me", { key: credential.get() })).body);
  } catch (error) {
    return leave(error.status === 401 ? texts.signIn.ended : signInText(error));
  }
}

void start();
