"""Responses: one at a time in the conversation, some beside it; spoken, written or calling a function."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, Protocol

from relay.simulator.answer import Answer, FunctionCall, Speech, Text, compose, input_text
from relay.simulator.audio import Samples, milliseconds
from relay.simulator.conversation import Conversation, Item
from relay.simulator.field_checks import FieldError
from relay.simulator.identifiers import new_id
from relay.simulator.server_events import Event
from relay.simulator.session_object import SessionObject
from relay.simulator.speaker import Clip, Speaker

MAX_PARALLEL = 8
_GENERATING_SHARE = 0.7
"""The service writes faster than it speaks: `response.done` comes at this share of the playback."""
_PATIENCE_SECONDS = 5.0
_TOKENS_PER_SECOND = 20


class Stage(Protocol):
    """What responses need of their session."""

    session: SessionObject
    conversation: Conversation
    speaker: Speaker

    def emit(self, event: Event) -> None:
        """Send a GA-shaped event."""

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run work that ends with the session."""


@dataclass(slots=True)
class Running:
    """One response from `response.created` until its last sound has been played."""

    id: str
    answer: Answer
    item: Item
    override: dict[str, Any]
    outside: bool
    previous: str | None = None
    said: str = ""
    status: str = "in_progress"
    clip: Clip | None = None
    audible: bool = False
    task: asyncio.Task[None] | None = None

    @property
    def active(self) -> bool:
        """Tell whether it is still being generated."""
        return self.status == "in_progress"


