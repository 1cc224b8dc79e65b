// Addresses within the console: fragments, so that no server sees them.

/** A fragment taken apart: `{path: ["sessions", "rs_1"], query: URLSearchParams}`. */
export function placeOf(hash) {
  const [path, query = ""] = hash.replace(/^#\/?/, "").split("?", 2);
  const words = path.split("/").filter(Boolean).map(decoded);
  return { path: words.length === 0 ? ["overview"] : words, query: new URLSearchParams(query) };
}

function decoded(word) {
  try {
    return decodeURIComponent(word);
  } catch {
    return word; // a stray percent sign names no page, and that is told
  }
}

/** The fragment of a path, with a query if anything in it is set. */
export function addressOf(path, query = {}) {
  const set = Object.entries(query).filter(([, value]) => value !== undefined && value !== null && value !== "");
  const search = new URLSearchParams(set).toString();
  return `#/${path.map(encodeURIComponent).join("/")}${search ? `?${search}` : ""}`;
}
