"""The service's mouth: an audio track that plays clips in turn, and silence between them, one packet every 20 ms."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np
from aiortc import MediaStreamTrack
from aiortc.mediastreams import MediaStreamError
from av import AudioCodecContext, AudioFrame, CodecContext
from av.packet import Packet

from relay.simulator.audio import FRAME, FRAME_MS, RATE, Samples

MAX_CLIPS = 16
_TIME_BASE = Fraction(1, RATE)
# One 20 ms Opus packet that decodes to silence (RFC 6716 §3.1: CELT, fullband, mono).
_SILENT_PACKET = b"\xf8\xff\xfe"
_LATE_SECONDS = 0.2


def _loop_future() -> asyncio.Future[bool]:
    return asyncio.get_running_loop().create_future()


@dataclass(slots=True)
class Clip:
    """Something being said. `finished` resolves to True when played out, False when cut off."""

    samples: Samples
    position: int = 0
    started: asyncio.Future[bool] = field(default_factory=_loop_future)
    finished: asyncio.Future[bool] = field(default_factory=_loop_future)

    @property
    def played_ms(self) -> int:
        """How much of it has been sent, in ms."""
        return min(self.position, len(self.samples)) * 1000 // RATE

    def end(self, *, completed: bool) -> None:
        """Resolve both futures, if they are not yet."""
        for future in (self.started, self.finished):
            if not future.done():
                future.set_result(completed)


class Speaker(MediaStreamTrack):
    """aiortc asks `recv()` for the next packet; it comes encoded, so no executor thread is needed."""

    kind = "audio"

    def __init__(self) -> None:
        super().__init__()
        self._clips: deque[Clip] = deque()
        self._encoder: AudioCodecContext | None = None
        self._timestamp = 0
        self._next_at = 0.0
        self._muted: asyncio.Future[bool] | None = None

    def say(self, samples: Samples) -> Clip:
        """Queue a clip. Above MAX_CLIPS the newest is dropped: it ends at once, cut off."""
        clip = Clip(samples)
        if len(self._clips) >= MAX_CLIPS:
            clip.end(completed=False)
        else:
            self._clips.append(clip)
        return clip

    def hush(self) -> None:
        """Cut off everything that is being said or waits."""
        while self._clips:
            self._clips.popleft().end(completed=False)

    def stop_sending(self) -> None:
        """From now on no packet leaves at all (a fault, not silence)."""
        if self._muted is None:
            self._muted = _loop_future()

    def stop(self) -> None:
        """End the track and cut off what was being said."""
        self.hush()
        super().stop()

    async def recv(self) -> Packet[Any]:
        """Return the next Opus packet, 20 ms after the last."""
        if self.readyState != "live":
            raise MediaStreamError
        await self._pace()
        if self._muted is not None:
            await self._muted
        packet = Packet(self._payload())
        packet.pts = self._timestamp
        packet.time_base = _TIME_BASE
        self._timestamp += FRAME
        return packet

    async def _pace(self) -> None:
        now = time.monotonic()
        if now - self._next_at > _LATE_SECONDS:
            self._next_at = now
        await asyncio.sleep(max(0.0, self._next_at - now))
        self._next_at += FRAME_MS / 1000

    def _payload(self) -> bytes:
        if not self._clips:
            self._encoder = None
            return _SILENT_PACKET
        clip = self._clips[0]
        if not clip.started.done():
            clip.started.set_result(True)
        samples = clip.samples[clip.position : clip.position + FRAME]
        clip.position += FRAME
        if clip.position >= len(clip.samples):
            self._clips.popleft().end(completed=True)
        return self._encode(samples)

    def _encode(self, samples: Samples) -> bytes:
        if self._encoder is None:
            self._encoder = _new_encoder()
        padded = np.zeros((1, FRAME), np.int16)
        padded[0, : len(samples)] = samples
        frame = AudioFrame.from_ndarray(padded, format="s16", layout="mono")
        frame.sample_rate = RATE
        frame.pts = self._timestamp
        frame.time_base = _TIME_BASE
        packets = self._encoder.encode(frame)
        return bytes(packets[0]) if packets else _SILENT_PACKET


def _new_encoder() -> AudioCodecContext:
    encoder = CodecContext.create("libopus", "w")
    encoder.bit_rate = 32_000
    encoder.format = "s16"
    encoder.layout = "mono"
    encoder.sample_rate = RATE
    encoder.time_base = _TIME_BASE
    encoder.options = {"application": "voip"}
    return encoder
