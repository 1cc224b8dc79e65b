// The policy documents: read, changed, checked while they are written, compared, tried without effect, published.

import { get, request } from "../api.js";
import { ask } from "../dialog.js";
import { badge, field, h, toast } from "../dom.js";
import { changedFiles, draftCount, draftOf, draftPaths, dropDraft, dropDrafts, fetchFile, publish, setDraft } from "../drafts.js";
import { editor } from "../editor.js";
import { Declined, emptyState, failureNotice, load } from "../failures.js";
import { bytes } from "../format.js";
import { review } from "../review.js";
import { addressOf } from "../addresses.js";
import { publishSummary, staleNotice } from "../publishing.js";
import { texts } from "../texts.js";

const words = texts.policies;
const CHECK_MS = 400;
const NEW_FILE = "apiVersion: relay/v1\nkind: SessionPolicy\nmetadata:\n  name: \nspec:\n  match: {}\n";
const PATH = /^\w[\w.-]*(\/\w[\w.-]*)*\.(ya?ml|md|txt)$/;

const addressOfFile = (path, line) => addressOf(["policies", ...path.split("/")], { line });

export async function show({ place, path, query, may, signal }) {
  const frame = h("div", { class: "stack" });
  place.append(frame);
  await load(frame, signal, async () => {
    const set = await get("/policies", {}, signal);
    const line = Number(query.get("line")) || 0;
    return page({ set, path: path.join("/"), line, mayRead: may("read_policies"), mayWrite: may("govern") && set.managed, may, signal });
  });
}

async function page(context) {
  const { set, mayRead, mayWrite, may } = context;
  const main = h("div", { class: "stack" });
  const notice = h("div", { class: "stack", id: "policy-notice" });
  const actions = h("div", { class: "actions" });
  const list = h("nav", { class: "card files", "aria-label": words.files });
  const refresh = () => { drawFiles(context, list); drawActions(context, actions, notice); };
  if (!set.managed) notice.append(h("p", { class: "notice", data: { tone: "info" } }, words.inFiles));
  else if (!may("govern")) notice.append(h("p", { class: "notice", data: { tone: "info" } }, words.readOnly));
  if (mayRead) await fill(main, context, refresh);
  else main.append(h("section", { class: "card" }, emptyState(words.noText)));
  refresh();
  return [
    h("div", { class: "heading" },
      h("div", {}, h("h1", {}, words.heading), set.revision !== null && h("p", { id: "revision" }, h("a", { href: addressOf(["revisions"]) }, words.revision(set.revision)))),
      mayWrite && actions),
    notice,
    h("div", { class: "policies" }, h("div", { class: "stack" }, mayRead && list, inForce(set)), main),
  ];
}

function inForce({ policies }) {
  const rows = (policies ?? []).map(({ name, revision }) => h("li", {}, h("span", {}, name), h("code", { class: "soft" }, String(revision).slice(0, 8))));
  return h("section", { class: "card" }, h("h2", {}, words.inForce), rows.length > 0 ? h("ul", { class: "plain" }, rows) : emptyState(words.noFiles));
}

function drawFiles({ set, path, mayWrite }, list) {
  const known = new Set(set.files.map((file) => file.path));
  const all = [...new Set([...known, ...draftPaths()])].sort();
  const sizes = new Map(set.files.map((file) => [file.path, file.bytes]));
  const mark = (each) => {
    const draft = draftOf(each);
    if (draft === null) return h("span", { class: "soft figures" }, bytes(sizes.get(each)));
    const word = draft.text === null ? words.deleted : draft.was === null ? words.added : words.changed;
    return badge(word, draft.text === null ? "bad" : "warn");
  };
  list.replaceChildren(
    h("h2", {}, words.files),
    all.length > 0
      ? h("ul", { class: "plain" }, all.map((each) =>
        h("li", {}, h("a", { href: addressOfFile(each), "aria-current": each === path ? "page" : null, data: { file: each } }, h("span", {}, each), mark(each)))))
      : emptyState(words.noFiles),
    mayWrite ? h("button", { type: "button", id: "new-file", on: { click: () => newFile(all, set.etag) } }, words.newFile) : "",
  );
}

