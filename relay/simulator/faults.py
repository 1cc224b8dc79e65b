"""Faults on demand: what goes wrong, for how many requests, and in which sessions."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from enum import Enum
from typing import Any, Self

MAX_SECONDS = 3600.0
MAX_EVENT_BYTES = 64 * 1024 * 1024


class HttpFault(Enum):
    """How a mint or a call is refused or spoilt."""

    UNAUTHORIZED = "401"
    FORBIDDEN = "403"
    NOT_FOUND = "404"
    RATE_LIMITED = "429"
    SERVER_ERROR = "500"
    UNAVAILABLE = "503"
    CONTENT_FILTER = "content_filter"
    TIMEOUT = "timeout"
    DROP = "drop"
    GARBAGE = "garbage"


class NeverOpens(Enum):
    """The stage at which set-up stalls for ever."""

    ICE = "ice"
    DTLS = "dtls"
    CHANNEL = "channel"


class FaultError(ValueError):
    """A fault request that was not understood; the message names the field."""


@dataclass(frozen=True, slots=True)
class SessionFaults:
    """What goes wrong inside a session.

    Seconds count from the opening of its channel, or from now when set on running sessions. The odd events come
    straight after `session.created`; `error_event` is the `error` object of one, `oversized_event` a size in bytes.
    A vanished peer sends nothing more, not even a close_notify, and hears nothing.
    """

    no_session_created: bool = False
    wrong_instructions: str | None = None
    media_stops_after: float | None = None
    channel_closes_after: float | None = None
    peer_vanishes_after: float | None = None
    never_opens: NeverOpens | None = None
    no_opus: bool = False
    oversized_event: int | None = None
    binary_event: bool = False
    not_json_event: bool = False
    unknown_event: bool = False
    error_event: dict[str, Any] | None = None


@dataclass(slots=True)
class Faults:
    """The faults now set. `mint_left` and `call_left` count down; None means until reset."""

    mint: HttpFault | None = None
    mint_delay_ms: float = 0.0
    mint_left: int | None = None
    call: HttpFault | None = None
    call_delay_ms: float = 0.0
    call_left: int | None = None
    session: SessionFaults = field(default_factory=SessionFaults)

    def take_mint(self) -> tuple[HttpFault | None, float]:
        """Use up one mint's worth: the fault and delay (ms) of the next mint."""
        if self.mint_left is None:
            return self.mint, self.mint_delay_ms
        if self.mint_left == 0:
            return None, 0.0
        self.mint_left -= 1
        return self.mint, self.mint_delay_ms

    def take_call(self) -> tuple[HttpFault | None, float, SessionFaults]:
        """Use up one call's worth: the fault, delay (ms) and session faults of the next call."""
        if self.call_left is None:
            return self.call, self.call_delay_ms, self.session
        if self.call_left == 0:
            return None, 0.0, SessionFaults()
        self.call_left -= 1
        return self.call, self.call_delay_ms, self.session


@dataclass(frozen=True, slots=True)
class FaultRequest:
    """A parsed `/_fault` body: the faults to set from now on, and whether running sessions get them too."""

    faults: Faults
    live: bool

    @classmethod
    def parse(cls, body: object, current: Faults) -> Self:
        """Read a JSON object; keys not given keep their value unless `reset` is true.

        Raises FaultError on an unknown key or a value of the wrong kind.
        """
        if not isinstance(body, dict):
            raise FaultError("A fault is a JSON object.")
        rest = dict(body)
        live = _boolean("live", rest.pop("live", False))
        base = Faults() if _boolean("reset", rest.pop("reset", False)) else current
        count = _count(rest.pop("count")) if "count" in rest else None
        set_counts = bool(body.keys() & {"count", "reset"})
        session_now = {f.name: getattr(base.session, f.name) for f in fields(SessionFaults)}
        http_now: dict[str, Any] = {name: getattr(base, name) for name in _HTTP_READERS}
        for name, value in rest.items():
            if name in _HTTP_READERS:
                http_now[name] = None if value is None else _HTTP_READERS[name](name, value)
            elif name in _SESSION_READERS:
                session_now[name] = _EMPTY[name] if value is None else _SESSION_READERS[name](name, value)
            else:
                known = sorted([*_HTTP_READERS, *_SESSION_READERS, "count", "live", "reset"])
                raise FaultError(f"Unknown fault '{name}'. Known: {', '.join(known)}.")
        faults = Faults(
            mint=http_now["mint"],
            mint_delay_ms=http_now["mint_delay_ms"] or 0.0,
            mint_left=count if set_counts else base.mint_left,
            call=http_now["call"],
            call_delay_ms=http_now["call_delay_ms"] or 0.0,
            call_left=count if set_counts else base.call_left,
            session=SessionFaults(**session_now),
        )
        return cls(faults=faults, live=live)


def _boolean(name: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise FaultError(f"'{name}' is true or false.")
    return value


def _count(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise FaultError("'count' is a whole number of requests, 1 or more.")
    return value


def _number(name: str, value: object, highest: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= highest:
        raise FaultError(f"'{name}' is a number from 0 to {highest:g}.")
    return float(value)


def _seconds(name: str, value: object) -> float:
    return _number(name, value, MAX_SECONDS)


def _milliseconds(name: str, value: object) -> float:
    return _number(name, value, MAX_SECONDS * 1000)


def _bytes(name: str, value: object) -> int:
    return int(_number(name, value, MAX_EVENT_BYTES))


def _text(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise FaultError(f"'{name}' is a string.")
    return value


def _object(name: str, value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise FaultError(f"'{name}' is a JSON object.")
    return value


def _http_fault(name: str, value: object) -> HttpFault:
    try:
        return HttpFault(str(value))
    except ValueError:
        raise FaultError(f"'{name}' is one of {', '.join(f.value for f in HttpFault)}.") from None


def _stage(name: str, value: object) -> NeverOpens:
    try:
        return NeverOpens(value)
    except ValueError:
        raise FaultError(f"'{name}' is one of {', '.join(s.value for s in NeverOpens)}.") from None


_HTTP_READERS = {
    "mint": _http_fault,
    "mint_delay_ms": _milliseconds,
    "call": _http_fault,
    "call_delay_ms": _milliseconds,
}
_SESSION_READERS = {
    "no_session_created": _boolean,
    "wrong_instructions": _text,
    "media_stops_after": _seconds,
    "channel_closes_after": _seconds,
    "peer_vanishes_after": _seconds,
    "never_opens": _stage,
    "no_opus": _boolean,
    "oversized_event": _bytes,
    "binary_event": _boolean,
    "not_json_event": _boolean,
    "unknown_event": _boolean,
    "error_event": _object,
}
_EMPTY = {f.name: f.default for f in fields(SessionFaults)}
