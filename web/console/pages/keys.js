// Keys: made, rotated, revoked. A key is seen once, when it is made.

import { get, request } from "../api.js";
import { ask, tell } from "../dialog.js";
import { badge, choice, field, h, setText, toast } from "../dom.js";
import { emptyState, load } from "../failures.js";
import { dateTime, NONE, secondsOf } from "../format.js";
import { addressOf } from "../addresses.js";
import { onceColumn, table, textColumn } from "../table.js";
import { texts } from "../texts.js";

const words = texts.keys;
const reload = () => dispatchEvent(new Event("hashchange"));

function stateOf({ revoked_at: revoked, expires_at: expires }, now = Date.now() / 1000) {
  if (revoked) return badge(words.revoked, "neutral");
  if (expires && expires <= now) return badge(words.expired, "neutral");
  return expires ? badge(words.expiring(dateTime(expires)), "warn") : badge(words.active, "good");
}

const opens = ({ revoked_at: revoked, expires_at: expires }) => !revoked && !(expires && expires <= Date.now() / 1000);

function columnsFor(kind) {
  const actions = (key) => opens(key) ? h("div", { class: "row-actions" },
    h("button", { type: "button", class: "small", "aria-label": words.rotateNamed(key.name), on: { click: () => void rotate(key) } }, words.rotate),
    h("button", { type: "button", class: "small danger-quiet", "aria-label": words.revokeNamed(key.name), on: { click: () => void revoke(key) } }, words.revoke)) : "";
  return [
    textColumn("name", texts.names.name, ({ name }) => name, { value: ({ name }) => name }),
    textColumn("tenant", words.tenant, ({ tenant }) => tenant || NONE, { value: ({ tenant }) => tenant }),
    kind === "admin" && textColumn("role", texts.names.role, ({ role }) => texts.roles[role] ?? role ?? NONE),
    onceColumn("state", texts.names.state, (key) => stateOf(key)),
    textColumn("created", words.created, (key) => `${dateTime(key.created_at)}, ${key.created_by}`),
    textColumn("used", words.used, (key) => (key.used_at ? dateTime(key.used_at) : words.never)),
    onceColumn("actions", texts.names.actions, actions, { unseen: true }),
  ].filter(Boolean);
}

export async function show({ place, query, me, signal }) {
  const kind = query.get("kind") === "admin" ? "admin" : "tenant";
  const body = h("section", { class: "card flush" });
  const link = (each) => h("li", {}, h("a", { href: addressOf(["keys"], { kind: each }), "aria-current": each === kind ? "page" : null }, words.kinds[each]));
  place.append(
    h("div", { class: "heading" }, h("h1", {}, words.heading), h("button", { type: "button", id: "new-key", class: "primary", on: { click: () => void create(kind, me) } }, words.create)),
    h("p", { class: "lead" }, words.hint),
    h("nav", { class: "subnav", "aria-label": words.kind }, h("ul", {}, ["tenant", "admin"].map(link))),
    body,
  );
  await load(body, signal, async () => {
    const { keys } = await get("/keys", { kind }, signal);
    if (keys.length === 0) return emptyState(words.empty);
    const made = table({ caption: words.kinds[kind], columns: columnsFor(kind), key: ({ id }) => id, rowData: ({ name }) => ({ name }) });
    made.update(keys);
    return made.node;
  });
}

async function create(kind, me) {
  const chosen = choice(Object.entries(words.kindWords), kind);
  const name = h("input", { type: "text", autocomplete: "off", maxlength: 200 });
  const tenant = h("input", { type: "text", autocomplete: "off", spellcheck: "false", maxlength: 200, value: me.tenant, readonly: me.tenant !== null });
  const role = choice(Object.entries(texts.roles), "viewer");
  const expires = h("input", { type: "datetime-local" });
  const roleField = field(texts.names.role, role);
  const follow = () => { roleField.hidden = chosen.value !== "admin"; };
  chosen.addEventListener("change", follow);
  follow();
  const made = await ask({
    title: words.createTitle,
    content: h("div", { class: "stack" }, field(words.kind, chosen), field(words.name, name, words.nameHint), field(words.tenant, tenant, words.tenantHint), roleField, field(words.expires, expires, words.expiresHint)),
    action: words.createAction,
    run: async () => {
      const json = {
        kind: chosen.value,
        name: name.value.trim(),
        tenant: tenant.value.trim() || undefined,
        role: chosen.value === "admin" ? role.value : undefined,
        expires_at: secondsOf(expires.value),
      };
      return (await request("POST", "/keys", { json })).body;
    },
  });
  await showOnce(made);
}

async function rotate({ id, name }) {
  const overlap = choice(Object.entries(words.overlaps), "3600");
  const made = await ask({
    title: words.rotateTitle(name),
    body: words.rotateBody,
    content: field(words.overlap, overlap),
    action: words.rotateAction,
    run: async () => (await request("POST", `/keys/${encodeURIComponent(id)}/rotate`, { json: { overlap_seconds: Number(overlap.value) } })).body,
  });
  await showOnce(made);
}

function revoke({ id, name }) {
  return ask({
    title: words.revokeTitle(name),
    body: words.revokeBody,
    action: words.revoke,
    danger: true,
    word: words.revokeWord,
    run: async () => {
      await request("DELETE", `/keys/${encodeURIComponent(id)}`);
      toast(words.revokedDone(name));
      reload();
    },
  });
}

/** Show a new key until the dialog is closed; it is in the page no longer than that. */
async function showOnce(made) {
  if (made === undefined) return;
  const value = h("input", { type: "text", readonly: true, class: "key-shown", id: "made-key", value: made.key, on: { focus: ({ target }) => target.select() } });
  const copied = h("p", { class: "hint", role: "status" });
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(made.key);
      setText(copied, words.copied);
    } catch {
      value.focus(); // no permission, or no secure page: it stands selected, to be copied by hand
      setText(copied, words.copyFailed);
    }
  };
  await tell({
    title: words.shownTitle,
    content: h("div", { class: "stack" }, h("p", {}, words.shownBody), field(words.shownLabel(made.name), value),
      h("div", { class: "actions" }, h("button", { type: "button", id: "copy-key", on: { click: copy } }, words.copy), copied)),
  });
  reload();
}
