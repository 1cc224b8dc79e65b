// The conversation as it is said: one line per item, filled from events while they come.

import { texts } from "./texts.js";

const LINES_KEPT = 200;
const words = texts.transcript;

/** Follows server events and keeps a list of lines, the newest in view unless the person scrolled away. */
export class Transcript {
  #lines;
  #box;
  #empty;
  #items = new Map();

  constructor(box, lines, empty) {
    [this.#box, this.#lines, this.#empty] = [box, lines, empty];
  }

  clear() {
    this.#items.clear();
    this.#lines.replaceChildren();
    this.#empty.hidden = false;
  }

  /** What was said, as `[{id, speaker, text, note}]`, for `restore` after a reload. */
  get lines() {
    return [...this.#items].map(([id, { row, text, note }]) => ({
      id, speaker: row.dataset.speaker, text: text.textContent, note: note.textContent,
    }));
  }

  /** Show what a page before this one had; nothing of it is awaited any more. */
  restore(lines) {
    this.clear();
    for (const { id, speaker, text, note } of lines) {
      const line = this.#line(id, speaker, "");
      this.#settle(line, text);
      line.note.textContent = note;
    }
    this.#box.scrollTop = this.#box.scrollHeight;
  }

  /** The conversation is over: nothing is awaited any more. */
  close() {
    for (const line of this.#items.values()) {
      if (line.said === "" && "pending" in line.row.dataset && line.text.textContent === words.speaking) {
        line.text.textContent = words.heard;
      }
      delete line.row.dataset.pending;
    }
  }

  /** Take one server event; those that say nothing are ignored. */
  follow(event) {
    const atEnd = this.#box.scrollHeight - this.#box.scrollTop - this.#box.clientHeight < 40;
    this.#apply(event);
    if (atEnd) this.#box.scrollTop = this.#box.scrollHeight;
  }

  #apply(event) {
    switch (event.type) {
      case "input_audio_buffer.speech_started":
        this.#line(event.item_id, "you", words.speaking).startedAt = event.audio_start_ms;
        break;
      case "input_audio_buffer.speech_stopped":
        this.#spoken(this.#line(event.item_id, "you", ""), event.audio_end_ms);
        break;
      case "conversation.item.input_audio_transcription.delta":
        this.#append(this.#line(event.item_id, "you", ""), event.delta);
        break;
      case "conversation.item.input_audio_transcription.completed":
        this.#settle(this.#line(event.item_id, "you", ""), event.transcript);
        break;
      case "conversation.item.input_audio_transcription.failed":
        this.#mark(this.#line(event.item_id, "you", words.heard), words.untranscribed);
        break;
      case "response.output_item.added":
        if (event.item?.type === "message") this.#line(event.item.id, "model", words.answering);
        break;
      case "response.output_audio_transcript.delta":
      case "response.output_text.delta":
        this.#append(this.#line(event.item_id, "model", ""), event.delta);
        break;
      case "response.output_audio_transcript.done":
        this.#settle(this.#line(event.item_id, "model", ""), event.transcript);
        break;
      case "response.output_text.done":
        this.#settle(this.#line(event.item_id, "model", ""), event.text);
        break;
      case "conversation.item.truncated":
        this.#mark(this.#line(event.item_id, "model", words.noAnswer), words.interrupted);
        break;
      case "response.done":
        this.#answered(event.response);
        break;
    }
  }

  #line(id, speaker, placeholder) {
    const known = this.#items.get(id);
    if (known) return known;
    const [row, name, text, note] = ["li", "span", "p", "span"].map((tag) => document.createElement(tag));
    row.dataset.speaker = speaker;
    row.dataset.pending = "";
    name.className = "speaker";
    name.textContent = words[speaker];
    text.textContent = placeholder;
    note.className = "note";
    row.append(name, text, note);
    this.#lines.append(row);
    this.#empty.hidden = true;
    const line = { row, text, note, said: "", startedAt: undefined };
    this.#items.set(id, line);
    this.#forgetOldest();
    return line;
  }

  #append(line, delta) {
    if (!("pending" in line.row.dataset)) return;
    line.said += typeof delta === "string" ? delta : "";
    if (line.said !== "") line.text.textContent = line.said;
  }

  #settle(line, said) {
    delete line.row.dataset.pending;
    line.said = typeof said === "string" ? said.trim() : line.said;
    if (line.said !== "") line.text.textContent = line.said;
  }

  #spoken(line, endedAt) {
    if (line.said !== "") return;
    const length = (endedAt - line.startedAt) / 1000;
    line.text.textContent = length > 0 ? words.spoken(length) : words.heard;
  }

  #mark(line, note) {
    delete line.row.dataset.pending;
    line.note.textContent = note;
  }

  #answered(response) {
    for (const { id } of response?.output ?? []) {
      const line = this.#items.get(id);
      if (line === undefined) continue;
      if (line.said === "") line.text.textContent = words.noAnswer;
      if (response.status === "cancelled") this.#mark(line, words.interrupted);
      delete line.row.dataset.pending;
    }
  }

  #forgetOldest() {
    if (this.#items.size <= LINES_KEPT) return;
    const [[id, line]] = this.#items;
    this.#items.delete(id);
    line.row.remove();
  }
}
