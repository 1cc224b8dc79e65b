"""The sound of one session watched from beside its way: looked at once a second, and single packets timed.

A packet is timed by standing in for `forward` once: the others pay nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from relay.core.lifecycle import LegCounters, LegName, MediaSample
from relay.core.turn_facts import AnswerBegan
from relay.rtc.arrival import seconds_since_arrival
from relay.rtc.leg import Leg

_TICKS_PER_SAMPLE = 10
# What is longer was measured by a clock that was set, or is no answer to the speech before.
_LONGEST_FORWARD_SECONDS = 10.0
_LONGEST_ANSWER_SECONDS = 60.0


class MediaWatch:
    """Watches both legs. `tell` takes the facts."""

    def __init__(self, tell: Callable[[MediaSample | AnswerBegan], None]) -> None:
        self._tell = tell
        self._windows: dict[LegName, _Window] = {}
        self._ticks = 0
        self._speech_stopped: float | None = None

    def tick(self, legs: Mapping[LegName, Leg], *, flowing: bool) -> None:
        """Once a second; `flowing` while what comes in on one leg goes out on the other."""
        self._ticks += 1
        windows = [(self._window(leg), leg) for leg in legs.values()]
        came = [window.second() for window, _ in windows]
        for (window, leg), number in zip(windows, came, strict=True):
            if leg.waiting_bytes:
                leg.backpressure_seconds += 1
            if flowing and not number and any(came):
                leg.one_way_seconds += 1
            if window.stamped(leg.fileno()) and flowing:
                self._time_next(window)
        if self._ticks % _TICKS_PER_SAMPLE == 0:
            self.finish()

    def answer_begins(self, upstream: Leg, speech_stopped: float) -> None:
        """Time the service's next packet, the first of an answer to speech that stopped then, in Unix seconds."""
        self._speech_stopped = speech_stopped
        self._time_next(self._window(upstream))

    def finish(self) -> None:
        """Tell what there is until now."""
        for window in self._windows.values():
            self._say(window)

    def _window(self, leg: Leg) -> _Window:
        window = self._windows.get(leg.name)
        if window is None or window.leg is not leg:
            if window is not None:
                self._say(window)
            window = self._windows[leg.name] = _Window(leg)
        return window

    def _say(self, window: _Window) -> None:
        sample = window.take()
        if sample is not None:
            self._tell(sample)

    def _time_next(self, window: _Window) -> None:
        stream = window.leg.stream
        # Otherwise no packet came since the last time.
        if not isinstance(stream.forward, _Timer):
            stream.forward = _Timer(window, stream.forward, self._answered)

    def _answered(self) -> None:
        since, self._speech_stopped = self._speech_stopped, None
        if since is not None and 0 <= (seconds := time.time() - since) <= _LONGEST_ANSWER_SECONDS:
            self._tell(AnswerBegan(seconds))


class _Timer:
    """Stands in for `forward` until it has sent one packet on."""

    def __init__(self, window: _Window, forward: Callable[[int], None], answered: Callable[[], None]) -> None:
        self._window = window
        self._forward = forward
        self._answered = answered

    def __call__(self, size: int) -> None:
        leg = self._window.leg
        leg.stream.forward = self._forward
        self._forward(size)
        self._window.timed(leg.fileno())
        if leg.name is LegName.UPSTREAM:
            self._answered()


class _Window:
    """One leg since it was told of last."""

    def __init__(self, leg: Leg) -> None:
        self.leg = leg
        self._before = LegCounters()
        self._reported: tuple[int, int] | None = None
        self._packets = 0
        # The socket that was asked to stamp what comes in: what came before reads as if it had come just now.
        self._stamped: int | None = None
        self._forwarded: list[float] = []

    def second(self) -> int:
        """How many packets came in since the last call."""
        before, self._packets = self._packets, self.leg.stream.packets_in
        return self._packets - before

    def stamped(self, fileno: int | None) -> bool:
        """Whether what comes in on this socket is stamped; if it is not yet, it will be."""
        if fileno is not None and fileno != self._stamped:
            seconds_since_arrival(fileno)
            self._stamped = fileno
            return False
        return fileno is not None

    def timed(self, fileno: int | None) -> None:
        """A packet that came in on this socket has just been sent on."""
        seconds = seconds_since_arrival(fileno) if fileno is not None and fileno == self._stamped else None
        if seconds is not None and 0 <= seconds <= _LONGEST_FORWARD_SECONDS:
            self._forwarded.append(seconds)

    def take(self) -> MediaSample | None:
        """What is known of the time since the last call; None where nothing is."""
        now, reported = self.leg.stream.snapshot(), self.leg.stream.remote_report
        came = now.packets_in - self._before.packets_in
        fresh = reported is not None and (self._reported is None or reported[1] != self._reported[1])
        sample = MediaSample(
            self.leg.name,
            loss_in=_share(now.packets_lost - self._before.packets_lost, came),
            # A first report tells of no more than the time since the one before it.
            loss_out=_between(self._reported, reported, now.remote_loss) if fresh else None,
            jitter_seconds=now.jitter_seconds if came else None,
            rtt_seconds=now.rtt_seconds if fresh else None,
            forward_seconds=tuple(self._forwarded),
        )
        self._before, self._reported, self._forwarded = now, reported or self._reported, []
        return None if sample == MediaSample(self.leg.name) else sample


def _share(lost: int, came: int) -> float | None:
    """The share lost of what was sent; packets that came late take back an earlier loss."""
    return max(0, lost) / (max(0, lost) + came) if came else None


def _between(before: tuple[int, int] | None, now: tuple[int, int] | None, first: float | None) -> float | None:
    """The share that the peer lost between two of its reports, each the packets lost and the highest number seen."""
    if before is None or now is None:
        return first
    expected = (now[1] - before[1]) & 0xFFFFFFFF
    # Otherwise the peer began to count anew.
    return min(1.0, max(0, now[0] - before[0]) / expected) if expected < 0x80000000 else None  # noqa: PLR2004
