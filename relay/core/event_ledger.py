"""What the relay sent to the service and has no answer to: whose event it was, and whose session update comes next."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from typing import Any

_MOST_SENT = 1024
MOST_UPDATES = 64


class Asker(Enum):
    """On whose behalf a `session.update` is due an answer."""

    POLICY = auto()
    MEND = auto()  # of the policy's too, but nothing depends on its answer
    PART = auto()  # sent by the relay for a client's update, of which another part follows
    CLIENT = auto()
    LOCAL = auto()  # nothing was sent: the relay answers when its turn comes
    GONE = auto()  # a peer of the client's that is there no more


@dataclass(frozen=True, slots=True)
class Brought:
    """What of instructions and tools is the client's: its text (None: it gave none) and its functions."""

    text: str | None = field(default=None, repr=False)
    functions: tuple[dict[str, Any], ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class Update:
    """A `session.update` that waits for its answer.

    `session` is what it holds, GA shape without `type`; `brought` the client's share of it. `parts` tells that others
    were sent before it for the same event of the client, `again` that it was sent because another one was refused.
    """

    asker: Asker
    event_id: str | None = None
    session: Mapping[str, Any] = field(default_factory=dict, repr=False)
    brought: Brought = field(default_factory=Brought)
    parts: bool = False
    again: bool = False


@dataclass(frozen=True, slots=True)
class Sent:
    """An event that went to the service under an id of ours: a client's, `gone` or not, or the relay's `own`."""

    event_type: str
    client_event_id: str | None = None
    call_id: str | None = None
    out_of_band: bool = False
    own: bool = False
    gone: bool = False


class EventLedger:
    """Correlates the service's answers: errors by id, `session.updated` by order, which is all the protocol offers."""

    def __init__(self) -> None:
        self._sent: OrderedDict[str, Sent] = OrderedDict()
        self._updates: deque[Update] = deque()

    @property
    def updates_due(self) -> int:
        """How many `session.update` wait for their answers; a client's may while these are fewer than MOST_UPDATES."""
        return len(self._updates)

    def due(self, *askers: Asker) -> bool:
        """Whether an answer to an update of one of these is still to come."""
        return bool(self._updates) and any(update.asker in askers for update in self._updates)

    def disown(self) -> None:
        """The client that asked is there no more: no answer is for the one that came in its place."""
        for event_id, sent in self._sent.items():
            if not sent.own:
                self._sent[event_id] = replace(sent, gone=True)
        waiting = (update for update in self._updates if update.asker is not Asker.LOCAL)
        self._updates = deque(
            replace(update, asker=Asker.GONE) if update.asker is Asker.CLIENT else update for update in waiting
        )

    def pending(self) -> tuple[Mapping[str, Any], ...]:
        """What the updates hold whose answers are still to come, in order."""
        return tuple(update.session for update in self._updates if update.session)

    def changes_pending(self, name: str) -> bool:
        """Whether an update that holds this member is not answered yet."""
        return any(name in update.session for update in self._updates)

    def sent(self, event_id: str, sent: Sent) -> None:
        """An event went up under our `event_id`; the oldest of many is forgotten."""
        self._sent[event_id] = sent
        if len(self._sent) > _MOST_SENT:
            self._sent.popitem(last=False)

    def expect(self, update: Update) -> None:
        """An answer to a `session.update` is due after those that are due already."""
        self._updates.append(update)

    def update_answered(self) -> Update | None:
        """A `session.updated` came: which one it answers. None when nobody asked the service."""
        for update in self._updates:
            if update.asker is not Asker.LOCAL:
                self._updates.remove(update)
                return update
        return None

    def local_answers(self) -> int:
        """How many answers of our own are now first in the line; they are taken out of it."""
        count = 0
        while self._updates and self._updates[0].asker is Asker.LOCAL:
            self._updates.popleft()
            count += 1
        return count

    def refused(self, event_id: str | None, *, about_session: bool) -> tuple[Update | None, Sent | None]:
        """An `error` came: the `session.update` that is refused by it, and the event, if it answers one of them.

        An error about the session that names no event is taken to answer the oldest update.
        """
        if event_id is None:
            return (self.update_answered() if about_session else None), None
        sent = self._sent.pop(event_id, None)
        for update in self._updates:
            if update.event_id == event_id:
                self._updates.remove(update)
                return update, sent
        return None, sent
