from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from support.echoes import ga_session, preview_session

from relay.core.event_actions import Action, EndWith, Judged, OpenGate, ToClient, ToService
from relay.core.event_filter import EventFilter
from relay.core.lifecycle import Dialect, SessionStart
from relay.core.policy import policy_from_instructions

INSTRUCTIONS = "CANARY-7f3a. You are Contoso's assistant. Never give legal advice."


@dataclass
class Outcome:
    """The actions of one call, sorted by kind; `up` and `down` parsed."""

    actions: list[Action]
    judged: list[Judged] = field(default_factory=list)
    up: list[dict[str, Any]] = field(default_factory=list)
    down: list[dict[str, Any]] = field(default_factory=list)
    gate_opened: bool = False
    end: EndWith | None = None

    def __post_init__(self) -> None:
        for action in self.actions:
            match action:
                case Judged():
                    self.judged.append(action)
                case ToService(text):
                    self.up.append(json.loads(text))
                case ToClient(text):
                    self.down.append(json.loads(text))
                case OpenGate():
                    self.gate_opened = True
                case EndWith():
                    self.end = action

    @property
    def refusal(self) -> tuple[str, str | None, str | None]:
        """Code, param and the client's id of the one error that came down; asserts that nothing went up."""
        assert self.up == []
        assert [event["type"] for event in self.down] == ["error"]
        assert self.down[0]["error"]["type"] == "invalid_request_error"
        error = self.down[0]["error"]
        return error["code"], error["param"], error["event_id"]

    @property
    def verdict(self) -> tuple[str, str]:
        assert len(self.judged) == 1
        assert self.actions[0] is self.judged[0]
        return self.judged[0].verdict.value, self.judged[0].rule.value


class Talk:
    """One session's filter between a client and a service that the test speaks for."""

    instructions = INSTRUCTIONS

    def __init__(
        self,
        dialect: Dialect,
        service: Dialect,
        *,
        webrtc_filter: bool,
        model: str,
        instructions: str,
        transcription: str | None,
    ) -> None:
        numbers = itertools.count(1)
        self.dialect, self.service = dialect, service
        self.instructions = instructions
        policy = policy_from_instructions(instructions, "contoso-rt", transcription)
        start = SessionStart("rs_1", "v=0", dialect, service, webrtc_filter, model, policy)
        self.filter = EventFilter(start, lambda: f"event_{next(numbers)}")

    def client(self, event: Any) -> Outcome:
        return Outcome(self.filter.client_event(event if isinstance(event, str) else json.dumps(event)))

    def server(self, event: Any, now: float = 1000.0) -> Outcome:
        return Outcome(self.filter.server_event(event if isinstance(event, str) else json.dumps(event), now))

    def session(self, **changes: Any) -> dict[str, Any]:
        """A full echo of the service, with the policy in force."""
        if self.service is Dialect.PREVIEW:
            return preview_session(self.instructions) | changes
        return ga_session(self.instructions) | changes

    def created(self, **changes: Any) -> Outcome:
        return self.server({"type": "session.created", "event_id": "up_1", "session": self.session(**changes)})

    def updated(self, **changes: Any) -> Outcome:
        return self.server({"type": "session.updated", "event_id": "up_2", "session": self.session(**changes)})

    def update(self, **session: Any) -> Outcome:
        """A client's `session.update` with event id `e1`, GA."""
        return self.client({"type": "session.update", "event_id": "e1", "session": {"type": "realtime", **session}})


@pytest.fixture(scope="session")
def new_talk() -> Callable[..., Talk]:
    """Make a session whose service has not spoken yet."""

    def make(
        dialect: Dialect = Dialect.GA,
        service: Dialect = Dialect.GA,
        *,
        webrtc_filter: bool = False,
        model: str = "gpt-realtime",
        instructions: str = INSTRUCTIONS,
        transcription: str | None = "contoso-transcribe",
    ) -> Talk:
        return Talk(
            dialect,
            service,
            webrtc_filter=webrtc_filter,
            model=model,
            instructions=instructions,
            transcription=transcription,
        )

    return make


@pytest.fixture(scope="session")
def open_talk(new_talk: Callable[..., Talk]) -> Callable[..., Talk]:
    """Make a session whose policy is confirmed."""

    def make(*args: Any, **options: Any) -> Talk:
        talk = new_talk(*args, **options)
        assert talk.created().gate_opened
        return talk

    return make


@pytest.fixture
def talk(open_talk: Callable[..., Talk]) -> Talk:
    """A confirmed session, GA on both sides."""
    return open_talk()


@pytest.fixture
def preview(open_talk: Callable[..., Talk]) -> Talk:
    """A confirmed session of a preview client on a GA service."""
    return open_talk(Dialect.PREVIEW)
