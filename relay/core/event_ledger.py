"""What the relay sent to the service and has no answer to: whose event it was, and whose session update comes next."""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass
from enum import Enum, auto

_MOST_SENT = 1024
_MOST_UPDATES = 64


class Asker(Enum):
    """On whose behalf a `session.update` is due an answer."""

    POLICY = auto()
    CLIENT = auto()
    LOCAL = auto()  # nothing was sent: the relay answers when its turn comes


@dataclass(frozen=True, slots=True)
class Sent:
    """A client event that went to the service under an id of ours."""

    event_type: str
    client_event_id: str | None
    call_id: str | None
    out_of_band: bool


class EventLedger:
    """Correlates the service's answers: errors by id, `session.updated` by order, which is all the protocol offers."""

    def __init__(self) -> None:
        self._sent: OrderedDict[str, Sent] = OrderedDict()
        self._updates: deque[tuple[Asker, str | None]] = deque()

    @property
    def updates_full(self) -> bool:
        """Whether no further `session.update` may wait for its answer."""
        return len(self._updates) >= _MOST_UPDATES

    @property
    def updates_due(self) -> bool:
        """Whether an answer to some `session.update` is still to come."""
        return bool(self._updates)

    def sent(self, event_id: str, sent: Sent) -> None:
        """A client's event went up under our `event_id`; the oldest of many is forgotten."""
        self._sent[event_id] = sent
        if len(self._sent) > _MOST_SENT:
            self._sent.popitem(last=False)

    def expect_update(self, asker: Asker, event_id: str | None = None) -> None:
        """An answer to a `session.update` is due after those that are due already."""
        self._updates.append((asker, event_id))

    def update_answered(self) -> Asker | None:
        """A `session.updated` came: whose it is. None when nobody asked."""
        return self._updates.popleft()[0] if self._updates else None

    def local_answers(self) -> int:
        """How many answers of our own are now first in the line; they are taken out of it."""
        count = 0
        while self._updates and self._updates[0][0] is Asker.LOCAL:
            self._updates.popleft()
            count += 1
        return count

    def refused(self, event_id: str | None, *, about_session: bool) -> tuple[Asker | None, Sent | None]:
        """An `error` came: the asker if a `session.update` was refused, and the client's event if it is one.

        An error about the session that names no event is taken to answer the oldest update.
        """
        if event_id is None:
            asker = self.update_answered() if about_session else None
            return asker, None
        sent = self._sent.pop(event_id, None)
        for entry in self._updates:
            if entry[1] == event_id:
                self._updates.remove(entry)
                return entry[0], sent
        return None, sent
