"""The receiving half of an SCTP association: what came, what it makes whole, what is acknowledged, and when.

Messages are handed on in the order of their TSNs. A sender numbers chunks as it sends them, so this is the order of
every stream too, and all fragments of a message follow one another (RFC 9260 section 6.9): one message at most is
incomplete at any time, and streams need no state of their own. An unordered message may wait for what is missing
before it, which its sender cannot object to.
"""

from __future__ import annotations

from typing import NamedTuple

from relay.core.sctp_packet import (
    BEGINS,
    ENDS,
    MOST_DUPLICATES,
    MOST_GAPS,
    SACK_NOW,
    TSNS,
    WHOLE,
    Data,
    PeerBrokeRuleError,
    Sack,
    follows,
)

# Bytes kept that came before others that are missing. The message that is being put together is not counted: a window
# shut by a message that needs it open to become whole would never open again.
WINDOW = 1 << 20
# Chunks kept that came before one that is missing; more than these are not acknowledged, and come again. Enough for
# the largest message of a browser; every packet is answered with a list of them, which a flood makes us sort.
_MOST_EARLY = 256
_LARGEST_OFFSET = 0xFFFF
# RFC 9260 section 6.2: a SACK for every second packet, and none later than this.
SACK_SECONDS = 0.2


class Message(NamedTuple):
    """A whole message: its stream, its payload protocol (RFC 8831 section 8), its bytes."""

    stream: int
    protocol: int
    payload: bytes


class MessageTooLargeError(Exception):
    """The peer sends a message above every limit."""


class Inbox:
    """Takes DATA chunks; a message above `largest_message` bytes is a MessageTooLargeError before it is kept."""

    __slots__ = (
        "_behind",
        "_duplicates",
        "_early",
        "_early_bytes",
        "_largest_message",
        "_partial",
        "_partial_of",
        "_sack_now",
        "_unacknowledged",
        "cumulative",
        "has_received",
    )

    def __init__(self, largest_message: int) -> None:
        # The last TSN up to which nothing is missing; None before the peer's INIT.
        self.cumulative: int | None = None
        self.has_received = False
        self._largest_message = largest_message
        self._early: dict[int, Data] = {}
        self._early_bytes = 0
        self._partial = bytearray()
        self._partial_of: tuple[int, int] | None = None
        self._duplicates: list[int] = []
        self._unacknowledged = 0
        self._behind = self._sack_now = False

    @property
    def held_bytes(self) -> int:
        """Bytes of what is not whole yet, or came early."""
        return self._early_bytes + len(self._partial)

    def begin(self, initial_tsn: int) -> None:
        """Expect this TSN first."""
        self.cumulative = (initial_tsn - 1) % TSNS

    def take(self, chunk: Data) -> list[Message]:
        """Take one chunk; the messages that are whole now. Raises PeerBrokeRuleError, MessageTooLargeError."""
        cumulative = self.cumulative
        if cumulative is None:
            return []
        if not chunk.payload:
            raise PeerBrokeRuleError("DATA without data")  # RFC 9260 section 6.2
        self._behind = self.has_received = True
        if chunk.flags & SACK_NOW:
            self._sack_now = True
        offset = (chunk.tsn - cumulative) % TSNS
        if offset != 1:
            self._keep_early(chunk, offset)
            return []
        self.cumulative = chunk.tsn
        if chunk.flags & WHOLE == WHOLE and self._partial_of is None:
            messages = [Message(chunk.stream, chunk.protocol, chunk.payload)]
        else:
            messages = self._join(chunk)
        return messages + self._release() if self._early else messages

    def packet_done(self) -> bool:
        """Hear that all chunks of a packet were taken; whether a SACK must go now (RFC 9260 sections 6.2 and 6.7)."""
        if self._behind:
            self._behind = False
            self._unacknowledged += 1
        return self._unacknowledged > 1 or (self._unacknowledged > 0 and self._sack_now)

    @property
    def owes_sack(self) -> bool:
        """Whether anything is not acknowledged yet."""
        return self._unacknowledged > 0

    def sack(self) -> tuple[Sack, list[int]]:
        """What to acknowledge now, and which TSNs came twice; nothing is owed after that."""
        duplicates, self._duplicates = self._duplicates, []
        self._unacknowledged = 0
        # While something is missing, every packet is answered.
        self._sack_now = bool(self._early)
        window = max(0, WINDOW - self._early_bytes)
        return Sack(self.cumulative or 0, window, self._gaps() if self._early else ()), duplicates

    def _keep_early(self, chunk: Data, offset: int) -> None:
        self._sack_now = True
        cumulative = self.cumulative or 0
        if not follows(chunk.tsn, cumulative) or chunk.tsn in self._early:
            if len(self._duplicates) < MOST_DUPLICATES:
                self._duplicates.append(chunk.tsn)
        elif offset <= _LARGEST_OFFSET and len(self._early) < _MOST_EARLY and self._early_bytes < WINDOW:
            self._early[chunk.tsn] = chunk
            self._early_bytes += len(chunk.payload)

    def _release(self) -> list[Message]:
        """The messages of what came early and is next now."""
        self._sack_now = True
        messages = []
        cumulative = self.cumulative or 0
        while (chunk := self._early.pop((cumulative + 1) % TSNS, None)) is not None:
            self.cumulative = cumulative = chunk.tsn
            self._early_bytes -= len(chunk.payload)
            messages += self._join(chunk)
        return messages

    def _join(self, chunk: Data) -> list[Message]:
        """Append a fragment that is next to its message."""
        begins = bool(chunk.flags & BEGINS)
        if begins is not (self._partial_of is None):
            raise PeerBrokeRuleError("a message begins within another" if begins else "fragment without a beginning")
        if begins:
            self._partial_of = (chunk.stream, chunk.protocol)
        elif self._partial_of is None or self._partial_of[0] != chunk.stream:
            raise PeerBrokeRuleError("fragment of another stream")
        if len(self._partial) + len(chunk.payload) > self._largest_message:
            raise MessageTooLargeError("message above the announced limit")
        self._partial += chunk.payload
        if not chunk.flags & ENDS or self._partial_of is None:
            return []
        message = Message(*self._partial_of, bytes(self._partial))
        self._partial = bytearray()
        self._partial_of = None
        return [message]

    def _gaps(self) -> tuple[tuple[int, int], ...]:
        cumulative = self.cumulative or 0
        gaps: list[tuple[int, int]] = []
        first = last = 0
        for offset in sorted((tsn - cumulative) % TSNS for tsn in self._early):
            if offset != last + 1 or not first:
                if first:
                    gaps.append((first, last))
                    if len(gaps) == MOST_GAPS:
                        return tuple(gaps)
                first = offset
            last = offset
        return (*gaps, (first, last))
