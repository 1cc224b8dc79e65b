// Changes to policy files that are not published yet. They outlive a reload and a renewed sign-in, not the tab.

import { get, Refused, request } from "./api.js";

const KEPT = "relay.console.drafts";

/** path → `{text, was, etag}`; `text` null: to be deleted, `was` null: a new file; `etag` is of what it is based on. */
const files = new Map(JSON.parse(sessionStorage.getItem(KEPT) ?? "[]"));

function keep() {
  if (files.size === 0) sessionStorage.removeItem(KEPT);
  else sessionStorage.setItem(KEPT, JSON.stringify([...files]));
}

export const draftOf = (path) => files.get(path) ?? null;
export const draftCount = () => files.size;
export const draftPaths = () => [...files.keys()];

/** The changed files as the API takes them; null deletes. */
export const changedFiles = () => Object.fromEntries([...files].map(([path, { text }]) => [path, text]));

/** Take a text that somebody wrote; one that is as it was is no change. */
export function setDraft(path, text, was, etag) {
  if (text === was) files.delete(path);
  else files.set(path, { text, was, etag });
  keep();
}

export function dropDraft(path) {
  files.delete(path);
  keep();
}

export function dropDrafts() {
  files.clear();
  keep();
}

const fileAddress = (path) => `/policies/files/${path.split("/").map(encodeURIComponent).join("/")}`;

/** A file as it is in force: `{text, etag}`; text null if there is none. */
export async function fetchFile(path, signal) {
  try {
    const { body, etag } = await request("GET", fileAddress(path), { signal });
    return { text: body, etag };
  } catch (error) {
    if (!(error instanceof Refused) || error.status !== 404) throw error;
    const { etag } = await request("GET", "/policies", { signal });
    return { text: null, etag };
  }
}

/** Publish all changes as one revision. Raises Refused: 412 if somebody published since, 422 with problems. */
export async function publish(note, allPaths) {
  const changed = [...files];
  let answer;
  if (changed.length === 1) {
    const [path, { text, etag }] = changed[0];
    const options = { etag, query: { note }, ...(text === null ? {} : { text }) };
    answer = await request(text === null ? "DELETE" : "PUT", fileAddress(path), options);
  } else {
    answer = await publishSet(note, allPaths, changed);
  }
  dropDrafts();
  return answer.body;
}

/** The whole set at once: what is not changed is read first, and every part must be of one and the same set. */
async function publishSet(note, allPaths, changed) {
  const { etag } = await request("GET", "/policies");
  const rest = allPaths.filter((path) => !files.has(path));
  const unchanged = await Promise.all(rest.map(async (path) => [path, (await fetchFile(path)).text]));
  for (const [path, draft] of changed) {
    if ((await fetchFile(path)).text !== draft.was) throw new Refused(412, null, null);
  }
  const texts = Object.fromEntries([...unchanged, ...changed.map(([path, { text }]) => [path, text])].filter(([, text]) => text !== null));
  return request("PUT", "/policies", { etag, json: { files: texts, note } });
}

/** What somebody else published: `{last, files}`, the newest revision's row and each changed file as it is now. */
export async function fetchTheirs() {
  const { revisions } = await get("/policies/revisions", { limit: 1 });
  const now = await Promise.all(draftPaths().map(async (path) => [path, await fetchFile(path)]));
  return { last: revisions[0] ?? null, files: new Map(now) };
}

/** Base the changes on what is in force now, so that they can be published on top of it. */
export function rebase(theirs) {
  for (const [path, { text, etag }] of theirs) {
    const mine = files.get(path);
    if (mine !== undefined) setDraft(path, mine.text, text, etag);
  }
}
