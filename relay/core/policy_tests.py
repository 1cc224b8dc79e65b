"""The tests inside policy documents, run on the engine of real sessions, against a service that does as it is told."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from relay.core.event_actions import Action, EndWith, Judged, ToClient, ToService
from relay.core.event_filter import EventFilter
from relay.core.events import dump_event
from relay.core.lifecycle import Dialect, SessionStart
from relay.core.policy import ConfigRefusal, EffectivePolicy, compose_service_session, judge_wish
from relay.core.policy_check import same
from relay.core.policy_document import PolicyDocument
from relay.core.policy_resolve import Identity, PolicyRequest, ServiceDefaults, Unresolved, resolve_document
from relay.core.policy_rules import Mode

DRY_DEPLOYMENTS = ServiceDefaults("settings-deployment", "settings-transcription")
"""What stands for the deployments of the relay's settings where nobody serves."""

_NOW = 1_000_000.0
_SESSION_SECONDS = 3_600


@dataclass(frozen=True, slots=True)
class ExampleResult:
    """One embedded test. `why` says what differs, and is empty when it passed."""

    document: str
    name: str
    why: str = ""
    file: str = ""
    line: int = 0

    @property
    def passed(self) -> bool:
        """Whether everything was as expected."""
        return not self.why

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}: " if self.file else ""
        return f"{where}{'passed' if self.passed else 'failed'}: {self.document}: {self.name}" + (
            f": {self.why}" if self.why else ""
        )


@dataclass(frozen=True, slots=True)
class Judgement:
    """What became of one thing that was sent, and the events that went on from it, GA, parsed."""

    decision: str
    rule: str = ""
    code: str | None = None
    param: str | None = None
    to_service: tuple[dict[str, Any], ...] = field(default=(), repr=False)
    to_client: tuple[dict[str, Any], ...] = field(default=(), repr=False)
    ended: str = ""


