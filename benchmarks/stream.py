"""One direction of a call: what its source sends, what its sink gets, how long it takes; in one process or two."""

from __future__ import annotations

import mmap
import os
from array import array

from benchmarks.peer import Peer
from benchmarks.srtp import BUFFER
from benchmarks.voice import SpeechEdge, stamp_of, starts_speech

_EDGE_LIMIT_NS = 600_000_000
_PROVEN_EACH = 64
# The packets whose times are kept: 20 s of one stream.
_KEPT = 1_024
# What stands in a row, in 64 bit each: counts, whether times are taken and how many were, when speech began; then
# when each packet left, and how long those took that were timed. The source writes the one, the sink the other.
_SENT, _RECEIVED, _TIMED, _TAKEN, _SPEECH = range(5)
_LEFT = 8
_TOOK = _LEFT + _KEPT
_ROW = _TOOK + _KEPT


class Board:
    """Rows for streams in memory that another process may share, by its file descriptor."""

    def __init__(self, rows: int, descriptor: int | None = None) -> None:
        self.rows = rows
        size = 8 * _ROW * rows
        self.descriptor = os.memfd_create("streams") if descriptor is None else descriptor
        os.ftruncate(self.descriptor, size)
        self._cells = memoryview(mmap.mmap(self.descriptor, size)).cast("q")

    def row(self, number: int) -> memoryview:
        """The row of a stream."""
        return self._cells[number * _ROW : (number + 1) * _ROW]


def own_row() -> memoryview:
    """A row of a stream whose ends are both in this process."""
    return memoryview(array("q", bytes(8 * _ROW)))


class Stream:
    """What a source sends and a sink gets; times in nanoseconds. An end that is None is another process's.

    A packet on its way keeps its sequence number but for a constant. So one packet of each window, and one in 64 after
    it, is decrypted to see which it is, and all others are known by their number.
    """

    def __init__(self, source: Peer | None, sink: Peer | None, cycle: list[bytes], row: memoryview) -> None:
        self.source = source
        self._sink = sink
        self._cycle = cycle
        self._row = row
        self._offset: int | None = None
        self._edge = SpeechEdge()

    @property
    def sent(self) -> int:
        """Packets that left."""
        return int(self._row[_SENT])

    @property
    def received(self) -> int:
        """Packets that arrived."""
        return int(self._row[_RECEIVED])

    def time(self, *, on: bool) -> None:
        """Take the times of what arrives from now on, or stop it."""
        self._row[_TIMED] = on

    def take_times(self) -> array[int]:
        """The times taken since the last call, of the last 20 s at most."""
        many = min(self._row[_TAKEN], _KEPT)
        self._row[_TAKEN] = 0
        return array("q", self._row[_TOOK : _TOOK + many].tolist())

    def clear(self) -> None:
        """Begin anew; the row had another stream before."""
        self._row[:_LEFT] = memoryview(array("q", bytes(8 * _LEFT)))

    def send(self) -> None:
        """Send the next packet."""
        row, source = self._row, self.source
        if source is None:
            raise ConnectionError("another process sends on this stream")
        number = row[_SENT]
        source.send_audio(self._cycle[number % len(self._cycle)], number, self._leaves)
        row[_SENT] = number + 1

    def _leaves(self, at_ns: int) -> None:
        """Before the packet is sent: on one core its sink may read it before `send` is back."""
        row = self._row
        number = row[_SENT]
        row[_LEFT + number % _KEPT] = at_ns
        if starts_speech(number):
            row[_SPEECH] = at_ns

    def resume(self) -> None:
        """Listen from now on, and prove the next packet: talk begins after a pause."""
        self._offset = None
        if self._sink is not None:
            self._sink.on_rtp = self._on_rtp

    def _on_rtp(self, size: int, arrival_ns: int) -> None:
        sequence = BUFFER[2] << 8 | BUFFER[3]
        offset = self._offset
        if offset is None or not sequence % _PROVEN_EACH:
            offset = self._prove(size, sequence, arrival_ns)
            if offset is None:
                return
        row = self._row
        row[_RECEIVED] += 1
        if row[_TIMED]:
            self._note(arrival_ns - row[_LEFT + (sequence - offset) % _KEPT])

    def _note(self, taken: int) -> None:
        row = self._row
        row[_TOOK + row[_TAKEN] % _KEPT] = taken
        row[_TAKEN] += 1

    def _prove(self, size: int, sequence: int, arrival_ns: int) -> int | None:
        """See which packet this is; None if it must be timed otherwise, or is none of ours."""
        plain = self._sink.decrypt(size) if self._sink is not None else 0
        if not plain:
            return None
        number = stamp_of(BUFFER, plain)
        if number is not None:
            self._offset = (sequence - number) & 0xFFFF
            return self._offset
        self._offset = None
        self._row[_RECEIVED] += 1
        taken = arrival_ns - self._row[_SPEECH]
        if self._edge.begins(plain) and self._row[_TIMED] and taken < _EDGE_LIMIT_NS:
            self._note(taken)
        return None
