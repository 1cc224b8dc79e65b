"""What the simulator saw, for tests and `/_state`: mints, calls, sessions. All of it bounded."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from typing import Any

from relay.simulator.session_object import SessionObject

MAX_REQUESTS = 1000
MAX_SESSIONS = 1000
MAX_EVENTS = 1000
MAX_EVENT_BYTES = 16384
_BREATH_SECONDS = 0.01

State = dict[str, Any]


@dataclass(slots=True)
class MintRecord:
    """One mint request as it arrived, and what became of it. Status 0: cut off, or never answered."""

    surface: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: Any = None
    status: int = 0
    key: str | None = None


@dataclass(slots=True)
class CallRecord:
    """One SDP exchange as it arrived, and what became of it. Status 0: cut off, or never answered."""

    surface: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    offer: str = ""
    answer: str | None = None
    status: int = 0
    call_id: str | None = None
    session_id: str | None = None
    hung_up: bool = False


@dataclass(slots=True)
class PacketCounts:
    """RTP alone, without RTCP; bytes are of the protected packets."""

    packets_received: int = 0
    bytes_received: int = 0
    packets_sent: int = 0
    bytes_sent: int = 0


@dataclass(slots=True)
class HeardSound:
    """What arrived on the audio track. Levels are dBFS of 20 ms frames."""

    frames: int = 0
    voiced_frames: int = 0
    last_dbfs: float = -120.0
    peak_dbfs: float = -120.0

    def add(self, dbfs: float, *, voiced: bool) -> None:
        """Count one frame."""
        self.frames += 1
        self.voiced_frames += voiced
        self.last_dbfs = round(dbfs, 1)
        self.peak_dbfs = max(self.peak_dbfs, self.last_dbfs)


class SessionState(StrEnum):
    """How far a session has come."""

    CONNECTING = "connecting"
    CONNECTED = "connected"
    OPEN = "open"
    """Connected, and the event channel is open."""
    CLOSED = "closed"


class SessionEnd(StrEnum):
    """Why a session closed."""

    PEER_LEFT = "peer_left"
    HUNG_UP = "hung_up"
    EXPIRED = "expired"
    CONNECT_FAILED = "connect_failed"
    CONNECT_TIMEOUT = "connect_timeout"
    SLOW_PEER = "slow_peer"
    SERVICE_CLOSED = "service_closed"


@dataclass(slots=True)
class SessionRecord:
    """One session. `client_events` as parsed, `server_events` by type, both the newest MAX_EVENTS."""

    id: str
    call_id: str
    surface: str
    session: SessionObject
    state: SessionState = SessionState.CONNECTING
    end: SessionEnd | None = None
    channel_label: str | None = None
    other_channels: int = 0
    binary_messages: int = 0
    client_events: deque[Any] = field(default_factory=lambda: deque(maxlen=MAX_EVENTS))
    server_events: deque[str] = field(default_factory=lambda: deque(maxlen=MAX_EVENTS))
    heard: HeardSound = field(default_factory=HeardSound)
    rtp: PacketCounts = field(default_factory=PacketCounts)

    def snapshot(self) -> dict[str, Any]:
        """Show the session as `/_state` does; `session` is the session object in force."""
        copied = {f.name: getattr(self, f.name) for f in fields(self)}
        return {
            **copied,
            "session": self.session.echo(),
            "client_events": list(self.client_events),
            "server_events": list(self.server_events),
            "heard": asdict(self.heard),
            "rtp": asdict(self.rtp),
        }

    def add_client_event(self, event: Any, size: int) -> None:
        """Keep the event as parsed; a huge one is kept as its type and size."""
        if size > MAX_EVENT_BYTES:
            kind = event.get("type") if isinstance(event, dict) else None
            event = {"type": kind, "not_kept_bytes": size}
        self.client_events.append(event)


class Record:
    """Requests seen, and a way to wait for the next change without polling a clock."""

    def __init__(self, snapshot: Callable[[], State]) -> None:
        self.mints: deque[MintRecord] = deque(maxlen=MAX_REQUESTS)
        self.calls: deque[CallRecord] = deque(maxlen=MAX_REQUESTS)
        self._snapshot = snapshot
        self._changed = asyncio.Event()

    def touch(self) -> None:
        """Something changed: whoever waits looks again."""
        self._changed.set()

    async def until(self, predicate: Callable[[State], Any], seconds: float) -> State:
        """Return the first state for which `predicate` is true.

        Raises TimeoutError, with the last state as its text, after `seconds`.
        """
        state = self._snapshot()
        try:
            async with asyncio.timeout(seconds):
                while not predicate(state):
                    self._changed.clear()
                    await self._changed.wait()
                    # Media touches the record 50 times a second: look once for many changes.
                    await asyncio.sleep(_BREATH_SECONDS)
                    state = self._snapshot()
        except TimeoutError:
            text = json.dumps(state, default=str)[:4000]
            raise TimeoutError(f"Not reached within {seconds:g} s. Last state: {text}") from None
        return state
