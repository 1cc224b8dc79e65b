// What stops people: the kill switch, the end of a tenant's sessions, and draining. Each is asked twice.

import { get, request } from "../api.js";
import { ask } from "../dialog.js";
import { badge, choice, field, h, toast } from "../dom.js";
import { Declined, emptyState, load } from "../failures.js";
import { live, onLive } from "../live.js";
import { texts } from "../texts.js";

const words = texts.controls;
const reload = () => dispatchEvent(new Event("hashchange"));

/** Read the switch as it is now and write it changed: what others did since this page was drawn stays. */
async function change(edit, note) {
  const { everybody, tenants, policies } = await get("/kill-switch");
  await request("PUT", "/kill-switch", { json: { ...edit({ everybody, tenants, policies }), note } });
  toast(words.done);
  reload();
}

export async function show({ place, may, signal }) {
  const body = h("div", { class: "stack" });
  place.append(h("h1", {}, words.heading));
  if (!may("operate")) place.append(h("p", { class: "notice", data: { tone: "info" } }, words.notYours));
  place.append(body);
  await load(body, signal, async () => {
    const state = await get("/kill-switch", {}, signal);
    const elsewhere = live.status?.kill_switch?.everybody === true && !state.everybody;
    const notice = elsewhere && h("p", { class: "notice", data: { tone: "warn" } }, words.elsewhere);
    return [notice, everybodyCard(state, may("operate")), namesCard(state, may("operate")), may("operate") && tenantCard(), drainCard(may("operate"), signal)].filter(Boolean);
  });
}

function everybodyCard({ everybody }, mayChange) {
  const question = everybody
    ? { title: words.liftTitle, body: words.liftBody, action: words.lift, note: true, run: (note) => change((state) => ({ ...state, everybody: false }), note) }
    : {
        title: words.stopTitle,
        body: words.stopBody(live.sessions?.length ?? 0),
        action: words.stopAction,
        danger: true,
        note: true,
        word: words.stopWord,
        run: (note) => change((state) => ({ ...state, everybody: true }), note),
      };
  return h("section", { class: "card control", id: "kill-everybody", data: { on: everybody } },
    h("div", {}, h("h2", {}, words.everybody, " ", badge(everybody ? words.on : words.off, everybody ? "bad" : "good")), h("p", { class: "hint" }, words.everybodyHint)),
    mayChange && h("button", { type: "button", class: everybody ? "primary" : "danger", on: { click: () => void ask(question) } }, everybody ? words.lift : words.throw));
}

const LISTS = { tenant: "tenants", policy: "policies" };
const without = (list, name) => list.filter((each) => each !== name);

function namesCard(state, mayChange) {
  const stopped = Object.entries(LISTS).flatMap(([kind, list]) => state[list].map((name) => ({ kind, name })));
  const lift = ({ kind, name }) =>
    ask({
      title: words.liftNamed(words.kinds[kind], name),
      body: words.liftBody,
      action: words.lift,
      note: true,
      run: (note) => change((now) => ({ ...now, [LISTS[kind]]: without(now[LISTS[kind]], name) }), note),
    });
  const rows = stopped.map((each) =>
    h("li", { data: each },
      h("span", {}, `${words[each.kind]} `, h("strong", {}, each.name)),
      mayChange && h("button", { type: "button", class: "small", "aria-label": words.liftNamed(words.kinds[each.kind], each.name), on: { click: () => void lift(each) } }, words.lift)));
  return h("section", { class: "card", id: "kill-names" },
    h("h2", {}, words.names), h("p", { class: "hint" }, words.namesHint),
    rows.length > 0 ? h("ul", { class: "plain rows" }, rows) : emptyState(words.noNames),
    mayChange && addForm());
}

function addForm() {
  const kind = choice([["tenant", words.tenant], ["policy", words.policy]], "tenant");
  const name = h("input", { type: "text", autocomplete: "off", spellcheck: "false" });
  const go = (event) => {
    event.preventDefault();
    const chosen = { kind: kind.value, name: name.value.trim() };
    if (chosen.name === "") {
      name.focus();
      return;
    }
    void ask({
      title: words.addTitle(words.kinds[chosen.kind], chosen.name),
      body: words.addBody,
      action: words.addAction,
      danger: true,
      note: true,
      run: (note) => change((now) => ({ ...now, [LISTS[chosen.kind]]: [...without(now[LISTS[chosen.kind]], chosen.name), chosen.name] }), note),
    });
  };
  return h("form", { class: "filters", novalidate: true, on: { submit: go } }, field(words.kind, kind), field(words.name, name),
    h("div", { class: "filter-actions" }, h("button", { type: "submit", class: "danger" }, words.add)));
}

function tenantCard() {
  const name = h("input", { type: "text", autocomplete: "off", spellcheck: "false" });
  const go = (event) => {
    event.preventDefault();
    const tenant = name.value.trim();
    if (tenant === "") {
      name.focus();
      return;
    }
    void ask({
      title: words.endTenantTitle(tenant),
      body: words.endTenantBody((live.sessions ?? []).filter((session) => session.tenant === tenant).length),
      action: texts.sessions.end,
      danger: true,
      note: true,
      run: async (note) => {
        const { body } = await request("POST", `/tenants/${encodeURIComponent(tenant)}/end`, { json: note ? { note } : {} });
        toast(words.endTenantDone(body.ended));
      },
    });
  };
  return h("section", { class: "card", id: "end-tenant" }, h("h2", {}, words.endTenant), h("p", { class: "hint" }, words.endTenantHint),
    h("form", { class: "filters", novalidate: true, on: { submit: go } }, field(words.tenant, name),
      h("div", { class: "filter-actions" }, h("button", { type: "submit", class: "danger" }, words.endTenantAction))));
}

function drainCard(mayChange, signal) {
  const state = h("span");
  const button = h("button", { type: "button", class: "danger", on: { click: () => void drain() } }, words.drainAction);
  const draw = () => {
    const draining = live.status?.draining === true;
    button.disabled = draining;
    if (state.dataset.on === String(draining)) return;
    state.dataset.on = String(draining);
    state.replaceChildren(badge(draining ? texts.overview.draining : texts.overview.taking, draining ? "warn" : "good"));
  };
  const drain = () =>
    ask({
      title: words.drainTitle,
      body: words.drainBody,
      action: words.drainConfirm,
      danger: true,
      word: words.drainWord,
      run: async () => {
        if (live.status?.draining) throw new Declined(words.already);
        await request("POST", "/drain");
        toast(words.drained);
      },
    });
  onLive(draw, signal);
  draw();
  return h("section", { class: "card control", id: "drain" },
    h("div", {}, h("h2", {}, words.drain, " ", state), h("p", { class: "hint" }, words.drainHint)), mayChange && button);
}
