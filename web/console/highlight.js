// The colours of a policy document: a line of YAML cut into words with a kind. No parser: the relay does the judging.

import { h } from "./dom.js";

const KEY = /^(\s*(?:- +)*)([^\s#"'{[\]},:-][^#"'{[\]},:]*|"[^"]*"|'[^']*')(:)(?=\s|$)/;
const WORDS = /("(?:[^"\\]|\\.)*"|'(?:[^']|'')*')|((?:^|\s)#.*$)|(\{\{[^}]*\}\})|((?<![\w.-])(?:true|false|null|-?\d+(?:\.\d+)?)(?![\w.-]))/g;
const KINDS = ["string", "comment", "variable", "value"];

/** A line as `[kind, text]` pairs whose texts joined are the line. */
export function wordsOf(line) {
  const words = [];
  const key = KEY.exec(line);
  const rest = key ? line.slice(key[0].length) : line;
  if (key) words.push(["", key[1]], ["key", key[2]], ["", key[3]]);
  let at = 0;
  for (const match of rest.matchAll(WORDS)) {
    words.push(["", rest.slice(at, match.index)], [KINDS[match.slice(1).findIndex((group) => group !== undefined)], match[0]]);
    at = match.index + match[0].length;
  }
  words.push(["", rest.slice(at)]);
  return words.filter(([, text]) => text !== "");
}

/** A line as an element. */
export function colouredLine(line) {
  return h("div", { class: "code-line" }, wordsOf(line).map(([kind, text]) => (kind ? h("span", { class: `code-${kind}` }, text) : text)));
}
