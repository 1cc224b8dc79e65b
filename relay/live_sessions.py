"""The sessions that run: found, looked at, reached all at once, ended."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Iterable

from relay.conversation import Conversation
from relay.core.lifecycle import SessionCounters
from relay.core.live_session import LiveSession
from relay.core.policy_impact import GovernedSession
from relay.core.policy_rules import OnSinkFailure
from relay.core.timeline import Timeline
from relay.errors import EndReason
from relay.policies import Policies
from relay.telemetry import Telemetry

# Of a list; looking at each costs the event loop about 10 microseconds.
MOST_SHOWN = 1_000


class LiveSessions:
    """The conversations of one process; the registry adds them, and each is forgotten when its task is done."""

    def __init__(self, telemetry: Telemetry, on_end: Callable[[str], None]) -> None:
        self._telemetry = telemetry
        self._on_end = on_end
        self._running: dict[str, tuple[Conversation, asyncio.Task[None]]] = {}

    def __len__(self) -> int:
        return len(self._running)

    @property
    def conversations(self) -> Iterable[Conversation]:
        """All that run now."""
        return [conversation for conversation, _ in self._running.values()]

    @property
    def tasks(self) -> set[asyncio.Task[None]]:
        """Each is done when its session is over and recorded."""
        return {task for _, task in self._running.values()}

    def add(self, conversation: Conversation, task: asyncio.Task[None]) -> None:
        """Keep a conversation until its task is done."""
        self._running[conversation.session_id] = (conversation, task)
        task.add_done_callback(lambda done: self._forget(conversation.session_id, done))

    def of(self, session_id: str, owner: str) -> Conversation | None:
        """The owner's session; None if this owner has no such session."""
        found = self._running.get(session_id)
        return None if found is None or not secrets.compare_digest(found[0].owner, owner) else found[0]

    def counters(self) -> dict[str, SessionCounters]:
        """What every session counted until now, by session id."""
        return {session_id: conversation.counters() for session_id, (conversation, _) in self._running.items()}

    def views(self, tenant: str | None = None, most: int = MOST_SHOWN) -> tuple[list[LiveSession], int]:
        """What is known now of the newest `most`, the oldest first, of one tenant or of all; and how many there are."""
        found = list(self.conversations) if tenant is None else self._of_tenant(tenant)
        return [each.view() for each in found[max(0, len(found) - most) :]], len(found)

    def find(self, session_id: str) -> tuple[LiveSession, Timeline] | None:
        """What is known of one session, and what happened in it."""
        found = self._running.get(session_id)
        return None if found is None else (found[0].view(), found[0].diary.timeline)

    def end(self, session_id: str, reason: EndReason, detail: str = "") -> bool:
        """End a session; whether it runs."""
        found = self._running.get(session_id)
        if found is None:
            return False
        found[0].end(reason, detail)
        return True

    def end_tenant(self, tenant: str, reason: EndReason, detail: str = "") -> int:
        """End every session of a tenant; how many there are."""
        found = self._of_tenant(tenant)
        for conversation in found:
            conversation.end(reason, detail)
        return len(found)

    def take_policies(self, policies: Policies) -> None:
        """Other policies are in force, or the kill switch was moved: each takes what acts on it at once."""
        for conversation in self.conversations:
            try:
                conversation.take_policies(policies)
            except Exception as error:  # noqa: BLE001 - one session's fault must not keep the kill switch from others
                session_id = conversation.session_id
                self._telemetry.warn("policy_not_taken", session_id=session_id, error=type(error).__name__)
                conversation.end(EndReason.RELAY_FAILED, "the changed policies could not be applied")

    def _of_tenant(self, tenant: str) -> list[Conversation]:
        return [each for each in self.conversations if each.diary.request.identity.tenant == tenant]

    def _forget(self, session_id: str, done: asyncio.Task[None]) -> None:
        del self._running[session_id]
        if not done.cancelled() and (error := done.exception()) is not None:
            self._telemetry.warn("session_failed", session_id=session_id, error=type(error).__name__)
        self._on_end(session_id)


def governed(live: LiveSessions) -> list[GovernedSession]:
    """For whom the sessions run that have a client, and under which policies."""
    found = [(each.session_id, each.diary.request, each.policy) for each in live.conversations]
    # One that waits for its first client would be begun anew.
    return [
        GovernedSession(session_id, request.identity, request.model_asked, policy)
        for session_id, request, policy in found
        if request.offer is not None
    ]


def end_unrecorded(live: LiveSessions) -> None:
    """The decision log cannot be written: end the sessions whose policy allows nothing unrecorded."""
    for conversation in live.conversations:
        if conversation.policy.on_sink_failure is OnSinkFailure.FAIL_CLOSED:
            conversation.end(EndReason.POLICY_UNRECORDED)
