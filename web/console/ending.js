// The question before a session is ended, asked from the list and from the session's own page.

import { request } from "./api.js";
import { ask } from "./dialog.js";
import { toast } from "./dom.js";
import { texts } from "./texts.js";

const words = texts.sessions;

/** Ask, then end it at both legs. */
export function endSession({ id, tenant }) {
  return ask({
    title: words.endTitle,
    body: words.endBody(id, tenant),
    action: words.endAction,
    danger: true,
    note: true,
    run: async (note) => {
      await request("POST", `/sessions/${encodeURIComponent(id)}/end`, { json: note ? { note } : {} });
      toast(words.endDone(id));
    },
  });
}
