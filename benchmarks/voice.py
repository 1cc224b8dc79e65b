"""Opus packets that carry their number in the stream, encoded once before anything is measured."""

from __future__ import annotations

from struct import Struct

import numpy as np
from av import AudioFrame, CodecContext

FRAME_SAMPLES = 960
FRAME_SECONDS = 0.02
# Half a cycle is silence, half is a buzz: where the buzz begins can be seen even after another encoder's work.
CYCLE_FRAMES = 30
_BIT_RATE = 24_000
_SAMPLE_RATE = 48_000
_BUZZ_HERTZ = 180
_BUZZ_AMPLITUDE = 9_000
# RFC 6716 section 3.2.5: code 3, one frame, constant bit rate, with padding.
_CODE_3 = 0x03
_ONE_PADDED_FRAME = 0x41
_STAMP = Struct("!12sQ7x")
_NUMBER = Struct("!Q7x")
_MAGIC = b"bench stamp\0"


def spoken_cycle() -> list[bytes]:
    """Encode one cycle of `CYCLE_FRAMES` packets of 20 ms; send them round and round, through `stamp`."""
    at = np.arange(CYCLE_FRAMES * FRAME_SAMPLES)
    loud = at >= len(at) // 2
    wave = (np.sign(np.sin(2 * np.pi * _BUZZ_HERTZ * at / _SAMPLE_RATE)) * _BUZZ_AMPLITUDE * loud).astype(np.int16)
    encoder = CodecContext.create("libopus", "w")
    encoder.bit_rate = _BIT_RATE
    encoder.format = "s16"
    encoder.layout = "mono"
    encoder.sample_rate = _SAMPLE_RATE
    encoder.options = {"vbr": "off"}
    packets: list[bytes] = []
    for start in range(0, len(wave), FRAME_SAMPLES):
        frame = AudioFrame.from_ndarray(wave[None, start : start + FRAME_SAMPLES], layout="mono")
        frame.sample_rate, frame.pts = _SAMPLE_RATE, start
        packets += [bytes(packet) for packet in encoder.encode(frame)]
    return [_with_room(packet) for packet in packets]


def starts_speech(index: int) -> bool:
    """Whether packet `index` of the endless stream is the first of a buzz."""
    return index % CYCLE_FRAMES == CYCLE_FRAMES // 2


def stamp(packet: bytearray, end: int, number: int) -> None:
    """Write a number into the padding of the Opus packet that ends at `end`; a decoder does not look there."""
    _NUMBER.pack_into(packet, end - _NUMBER.size, number)


def stamp_of(packet: bytearray, end: int) -> int | None:
    """Read the number off the end of a packet; None if somebody encoded it anew."""
    if end < _STAMP.size:
        return None
    magic, number = _STAMP.unpack_from(packet, end - _STAMP.size)
    return int(number) if magic == _MAGIC else None


def _with_room(packet: bytes) -> bytes:
    head = bytes([packet[0] & ~0x03 | _CODE_3, _ONE_PADDED_FRAME, _STAMP.size])
    return head + packet[1:] + _STAMP.pack(_MAGIC, 0)


class SpeechEdge:
    """Sees in packet sizes alone where a buzz begins: a variable-rate encoder spends little on silence."""

    _QUIET_BYTES = 150
    _LOUD_BYTES = 200
    _QUIET_PACKETS = 6

    def __init__(self) -> None:
        self._quiet = 0

    def begins(self, size: int) -> bool:
        """Take the size of the next packet; True for the first loud one after a silence."""
        if size <= self._QUIET_BYTES:
            self._quiet += 1
            return False
        if size < self._LOUD_BYTES:
            return False
        began = self._quiet >= self._QUIET_PACKETS
        self._quiet = 0
        return began
