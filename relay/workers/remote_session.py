"""A session in a worker, as the main process sees it."""

from __future__ import annotations

from collections.abc import Callable

from relay.core.lifecycle import Command, Ended, Ending, Fact, Negotiated, SessionCounters
from relay.errors import EndReason
from relay.workers.codec import CodecError
from relay.workers.messages import Order, Tell


class RemoteSession:
    """Commands go to the worker, facts come from it; implements `relay.conversation.RunningSession`.

    Whatever the worker does, `emit` is told each fact that comes once at most once, and ends with `Ending` and `Ended`.
    """

    def __init__(self, session_id: str, emit: Callable[[Fact], None], send: Callable[[Order], None]) -> None:
        self.session_id = session_id
        self.over = False
        self._emit = emit
        self._send = send
        self._counters = SessionCounters()
        self._negotiated = False
        self._ending: EndReason | None = None

    def command(self, command: Command) -> None:
        """Pass a command on; one that comes too late is of no effect."""
        if not self.over:
            self._send(Tell(self.session_id, command))

    def counters(self) -> SessionCounters:
        """What was counted when the worker was last asked."""
        return self._counters

    def counted(self, counters: SessionCounters) -> None:
        """Keep what the worker says was counted."""
        self._counters = counters

    def take(self, fact: Fact) -> None:
        """Pass a fact on. Raises CodecError for one that a session cannot tell now."""
        match fact:
            case Negotiated() if self._negotiated:
                raise CodecError("a session negotiated twice")
            case Ending() if self._ending is not None:
                raise CodecError("a session ended twice")
            case Ended() if self._ending is None:
                raise CodecError("a session was over before it ended")
            case Negotiated():
                self._negotiated = True
            case Ending(reason):
                self._ending = reason
            case Ended(_, _, counters):
                self.over = True
                self._counters = counters
        self._emit(fact)

    def lose(self, why: str) -> None:
        """The worker is gone: tell what it can tell no more."""
        if self.over:
            return
        self.over = True
        if self._ending is None:
            self._ending = EndReason.WORKER_LOST
            self._emit(Ending(self._ending))
        self._emit(Ended(self._ending, why, self._counters))