class DrySession:
    """A session under a policy, GA on both sides, whose service applies every update and says nothing else."""

    def __init__(self, policy: EffectivePolicy, model: str | None = None) -> None:
        """The service's `session.created` has been confirmed. Raises ConfigRefusal when the policy cannot be minted."""
        numbers = itertools.count(1)
        self._session = compose_service_session(policy, None, Dialect.GA, Dialect.GA)
        self._session |= {"id": "sess_dry", "object": "realtime.session", "expires_at": int(_NOW) + _SESSION_SECONDS}
        start = SessionStart("rs_dry", "", Dialect.GA, Dialect.GA, False, model or "default", policy)  # noqa: FBT003
        self._filter = EventFilter(start, lambda: f"event_{next(numbers)}")
        self._said_by_service({"type": "session.created", "session": self._session})

    def client(self, event: Any) -> Judgement:
        """Send an event, or a raw text, as the client."""
        return self._judgement(self._filter.client_event(_text(event)))

    def server(self, event: Any) -> Judgement:
        """Send an event, or a raw text, as the service."""
        return self._judgement(self._filter.server_event(_text(event), _NOW))

    def _judgement(self, actions: Sequence[Action]) -> Judgement:
        judged = next((action for action in actions if isinstance(action, Judged)), None)
        up = [json.loads(action.text) for action in actions if isinstance(action, ToService)]
        down = [json.loads(action.text) for action in actions if isinstance(action, ToClient)]
        ended = next((action.reason.value for action in actions if isinstance(action, EndWith)), "")
        for event in up:
            down += self._answers(event)
        error: dict[str, Any] = next((event["error"] for event in down if event["type"] == "error"), {})
        if judged is None:
            return Judgement("end" if ended else "withhold", ended=ended)
        return Judgement(
            decision=(judged.would_be or judged.verdict).value,
            rule=judged.rule.value,
            code=error.get("code"),
            param=error.get("param"),
            to_service=tuple(up),
            to_client=tuple(down),
            ended=ended,
        )

    def _answers(self, event: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """What the client gets to see of the service's answer to an update."""
        if event.get("type") == "session.update":
            _merge(self._session, event.get("session", {}))
            yield from self._said_by_service({"type": "session.updated", "session": self._session})

    def _said_by_service(self, event: dict[str, Any]) -> list[dict[str, Any]]:
        actions = self._filter.server_event(dump_event({"event_id": "event_service", **event}), _NOW)
        return [json.loads(action.text) for action in actions if isinstance(action, ToClient)]


def judge_mint(policy: EffectivePolicy, session: Mapping[str, Any]) -> Judgement:
    """What becomes of a session configuration that a client sends when it mints, GA."""
    try:
        judged = judge_wish(policy, dict(session), Dialect.GA)
        minted = compose_service_session(policy, dict(session), Dialect.GA, Dialect.GA)
    except ConfigRefusal as refusal:
        return Judgement("refuse", refusal.rule.value, refusal.code.value, refusal.param)
    return Judgement(judged.verdict.value, judged.rule.value, to_service=({"session": minted},))


def run_tests(documents: Sequence[PolicyDocument]) -> Iterator[ExampleResult]:
    """Run every embedded test of every document."""
    for document in documents:
        for index, test in enumerate(document.tests):
            line = document.source.line(("spec", "tests", index))
            yield ExampleResult(
                document.name, test["name"], _why(documents, document, test), document.source.file, line
            )


def _why(documents: Sequence[PolicyDocument], document: PolicyDocument, test: Mapping[str, Any]) -> str:
    """What differs from what the test expects. Rules are judged as if enforced, whatever the mode."""
    identity = Identity(claims=test.get("claims", {}))
    request = PolicyRequest(test.get("model"))
    try:
        resolved = resolve_document(documents, document.name, identity, request, DRY_DEPLOYMENTS)
        found = _outcome(replace(resolved.policy, mode=Mode.ENFORCE), test)
    except Unresolved as refusal:
        return f"there is no policy to test: {refusal}"
    except ConfigRefusal as refusal:
        return f"the session of the test cannot be minted: {refusal}"
    onward = found.to_client if "server" in test else found.to_service
    expected = test["expect"]
    differences = [
        f"{key}: expected {expected[key]}, got {got}"
        for key, got in (
            ("decision", found.decision),
            ("rule", found.rule),
            ("code", found.code),
            ("param", found.param),
        )
        if key in expected and expected[key] != got
    ]
    differences += _differing("result", expected.get("result"), onward)
    differences += _differing("answer", expected.get("answer"), found.to_client)
    return "; ".join(differences)


def _outcome(policy: EffectivePolicy, test: Mapping[str, Any]) -> Judgement:
    if "mint" in test:
        return judge_mint(policy, test["mint"])
    session = DrySession(policy, test.get("model"))
    for step in test.get("before", ()):
        _send(session, step)
    return _send(session, test)


def _send(session: DrySession, step: Mapping[str, Any]) -> Judgement:
    return session.client(step["client"]) if "client" in step else session.server(step["server"])


def _differing(word: str, paths: Mapping[str, Any] | None, events: Sequence[Mapping[str, Any]]) -> list[str]:
    """Nothing when one of the events holds all the values."""
    if not paths:
        return []
    tries = [
        [
            f"{word} {path}: expected {_shown(value)}, got {_shown(_at(event, path))}"
            for path, value in paths.items()
            if not same(_at(event, path), value)
        ]
        for event in events or ({},)
    ]
    return min(tries, key=len)


def _at(event: Any, path: str) -> Any:
    for name in path.split("."):
        if isinstance(event, list) and name.isdecimal() and int(name) < len(event):
            event = event[int(name)]
        else:
            event = event.get(name) if isinstance(event, Mapping) else None
    return event


def _merge(session: dict[str, Any], update: Mapping[str, Any]) -> None:
    for name, value in update.items():
        if name in ("audio", "input", "output") and isinstance(value, dict):
            _merge(session.setdefault(name, {}), value)
        else:
            session[name] = value


def _text(event: Any) -> str:
    return event if isinstance(event, str) else dump_event(event)


def _shown(value: Any) -> str:
    return "nothing" if value is None else json.dumps(value, ensure_ascii=False)
