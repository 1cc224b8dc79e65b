"""Whether the model repeats what it must not: words the administrator planted, or runs of its instructions.

It looks at text, transcripts and function arguments as they come. What the model says encoded, translated or
paraphrased it cannot know.
"""

from __future__ import annotations

import re
import unicodedata
from collections import OrderedDict
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from relay.core.policy_rules import CanaryRules

REMOVED = "[removed by policy]"
"""Stands where the model's text was taken out."""

_SPOKEN = {
    "response.output_text.delta": "delta",
    "response.output_text.done": "text",
    "response.output_audio_transcript.delta": "delta",
    "response.output_audio_transcript.done": "transcript",
    "response.function_call_arguments.delta": "delta",
    "response.function_call_arguments.done": "arguments",
}
_WRITTEN = frozenset(
    {
        "response.content_part.added",
        "response.content_part.done",
        "response.output_item.added",
        "response.output_item.done",
        "response.done",
        "conversation.item.added",
        "conversation.item.created",
        "conversation.item.done",
        "conversation.item.retrieved",
    }
)
_SAYING = frozenset({"text", "transcript", "arguments", "refusal", "name"})
_WORD = re.compile(r"[^\W_]+")
_SPACED = "".join(chr(code).lower() if chr(code).isalnum() else " " for code in range(128))
_MOST_STREAMS = 64
_LONGEST_WORD = 256
# Neither seen nor heard: marks on letters, and what has no width.
_UNHEARD = frozenset({"Mn", "Cf"})
_ALIKE = str.maketrans({"\u0131": "i"})  # the dotless i, which folding keeps apart
_MOST_ITEMS = 256
MOST_TEXT = 262_144
"""Characters of one text that are looked at."""


class CanaryDetector:
    """Looks for the canary in one session's server events (GA names); remembers where each text stream stands."""

    def __init__(self, rules: CanaryRules, instructions: str) -> None:
        self._words = tuple(word for word in ("".join(_tokens(word)) for word in rules.words) if word)
        self._run = rules.overlap_words
        self._half = (self._run + 1) // 2
        self._runs, self._halves = _runs_and_halves(instructions, self._run)
        self.active = bool(self._words or self._runs)
        self._longest = max(map(len, self._words), default=1)
        self._tails: OrderedDict[tuple[Any, ...], tuple[str, list[str], str]] = OrderedDict()
        self._caught: OrderedDict[str, None] = OrderedDict()

    def hears(self, name: str, event: dict[str, Any]) -> bool:
        """Whether this event says it, or completes what earlier ones began to say."""
        member = _SPOKEN.get(name)
        if member is not None:
            piece = event.get(member)
            if not isinstance(piece, str):
                return False
            found = self._continues(name, event, piece) if member == "delta" else self.says(piece)
        else:
            found = name in _WRITTEN and any(map(self.says, _texts(event)))
        if found:
            self._catch(event)
        return found

    def caught(self, event: dict[str, Any]) -> bool:
        """Whether the event is about an item in which it was heard before."""
        return bool(self._caught) and any(item_id in self._caught for item_id in _item_ids(event))

    def _catch(self, event: dict[str, Any]) -> None:
        for item_id in _item_ids(event):
            self._caught[item_id] = None
            if len(self._caught) > _MOST_ITEMS:
                self._caught.popitem(last=False)

    def says(self, text: str) -> bool:
        """Whether a text says it all by itself."""
        tokens = _tokens(text[:MOST_TEXT])
        if self._words:
            plain = "".join(tokens)
            if any(word in plain for word in self._words):
                return True
        return self._has_run(tokens)

    def _has_run(self, tokens: list[str]) -> bool:
        size = self._run
        if not self._runs or len(tokens) < size:
            return False
        # Wherever a run begins, half of it begins at one of these places within it: most texts have none in common.
        halves = _runs_of(tokens, self._half, size - self._half + 1)
        return not self._halves.isdisjoint(halves) and not self._runs.isdisjoint(_runs_of(tokens, size))

    def _continues(self, name: str, event: dict[str, Any], piece: str) -> bool:
        """One delta, together with the end of what came before it in the same stream."""
        key = (name, _plain(event.get("item_id")), _plain(event.get("content_index")))
        tail, words, unfinished = self._tails.get(key, ("", [], ""))
        tokens = _tokens(piece)
        found = False
        if self._words:
            plain = tail + "".join(tokens)
            found = any(word in plain for word in self._words)
            tail = plain[-(self._longest - 1) :] if self._longest > 1 else ""
        if self._runs:
            words = words + (_tokens(unfinished + piece) if unfinished else tokens)
            found = found or self._has_run(words)
            # The last word may go on in the next delta.
            unfinished = words.pop()[-_LONGEST_WORD:] if words and piece[-1:].isalnum() else ""
            words = words[-self._run :]
        self._tails[key] = (tail, words, unfinished)
        self._tails.move_to_end(key)
        if len(self._tails) > _MOST_STREAMS:
            self._tails.popitem(last=False)
        return found


