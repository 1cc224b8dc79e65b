"""The items of one conversation, in order, and what clients may do to them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from relay.simulator.audio import RATE, Samples, milliseconds, to_event_pcm
from relay.simulator.field_checks import FieldError
from relay.simulator.identifiers import new_id

MAX_ITEMS = 1000
MAX_KEPT_SAMPLES = 120 * RATE

Item = dict[str, Any]


@dataclass(slots=True)
class Conversation:
    """Items by id, oldest first; above MAX_ITEMS the oldest go, above MAX_KEPT_SAMPLES the oldest sounds."""

    id: str
    _items: dict[str, Item] = field(default_factory=dict)
    _sounds: dict[str, Samples] = field(default_factory=dict)

    def last_id(self) -> str | None:
        """Return the newest item's id."""
        return next(reversed(self._items), None)

    def add(self, item: Item, previous: str | None = None, sound: Samples | None = None) -> tuple[Item, str | None]:
        """Insert after `previous` ("root": first; None: last). Returns the item as stored and its neighbour's id.

        Raises FieldError for an unknown neighbour or an id already taken.
        """
        stored = self._completed(item)
        if stored["id"] in self._items:
            text = f"Error adding item: an item with ID '{stored['id']}' already exists."
            raise FieldError("invalid_value", text, "item.id")
        if previous is not None and previous != "root" and previous not in self._items:
            raise _not_found("previous_item_id", previous)
        before = None if previous == "root" else previous or self.last_id()
        self._insert(stored, before)
        if sound is not None:
            self._keep_sound(stored["id"], sound)
        return stored, before

    def get(self, item_id: str) -> Item:
        """Return an item; raises FieldError `item_not_found`."""
        if item_id not in self._items:
            raise _not_found("item_id", item_id)
        return self._items[item_id]

    def retrieve(self, item_id: str) -> Item:
        """Return the item with its sound, if that is still kept."""
        found = self.get(item_id)
        sound = self._sounds.get(item_id)
        if sound is None:
            return found
        parts = [{**p, "audio": to_event_pcm(sound)} if "audio" in p["type"] else p for p in found["content"]]
        return {**found, "content": parts}

    def delete(self, item_id: str) -> None:
        """Forget an item; raises FieldError `item_not_found`."""
        self.get(item_id)
        del self._items[item_id]
        self._sounds.pop(item_id, None)

    def truncate(self, item_id: str, content_index: int, audio_end_ms: int) -> None:
        """Cut an assistant's audio. Raises FieldError when there is no such audio or it is shorter."""
        item = self.get(item_id)
        content = item.get("content") or []
        if item.get("role") != "assistant" or content_index >= len(content):
            raise FieldError("invalid_value", "Only model output audio messages can be truncated.", "item_id")
        sound = self._sounds.get(item_id)
        if sound is not None:
            if audio_end_ms > milliseconds(sound):
                text = f"Audio content of {milliseconds(sound)}ms is already shorter than {audio_end_ms}ms"
                raise FieldError("invalid_value", text, "audio_end_ms")
            self._sounds[item_id] = sound[: audio_end_ms * 48]
        content[content_index].pop("transcript", None)

    def last_user_text(self) -> str | None:
        """Return the text of the newest user message, unless something else was said since."""
        for item in reversed(self._items.values()):
            if item["type"] == "message" and item["role"] == "user":
                return text_of(item)
            if item["type"] == "message" and item["role"] == "assistant":
                return None
        return None

    def last(self) -> Item | None:
        """Return the newest item."""
        last = self.last_id()
        return None if last is None else self._items[last]

    def text_length(self) -> int:
        """Count the characters of all text, for token estimates."""
        return sum(len(text_of(item) or "") for item in self._items.values())

    def keep_sound(self, item_id: str, sound: Samples) -> None:
        """Keep what an assistant's item sounds like."""
        self._keep_sound(item_id, sound)

    def _completed(self, item: Item) -> Item:
        stored = {"id": item.get("id") or new_id("item"), "type": item["type"], "object": "realtime.item"}
        stored["status"] = item.get("status", "completed")
        stored.update({name: value for name, value in item.items() if name not in stored or name == "status"})
        if stored["type"] == "function_call":
            stored.setdefault("call_id", new_id("call", 16))
        return stored

    def _insert(self, item: Item, before: str | None) -> None:
        order = list(self._items)
        at = 0 if before is None else order.index(before) + 1
        order.insert(at, item["id"])
        self._items[item["id"]] = item
        self._items = {name: self._items[name] for name in order[-MAX_ITEMS:]}

    def _keep_sound(self, item_id: str, sound: Samples) -> None:
        self._sounds[item_id] = sound
        while sum(map(len, self._sounds.values())) > MAX_KEPT_SAMPLES:
            del self._sounds[next(iter(self._sounds))]


def text_of(item: Item) -> str | None:
    """All the text in a message, transcripts included; None when there is none."""
    parts = item.get("content") or []
    words = [str(part.get("text") or part.get("transcript") or "") for part in parts]
    return " ".join(word for word in words if word) or None


def _not_found(param: str, item_id: str) -> FieldError:
    text = f"Item with item_id not found: the item '{item_id[:64]}' does not exist."
    return FieldError("item_not_found", text, param)
