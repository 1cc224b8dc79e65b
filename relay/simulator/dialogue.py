"""One conversation with the stand-in model: client events and sound in, server events and sound out."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from typing import Any

from relay.simulator.answer import transcript_of
from relay.simulator.audio import Samples, from_event_pcm, milliseconds
from relay.simulator.conversation import Conversation
from relay.simulator.field_checks import FieldError, invalid
from relay.simulator.identifiers import new_id
from relay.simulator.listener import Frame, Listener, SpeechStarted, SpeechStopped
from relay.simulator.responses import Responses
from relay.simulator.server_events import Event
from relay.simulator.session_object import SessionObject, nested_response
from relay.simulator.shapes import Dialect, check_event
from relay.simulator.speaker import Speaker

Emit = Callable[[Event], None]
Spawn = Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]


class Dialogue:
    """`emit` sends a GA-shaped event, `spawn` runs work that ends with the session."""

    def __init__(
        self,
        session: SessionObject,
        speaker: Speaker,
        transcription_deployments: tuple[str, ...],
        emit: Emit,
        spawn: Spawn,
    ) -> None:
        self.session = session
        self.speaker = speaker
        self.conversation = Conversation(new_id("conv"))
        self.emit = emit
        self.spawn = spawn
        self._transcribers = transcription_deployments
        self._listener = Listener()
        self._responses = Responses(self)
        self._turn_id = ""
        self._unanswered: Samples | None = None

    def client_message(self, text: str) -> Any:
        """Take one text frame. Returns what was parsed (for the record); answers mistakes with `error` events."""
        try:
            event = json.loads(text)
        except ValueError:
            event = None
        if not isinstance(event, dict):
            self._error(FieldError("invalid_event", "The event is not a JSON object.", ""), None)
            return text[:1000]
        try:
            check_event(event, self.session.dialect)
            self._take(event)
        except FieldError as error:
            given = event.get("event_id")
            self._error(error, given if isinstance(given, str) else None)
        return event

    def hear(self, samples: Samples) -> list[Frame]:
        """Take sound of the track. Returns the frames measured."""
        frames = []
        for heard in self._listener.hear(samples, self.session.turn_detection):
            match heard:
                case Frame():
                    frames.append(heard)
                case SpeechStarted(at_ms):
                    self._speech_started(at_ms)
                case SpeechStopped(at_ms, speech):
                    self._speech_stopped(at_ms, speech)
        return frames

    @property
    def in_speech(self) -> bool:
        """A turn has begun and not ended."""
        return self._listener.speaking

    def _take(self, event: dict[str, Any]) -> None:
        match event["type"]:
            case "session.update":
                self.session.update(event["session"], audio_was_sent=self._responses.audio_was_sent)
                self.emit({"type": "session.updated", "session": self.session.echo()})
            case "conversation.item.create":
                self._create_item(event)
            case "conversation.item.retrieve":
                item = self.conversation.retrieve(event["item_id"])
                self.emit({"type": "conversation.item.retrieved", "item": item})
            case "conversation.item.truncate":
                cut = {name: event[name] for name in ("item_id", "content_index", "audio_end_ms")}
                self.conversation.truncate(**cut)
                self.emit({"type": "conversation.item.truncated", **cut})
            case "conversation.item.delete":
                self.conversation.delete(event["item_id"])
                self.emit({"type": "conversation.item.deleted", "item_id": event["item_id"]})
            case "response.create":
                override = event.get("response") or {}
                preview = self.session.dialect is Dialect.PREVIEW
                self._responses.create(nested_response(override) if preview else override, self._unanswered)
                self._unanswered = None
            case "response.cancel":
                self._responses.cancel(event.get("response_id"))
            case _:
                self._take_buffer_event(event)

    def _take_buffer_event(self, event: dict[str, Any]) -> None:
        match event["type"]:
            case "input_audio_buffer.append":
                try:
                    samples = from_event_pcm(event["audio"])
                except ValueError as error:
                    raise invalid("audio", f"expected base64 of 16-bit PCM ({error}).") from error
                self.hear(samples)
            case "input_audio_buffer.commit":
                speech = self._listener.commit()
                if speech is None:
                    text = "Error committing input audio buffer: buffer too small."
                    raise FieldError("input_audio_buffer_commit_empty", text, "")
                self._turn_id = new_id("item")
                self._commit(speech)
            case "input_audio_buffer.clear":
                self._listener.clear()
                self.emit({"type": "input_audio_buffer.cleared"})
            case "output_audio_buffer.clear":
                self._responses.clear_output()

    def _create_item(self, event: dict[str, Any]) -> None:
        item, previous = self.conversation.add(event["item"], event.get("previous_item_id"))
        self.emit({"type": "conversation.item.added", "previous_item_id": previous, "item": item})
        self.emit({"type": "conversation.item.done", "previous_item_id": previous, "item": item})

    def _speech_started(self, at_ms: int) -> None:
        self._turn_id = new_id("item")
        self.emit({"type": "input_audio_buffer.speech_started", "audio_start_ms": at_ms, "item_id": self._turn_id})
        detection = self.session.turn_detection
        if detection is not None and detection["interrupt_response"]:
            self._responses.interrupt()

    def _speech_stopped(self, at_ms: int, speech: Samples) -> None:
        self.emit({"type": "input_audio_buffer.speech_stopped", "audio_end_ms": at_ms, "item_id": self._turn_id})
        self._commit(speech)
        detection = self.session.turn_detection
        if detection is None or not detection["create_response"]:
            return
        try:
            self._responses.create({}, speech)
            self._unanswered = None
        except FieldError as error:
            self._error(error, None)

    def _commit(self, speech: Samples) -> None:
        previous = self.conversation.last_id()
        self._unanswered = speech
        committed = {"previous_item_id": previous, "item_id": self._turn_id}
        self.emit({"type": "input_audio_buffer.committed", **committed})
        part = {"type": "input_audio", "transcript": None}
        message = {"id": self._turn_id, "type": "message", "role": "user", "content": [part]}
        item, _ = self.conversation.add(message, sound=speech)
        self.emit({"type": "conversation.item.added", "previous_item_id": previous, "item": item})
        self.emit({"type": "conversation.item.done", "previous_item_id": previous, "item": item})
        if self.session.transcription_model is not None:
            self._transcribe(item, speech)

    def _transcribe(self, item: dict[str, Any], speech: Samples) -> None:
        where = {"item_id": item["id"], "content_index": 0}
        kind = "conversation.item.input_audio_transcription"
        # A model that is no deployment is accepted at update, and then every turn fails (Azure GA, recorded).
        if self.session.transcription_model not in self._transcribers:
            text = "The API deployment for this resource does not exist."
            error = {"type": "server_error", "code": "DeploymentNotFound", "message": text, "param": None}
            self.emit({"type": f"{kind}.failed", **where, "error": error})
            return
        transcript = transcript_of(speech)
        item["content"][0]["transcript"] = transcript
        self.emit({"type": f"{kind}.delta", **where, "delta": transcript})
        usage = {"type": "duration", "seconds": milliseconds(speech) / 1000}
        self.emit({"type": f"{kind}.completed", **where, "transcript": transcript, "usage": usage})

    def _error(self, error: FieldError, event_id: str | None) -> None:
        detail = {"type": "invalid_request_error", "code": error.code, "message": error.message}
        self.emit({"type": "error", "error": {**detail, "param": error.param or None, "event_id": event_id}})