function newFile(existing, etag) {
  const input = h("input", { type: "text", autocomplete: "off", spellcheck: "false", class: "path-field" });
  return ask({
    title: words.newTitle,
    content: field(words.newPath, input, words.newPathHint),
    action: words.create,
    run: async () => {
      const path = input.value.trim();
      if (!PATH.test(path) || path.includes("..") || existing.includes(path)) throw new Declined(words.newBad);
      setDraft(path, NEW_FILE, null, etag);
      location.hash = addressOfFile(path);
    },
  });
}

function drawActions(context, actions, notice) {
  const none = draftCount() === 0;
  actions.replaceChildren(
    h("button", { type: "button", id: "discard", disabled: none, on: { click: () => void discard() } }, words.discard),
    h("button", { type: "button", id: "publish", class: "primary", disabled: none, on: { click: () => void askPublish(context, notice) } }, words.publish),
  );
}

const reload = () => dispatchEvent(new Event("hashchange"));

function discard() {
  return ask({
    title: words.discardTitle,
    body: words.discardBody(draftCount()),
    action: words.discard,
    danger: true,
    run: async () => { dropDrafts(); reload(); },
  });
}

async function askPublish({ set, checks, signal }, notice) {
  let stale = false;
  const content = h("div", { class: "publish-summary" });
  void load(content, signal, async () => publishSummary(await request("POST", "/policies/dry-run", { json: { files: changedFiles() } })));
  const done = await ask({
    title: words.publishTitle,
    body: words.publishBody,
    content,
    action: words.publishAction,
    note: true,
    run: async (note) => {
      try {
        return await publish(note, set.files.map((file) => file.path));
      } catch (error) {
        if (error.status === 422) checks.showProblems(error.problems);
        if (error.status !== 412) throw error;
        stale = true;
        return null;
      }
    },
  });
  if (stale) notice.replaceChildren(await staleNotice(reload).catch((error) => failureNotice(error, reload)));
  else if (done !== undefined) {
    toast(words.published(done.revision));
    reload();
  }
}

/** The editor with its checks, or what stands there while no file is chosen. */
async function fill(main, context, refresh) {
  const { path, line, mayWrite, signal } = context;
  const current = path === "" ? null : await currentText(path, signal);
  let text = null;
  const checks = review({
    goTo: (file, at) => (file === path ? text?.goTo(at) : (location.hash = addressOfFile(file, at))),
    onProblems: (problems) => text?.setProblems(problems.filter(({ file }) => file === path)),
    signal,
  });
  context.checks = checks;
  let timer = null;
  signal.addEventListener("abort", () => clearTimeout(timer));
  const onInput = (value) => {
    setDraft(path, value, current.was, current.etag);
    refresh();
    checks.changed();
    clearTimeout(timer);
    timer = setTimeout(() => void checks.check(), CHECK_MS);
  };
  if (current?.text !== null && current !== null) text = editor({ label: words.editor(path), text: current.text, readOnly: !mayWrite, onInput });
  const empty = current === null ? words.choose : words.deleted;
  main.append(h("section", { class: "card", id: "editor" }, editorHead(context, current), text?.node ?? emptyState(empty)));
  if (!mayWrite) return;
  main.append(h("section", { class: "card flush", id: "checks" }, checks.node));
  if (line > 0) requestAnimationFrame(() => text?.goTo(line));
  if (draftCount() > 0) void checks.check();
}

async function currentText(path, signal) {
  const draft = draftOf(path);
  if (draft !== null) return draft;
  const { text, etag } = await fetchFile(path, signal);
  return { text, was: text, etag };
}

function editorHead({ path, mayWrite }, current) {
  if (current === null) return null;
  const { text, was, etag } = current;
  const remove = () => { setDraft(path, null, was, etag); reload(); };
  const restore = () => { dropDraft(path); reload(); };
  const button = text === null
    ? h("button", { type: "button", class: "small", on: { click: restore } }, words.restore)
    : h("button", { type: "button", class: "small danger-quiet", id: "delete-file", on: { click: remove } }, words.deleteFile);
  return h("div", { class: "card-head" }, h("h2", {}, h("code", {}, path)), mayWrite && button);
}