class Responses:
    """Creates, paces, cancels and interrupts."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._running: dict[str, Running] = {}
        self.audio_was_sent = False

    def create(self, override: dict[str, Any], speech: Samples | None) -> None:
        """Start a response; `speech` is the turn to repeat. Raises FieldError when one is already active."""
        outside = override.get("conversation") == "none"
        if not outside and (busy := self._active()):
            text = f"Conversation already has an active response in progress: {busy.id}."
            raise FieldError("conversation_already_has_active_response", text, "")
        if len(self._running) >= MAX_PARALLEL:
            raise FieldError("rate_limit_exceeded", "Too many responses at the same time.", "")
        answer = self._compose(override, speech)
        running = Running(new_id("resp"), answer, _new_item(answer), override, outside)
        self._running[running.id] = running
        self._announce(running)
        running.task = self._stage.spawn(self._run(running))

    def cancel(self, response_id: str | None) -> None:
        """`response.cancel`. The sound already buffered plays on until `output_audio_buffer.clear`."""
        running = self._running.get(response_id) if response_id else self._active()
        if running is None or not running.active:
            text = "Cancellation failed: no active response found"
            raise FieldError("response_cancel_not_active", text, "response_id" if response_id else "")
        self._stop_generating(running, "client_cancelled")
        if not (running.clip and running.audible):
            self._forget(running)
        else:
            running.task = self._stage.spawn(self._play_out(running))

    def interrupt(self) -> None:
        """Speech during an answer: truncate it at what was played, clear the sound, cancel the rest."""
        for running in list(self._running.values()):
            if running.outside:
                continue
            if running.clip is not None and running.audible:
                self._truncate(running)
                self._clear(running)
            if running.active:
                self._stop_generating(running, "turn_detected")
            self._forget(running)

    def clear_output(self) -> None:
        """`output_audio_buffer.clear`: only what is audible is cleared."""
        for running in list(self._running.values()):
            if running.clip is not None and running.audible:
                self._clear(running)

    def _active(self) -> Running | None:
        return next((r for r in self._running.values() if r.active and not r.outside), None)

    def _compose(self, override: dict[str, Any], speech: Samples | None) -> Answer:
        session, conversation = self._stage.session, self._stage.conversation
        given = override.get("input")
        return compose(
            last=conversation.last() if given is None else None,
            user_text=conversation.last_user_text() if given is None else input_text(given),
            speech=speech,
            tools=override.get("tools", session.get("tools")),
            tool_choice=override.get("tool_choice", session.get("tool_choice")),
            aloud=self._modalities(override) == ["audio"],
        )

    def _modalities(self, override: dict[str, Any]) -> list[str]:
        modalities: list[str] = override.get("output_modalities", self._stage.session.get("output_modalities"))
        return modalities

    def _announce(self, running: Running) -> None:
        emit = self._stage.emit
        emit({"type": "response.created", "response": self._resource(running)})
        if not running.outside:
            running.item, running.previous = self._stage.conversation.add(running.item)
        added = {"response_id": running.id, "output_index": 0, "item": dict(running.item)}
        emit({"type": "response.output_item.added", **added})
        if not running.outside:
            emit({"type": "conversation.item.added", "previous_item_id": running.previous, "item": dict(running.item)})

    async def _run(self, running: Running) -> None:
        match running.answer:
            case FunctionCall(name, arguments):
                await self._write_call(running, name, arguments)
            case Text(text):
                self._part(running, "added", {"type": "text", "text": ""})
                await self._write(running, text, "response.output_text", 0.01)
            case Speech(transcript, samples):
                self._part(running, "added", {"type": "audio", "transcript": ""})
                await self._speak(running, transcript, samples)
        running.status = "completed"
        self._finish(running, item_status="completed", details=None)
        await self._play_out(running)

    async def _write_call(self, running: Running, name: str, arguments: str) -> None:
        where = {"response_id": running.id, "item_id": running.item["id"], "output_index": 0}
        where["call_id"] = running.item["call_id"]
        for start in range(0, len(arguments), 16):
            delta = {"delta": arguments[start : start + 16], "obfuscation": secrets.token_hex(4)}
            self._stage.emit({"type": "response.function_call_arguments.delta", **where, **delta})
            await asyncio.sleep(0.01)
        running.item["arguments"] = arguments
        done = {"name": name, "arguments": arguments}
        self._stage.emit({"type": "response.function_call_arguments.done", **where, **done})

    async def _speak(self, running: Running, transcript: str, samples: Samples) -> None:
        first, _, rest = transcript.partition(" ")
        kind = "response.output_audio_transcript"
        await self._write(running, first, kind, 0.0)
        running.clip = self._stage.speaker.say(samples)
        self.audio_was_sent = True
        if not running.outside:
            self._stage.conversation.keep_sound(running.item["id"], samples)
        await asyncio.wait([running.clip.started], timeout=_PATIENCE_SECONDS)
        running.audible = True
        self._stage.emit({"type": "output_audio_buffer.started", "response_id": running.id})
        words = max(1, len(rest.split()))
        pause = milliseconds(samples) / 1000 * _GENERATING_SHARE / words
        await self._write(running, f" {rest}" if rest else "", kind, pause)

    async def _write(self, running: Running, text: str, kind: str, pause: float) -> None:
        words = text.split(" ") if text else []
        for index, word in enumerate(words):
            delta = word if index == 0 else f" {word}"
            if not delta:
                continue
            running.said += delta
            extra = {"delta": delta, "obfuscation": secrets.token_hex(4)}
            self._stage.emit({"type": f"{kind}.delta", **self._where(running), **extra})
            await asyncio.sleep(pause)

    async def _play_out(self, running: Running) -> None:
        clip = running.clip
        if clip is not None:
            patience = milliseconds(clip.samples) / 1000 + _PATIENCE_SECONDS
            await asyncio.wait([clip.finished], timeout=patience)
            if clip.finished.done() and clip.finished.result():
                self._stage.emit({"type": "output_audio_buffer.stopped", "response_id": running.id})
        running.audible = False
        self._running.pop(running.id, None)

    def _finish(self, running: Running, *, item_status: str, details: dict[str, Any] | None) -> None:
        emit, item = self._stage.emit, running.item
        item["status"] = item_status
        if item["type"] == "message":
            self._finish_parts(running)
        if not running.outside and item_status == "completed":
            emit({"type": "conversation.item.done", "previous_item_id": running.previous, "item": dict(item)})
        done = {"response_id": running.id, "output_index": 0, "item": dict(item)}
        emit({"type": "response.output_item.done", **done})
        resource = self._resource(running)
        resource.update(status_details=details, output=[dict(item)], usage=self._usage(running))
        emit({"type": "response.done", "response": resource})
        emit({"type": "rate_limits.updated", "rate_limits": _RATE_LIMITS})

    def _finish_parts(self, running: Running) -> None:
        where = self._where(running)
        if isinstance(running.answer, Speech):
            self._stage.emit({"type": "response.output_audio.done", **where})
            transcript = {"transcript": running.said}
            self._stage.emit({"type": "response.output_audio_transcript.done", **where, **transcript})
            part = {"type": "audio", "transcript": running.said}
        else:
            self._stage.emit({"type": "response.output_text.done", **where, "text": running.said})
            part = {"type": "text", "text": running.said}
        running.item["content"] = [{**part, "type": f"output_{part['type']}"}]
        self._part(running, "done", part)

    def _part(self, running: Running, what: str, part: dict[str, Any]) -> None:
        # The wire carries the part twice (Azure GA, recorded).
        both = {"part": part, "content": part}
        self._stage.emit({"type": f"response.content_part.{what}", **self._where(running), **both})

    def _where(self, running: Running) -> dict[str, Any]:
        return {"response_id": running.id, "item_id": running.item["id"], "output_index": 0, "content_index": 0}

    def _stop_generating(self, running: Running, reason: str) -> None:
        if running.task is not None:
            running.task.cancel()
        running.status = "cancelled"
        self._finish(running, item_status="incomplete", details={"type": "cancelled", "reason": reason})

    def _truncate(self, running: Running) -> None:
        played = 0 if running.clip is None else running.clip.played_ms
        item_id = running.item["id"]
        if running.item["content"]:
            self._stage.conversation.truncate(item_id, 0, played)
        cut = {"item_id": item_id, "content_index": 0, "audio_end_ms": played}
        self._stage.emit({"type": "conversation.item.truncated", **cut})

    def _clear(self, running: Running) -> None:
        running.audible = False
        self._stage.speaker.hush()
        self._stage.emit({"type": "output_audio_buffer.cleared", "response_id": running.id})

    def _forget(self, running: Running) -> None:
        if running.task is not None:
            running.task.cancel()
        self._running.pop(running.id, None)

    def _resource(self, running: Running) -> dict[str, Any]:
        session = self._stage.session
        voice = running.override.get("audio", {}).get("output", {}).get("voice", session.voice)
        return {
            "object": "realtime.response",
            "id": running.id,
            "status": running.status,
            "status_details": None,
            "output": [],
            "conversation_id": None if running.outside else self._stage.conversation.id,
            "output_modalities": self._modalities(running.override),
            "max_output_tokens": running.override.get("max_output_tokens", session.get("max_output_tokens")),
            "audio": {"output": {"format": {"type": "audio/pcm", "rate": 24000}, "voice": voice}},
            "usage": None,
            "metadata": running.override.get("metadata"),
        }

    def _usage(self, running: Running) -> dict[str, Any]:
        session = self._stage.session
        text_in = (len(session.get("instructions")) + self._stage.conversation.text_length()) // 4 + 1
        played = milliseconds(running.clip.samples) if running.clip else 0
        text_out, audio_out = len(running.said) // 4 + 1, played * _TOKENS_PER_SECOND // 1000
        audio_in = audio_out // 2
        inputs = {"text_tokens": text_in, "audio_tokens": audio_in, "image_tokens": 0, "cached_tokens": 0}
        inputs_cached = {"cached_tokens_details": {"text_tokens": 0, "audio_tokens": 0, "image_tokens": 0}}
        return {
            "total_tokens": text_in + audio_in + text_out + audio_out,
            "input_tokens": text_in + audio_in,
            "output_tokens": text_out + audio_out,
            "input_token_details": inputs | inputs_cached,
            "output_token_details": {"text_tokens": text_out, "audio_tokens": audio_out},
        }


_RATE_LIMITS = [
    {"name": "requests", "limit": 1000, "remaining": 999, "reset_seconds": 60},
    {"name": "tokens", "limit": 100_000, "remaining": 99_000, "reset_seconds": 60},
]


def _new_item(answer: Answer) -> Item:
    item: Item = {"id": new_id("item"), "object": "realtime.item", "status": "in_progress"}
    if isinstance(answer, FunctionCall):
        return {**item, "type": "function_call", "call_id": new_id("call", 16), "name": answer.name, "arguments": ""}
    return {**item, "type": "message", "role": "assistant", "content": []}