@lru_cache(maxsize=64)
def _runs_and_halves(instructions: str, run: int) -> tuple[frozenset[tuple[str, ...]], frozenset[tuple[str, ...]]]:
    """What runs of so many words the instructions have, and what runs of half as many; made once for all sessions."""
    said = _tokens(instructions) if run else []
    return frozenset(_runs_of(said, run)), frozenset(_runs_of(said, (run + 1) // 2))


def _tokens(text: str) -> list[str]:
    """The words of a text without case, spaces and marks, in whichever letters they are written."""
    if text.isascii():  # a tenth of the time, and most of what there is to read
        return text.translate(_SPACED).split()
    text = unicodedata.normalize("NFKD", text)
    if not text.isascii():
        text = "".join(char for char in text if char.isascii() or unicodedata.category(char) not in _UNHEARD)
    return _WORD.findall(text.casefold().translate(_ALIKE))


def _runs_of(tokens: list[str], size: int, step: int = 1) -> Iterator[tuple[str, ...]]:
    """Every `size` words in a row, or those of them that begin at each `step`th word."""
    return zip(*(tokens[at::step] for at in range(size)), strict=False)


def is_delta(name: str) -> bool:
    """Whether the event is a piece of a text."""
    return _SPOKEN.get(name) == "delta"


def without_text(name: str, event: dict[str, Any]) -> dict[str, Any]:
    """The event with all the model says in it replaced."""
    member = _SPOKEN.get(name)
    if member is not None:
        return {**event, member: REMOVED}
    replaced: dict[str, Any] = _silenced(event)
    return replaced


def _silenced(value: Any) -> Any:
    if isinstance(value, list):
        return [_silenced(entry) for entry in value]
    if not isinstance(value, dict) or value.get("role") == "user":
        return value
    return {
        name: REMOVED if name in _SAYING and isinstance(entry, str) else _silenced(entry)
        for name, entry in value.items()
        if name != "audio" or not isinstance(entry, str)
    }


def _texts(value: Any) -> list[str]:
    """What the model says in items and parts; what the user said is no disclosure."""
    if isinstance(value, list):
        return [text for entry in value for text in _texts(entry)]
    if not isinstance(value, dict) or value.get("role") == "user":
        return []
    found = []
    for name, entry in value.items():
        if isinstance(entry, str):
            if name in _SAYING:
                found.append(entry)
        else:
            found += _texts(entry)
    return found


def _item_ids(event: dict[str, Any]) -> list[str]:
    ids = [event.get("item_id")]
    match event:
        case {"item": {"id": item_id}}:
            ids.append(item_id)
        case {"response": {"output": list(output)}}:
            ids += [item.get("id") for item in output if isinstance(item, dict)]
    return [item_id for item_id in ids if isinstance(item_id, str)]


def _plain(value: Any) -> Any:
    return value if isinstance(value, str | int) else None
