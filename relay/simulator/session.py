"""One session's life: connect, open the channel, converse, and go wrong on demand."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

import numpy as np
from aiortc import RTCCertificate, RTCDataChannel
from aiortc.mediastreams import MediaStreamError
from av import AudioFrame

from relay.simulator.audio import RATE, Samples, mono
from relay.simulator.dialogue import Dialogue
from relay.simulator.faults import SessionFaults
from relay.simulator.identifiers import new_id
from relay.simulator.offer_answer import Offer
from relay.simulator.peer import Peer, SharedPorts
from relay.simulator.record import SessionEnd, SessionRecord, SessionState
from relay.simulator.server_events import FILTERED_TYPES, Event, for_preview
from relay.simulator.session_object import SessionObject
from relay.simulator.settings import SimulatorSettings
from relay.simulator.shapes import Dialect
from relay.simulator.speaker import Speaker

MAX_BUFFERED_BYTES = 128 * 1024 * 1024
_QUIET_SECONDS = 0.2
_FLUSH_SECONDS = 1.0
_UNKNOWN_EVENT = {"type": "session.never_heard_of", "detail": "an event of a later version"}


@dataclass(frozen=True, slots=True)
class Call:
    """What a session starts from."""

    offer: Offer
    session: SessionObject
    record: SessionRecord
    faults: SessionFaults
    filtered: bool


class Session:
    """`changed` is called whenever the record may show something new."""

    def __init__(
        self, settings: SimulatorSettings, certificate: RTCCertificate, call: Call, changed: Callable[[], None]
    ) -> None:
        self.record = call.record
        self._settings = settings
        self._call = call
        self._changed = changed
        self._faults = call.faults
        if call.faults.wrong_instructions is not None:
            call.session.override_instructions(call.faults.wrong_instructions)
        self._speaker = Speaker()
        self._peer = Peer(settings, certificate, call.offer, call.faults, speaker=self._speaker, listener=self)
        self.record.rtp = self._peer.counts
        transcribers = settings.transcription_deployments
        self._dialogue = Dialogue(call.session, self._speaker, transcribers, self._emit, self._spawn)
        self._channel: RTCDataChannel | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._end: asyncio.Future[SessionEnd] = asyncio.get_running_loop().create_future()

    async def answer(self, ports: SharedPorts) -> str:
        """Bind sockets and return the SDP answer. Raises OSError."""
        return await self._peer.answer(ports)

    async def run(self) -> None:
        """From answer to end. Returns when everything of this session is closed."""
        self._spawn(self._connect())
        self._spawn(self._expire())
        try:
            self.record.end = await self._end
        finally:
            await self.close()
            self.record.state = SessionState.CLOSED
            self.record.end = self.record.end or SessionEnd.SERVICE_CLOSED
            self._changed()

    def end(self, reason: SessionEnd) -> None:
        """End the session; the first reason wins."""
        if not self._end.done():
            self._end.set_result(reason)

    def say(self, event: Event) -> bool:
        """Send any server event as it is; False when there is no open channel."""
        return self._send_text(json.dumps({"event_id": new_id("event"), **event}), str(event.get("type")))

    def apply_faults(self, faults: SessionFaults) -> None:
        """Set faults on the running session; timers count from now."""
        self._faults = faults
        if faults.wrong_instructions is not None:
            self._call.session.override_instructions(faults.wrong_instructions)
        self._misbehave()

    # What the peer tells (PeerListener).

    def channel_opened(self, channel: RTCDataChannel) -> None:
        """Take the first channel as the event channel, whatever its label; ignore others."""
        if self._channel is not None:
            self.record.other_channels += 1
            return
        self._channel = channel
        self.record.channel_label = channel.label
        self.record.state = SessionState.OPEN
        channel.on("message", self._client_message)
        channel.on("close", self._channel_closed)
        if not self._faults.no_session_created:
            self._emit({"type": "session.created", "session": self._call.session.echo()})
        self._misbehave()
        self._changed()

    def peer_lost(self) -> None:
        """End: the peer is gone."""
        self.end(SessionEnd.PEER_LEFT)

    def _channel_closed(self) -> None:
        if self._peer.association_ended():
            self.end(SessionEnd.PEER_LEFT)

    def _client_message(self, message: str | bytes) -> None:
        if isinstance(message, bytes):
            self.record.binary_messages += 1
            error = {"type": "invalid_request_error", "code": "invalid_event", "message": "Binary message."}
            self._emit({"type": "error", "error": {**error, "param": None, "event_id": None}})
        else:
            self.record.add_client_event(self._dialogue.client_message(message), len(message))
        self._changed()

    async def _connect(self) -> None:
        try:
            async with asyncio.timeout(self._settings.connect_seconds):
                connected = await self._peer.connect()
        except TimeoutError:
            self.end(SessionEnd.CONNECT_TIMEOUT)
            return
        if not connected:
            self.end(SessionEnd.CONNECT_FAILED)
            return
        if self._channel is None:
            self.record.state = SessionState.CONNECTED
        self._changed()
        if not self._call.offer.has_data:
            self._misbehave()
        await self._listen()

    async def _listen(self) -> None:
        silence = np.zeros(int(RATE * _QUIET_SECONDS), np.int16)
        while True:
            try:
                async with asyncio.timeout(_QUIET_SECONDS):
                    frame = await self._peer.track.recv()
            except TimeoutError:
                # A muted or stopped sender must not leave a turn open for ever.
                if self._dialogue.in_speech:
                    self._hear(silence)
            except MediaStreamError:
                return
            else:
                if isinstance(frame, AudioFrame):
                    self._hear(mono(frame))

    def _hear(self, samples: Samples) -> None:
        for frame in self._dialogue.hear(samples):
            self.record.heard.add(frame.dbfs, voiced=frame.voiced)
        self._changed()

    async def _expire(self) -> None:
        await asyncio.sleep(self._settings.session_seconds)
        text = "Your session hit the maximum duration."
        error = {"type": "invalid_request_error", "code": "session_expired", "message": text}
        self._emit({"type": "error", "error": {**error, "param": None, "event_id": None}})
        await self._flush()
        self.end(SessionEnd.EXPIRED)

    async def _flush(self) -> None:
        """Let what was sent leave before the association is aborted."""
        try:
            async with asyncio.timeout(_FLUSH_SECONDS):
                # aiortc tells when its buffer runs low, not when the peer has everything.
                while self._channel is not None and self._channel.bufferedAmount > 0:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
                await asyncio.sleep(0.05)
        except TimeoutError:
            return

    def _misbehave(self) -> None:
        """Start whatever the faults ask for."""
        faults = self._faults
        timed: tuple[tuple[float | None, Callable[[], None]], ...] = (
            (faults.media_stops_after, self._speaker.stop_sending),
            (faults.channel_closes_after, self._close_channel),
            (faults.peer_vanishes_after, self._peer.vanish),
        )
        for seconds, action in timed:
            if seconds is not None:
                self._spawn(_later(seconds, action))
        if faults.binary_event:
            self._send_raw(b'{"type":"session.updated"}', "(binary)")
        if faults.not_json_event:
            self._send_raw("this is not JSON {", "(not JSON)")
        if faults.unknown_event:
            self.say(_UNKNOWN_EVENT)
        if faults.error_event is not None:
            self.say({"type": "error", "error": faults.error_event})
        if faults.oversized_event is not None:
            self._peer.allow_any_size()
            self.say({"type": "session.updated", "padding": "x" * faults.oversized_event})

    def _close_channel(self) -> None:
        if self._channel is not None:
            self._channel.close()

    def _emit(self, event: Event) -> None:
        """Send a GA-shaped event in the session's dialect, if its filter lets it through."""
        named = {"type": event["type"], "event_id": new_id("event"), **event}
        shown = for_preview(named) if self._call.session.dialect is Dialect.PREVIEW else named
        if shown is None or (self._call.filtered and shown["type"] not in FILTERED_TYPES):
            return
        self._send_text(json.dumps(shown), shown["type"])

    def _send_text(self, text: str, kind: str) -> bool:
        return self._send_raw(text, kind)

    def _send_raw(self, message: str | bytes, kind: str) -> bool:
        channel = self._channel
        if channel is None or channel.readyState != "open":
            return False
        if channel.bufferedAmount > MAX_BUFFERED_BYTES:
            self.end(SessionEnd.SLOW_PEER)
            return False
        try:
            channel.send(message)
        except ValueError:
            # Above the size the peer announced: it cannot be sent, and is noted as such.
            self.record.server_events.append(f"(too large) {kind}")
            return False
        self.record.server_events.append(kind)
        self._changed()
        return True

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def close(self) -> None:
        """Cancel the work and free the peer."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._speaker.stop()
        await self._peer.close()


async def _later(seconds: float, action: Callable[[], None]) -> None:
    await asyncio.sleep(seconds)
    action()
