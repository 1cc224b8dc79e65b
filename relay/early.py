"""Sessions that began when their key was minted, and wait for the client: found by the key, bounded, and given up.

What waits here is an ordinary session without its client. It serves that client only if the session that would be
opened now is, in all that the service was told, the one that was begun; otherwise it is ended and a new one is opened.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from relay.conversation import Conversation
from relay.core.doors import EarlyOutcome, OpenRequest
from relay.core.policy import EffectivePolicy
from relay.errors import ApiError, EndReason
from relay.policies import Policies
from relay.telemetry.sessions import SessionTelemetry

# However long the key lives: nothing is known to keep an idle call for longer at the service.
MOST_SECONDS = 300.0
# For how long a refusal of the service is the answer to an offer that comes after it.
REFUSAL_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class _Waiting:
    conversation: Conversation
    request: OpenRequest
    expiry: asyncio.TimerHandle


class EarlySessions:
    """At most `most` sessions wait, half of them (at least one) for keys of the same owner; more are not begun."""

    def __init__(self, telemetry: SessionTelemetry, most: int) -> None:
        self._telemetry = telemetry
        self._most = most
        self._waiting: dict[str, _Waiting] = {}
        self._refused: dict[str, ApiError] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def has_room(self, owner: str, coming: int = 0) -> bool:
        """Whether another session may begin for a key of this owner, so many being about to."""
        of_owner = sum(each.request.owner == owner for each in self._waiting.values())
        return len(self._waiting) + coming < self._most and of_owner < max(1, self._most // 2)

    def turned_away(self) -> None:
        """A key was minted for which there was no room."""
        self._telemetry.early(EarlyOutcome.FULL)

    def keep(self, key_id: str, request: OpenRequest, conversation: Conversation, seconds: float) -> None:
        """Keep a session that was begun for a key which lives so long."""
        loop = asyncio.get_running_loop()
        expiry = loop.call_later(min(seconds, MOST_SECONDS), self._end, key_id, EarlyOutcome.EXPIRED)
        self._waiting[key_id] = _Waiting(conversation, request, expiry)
        conversation.opened.add_done_callback(lambda _: self._on_over(key_id))
        self._telemetry.early(EarlyOutcome.STARTED, conversation.session_id)

    def holds(self, key_id: str | None) -> bool:
        """Whether a session waits for this key."""
        return key_id in self._waiting

    def session_of(self, key_id: str | None) -> str | None:
        """The id of the session that waits for this key."""
        found = self._waiting.get(key_id or "")
        return None if found is None else found.conversation.session_id

    def take(self, request: OpenRequest, policy: EffectivePolicy) -> Conversation | None:
        """The session that waits for the client with this key, if it is the one the client asks for now.

        Raises ApiError: the service refused it a moment ago.
        """
        key_id = request.key_id or ""
        found = self._waiting.get(key_id)
        if found is not None and found.conversation.opened.done():
            self._on_over(key_id)  # in this very moment
        if (refusal := self._refused.pop(key_id, None)) is not None:
            raise refusal
        found = self._waiting.get(key_id)
        if found is None:
            return None
        if policy != found.conversation.policy:
            self._end(key_id, EarlyOutcome.OTHER_POLICY)
        elif _asked(request) != _asked(found.request):
            self._end(key_id, EarlyOutcome.OTHER_REQUEST)
        else:
            return self._pop(key_id, EarlyOutcome.USED)
        return None

    def take_policies(self, policies: Policies) -> None:
        """Give up what would not be begun like this any more."""
        for key_id, each in list(self._waiting.items()):
            identity, policy = each.request.identity, each.conversation.policy
            if policies.switch.stops(identity.tenant, policy.name):
                self._end(key_id, EarlyOutcome.STOPPED, EndReason.POLICY_KILLED)
            elif not _still_holds(each, policies):
                self._end(key_id, EarlyOutcome.OTHER_POLICY)

    def drain(self) -> None:
        """Give up all: nobody may come any more."""
        for key_id in list(self._waiting):
            self._end(key_id, EarlyOutcome.STOPPED, EndReason.RELAY_DRAINING)

    def _end(self, key_id: str, outcome: EarlyOutcome, reason: EndReason = EndReason.EARLY_UNUSED) -> None:
        self._pop(key_id, outcome).end(reason, outcome.value)

    def _pop(self, key_id: str, outcome: EarlyOutcome) -> Conversation:
        found = self._waiting.pop(key_id)
        found.expiry.cancel()
        self._telemetry.early(outcome, found.conversation.session_id)
        return found.conversation

    def _on_over(self, key_id: str) -> None:
        """It ended while it waited; what the service said is the answer to an offer that comes soon."""
        if key_id not in self._waiting:
            return
        refusal = self._pop(key_id, EarlyOutcome.FAILED).refusal
        if refusal is not None:
            self._refused[key_id] = refusal
            asyncio.get_running_loop().call_later(REFUSAL_SECONDS, self._refused.pop, key_id, None)


def _still_holds(waiting: _Waiting, policies: Policies) -> bool:
    request = waiting.request
    try:
        return policies.now_for(request.identity, request.model_asked) == waiting.conversation.policy
    except Exception:  # noqa: BLE001 - as with sessions that run: one fault must not keep the kill switch from others
        return False


def _asked(request: OpenRequest) -> tuple[object, ...]:
    """What makes two requests the same session at the service, and the same one for the client."""
    return request.owner, request.dialect, request.model, request.model_asked, request.client_session
