"""The tests inside policy documents, run on the engine of real sessions, against a service that does as it is told."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from relay.core.event_actions import Action, EndWith, Judged, OpenGate, ToClient, ToService
from relay.core.event_filter import EventFilter
from relay.core.events import dump_event
from relay.core.lifecycle import Dialect, SessionStart
from relay.core.policy import ConfigRefusal, EffectivePolicy, compose_service_session, judge_wish
from relay.core.policy_check import canonical, same
from relay.core.policy_document import PolicyDocument
from relay.core.policy_inherit import Said
from relay.core.policy_resolve import (
    Identity,
    PolicyRequest,
    ServiceDefaults,
    Unresolved,
    UnresolvedReason,
    merged,
    resolve_merged,
)
from relay.core.policy_rules import Mode
from relay.core.verdicts import Verdict

DRY_DEPLOYMENTS = ServiceDefaults("settings-deployment", "settings-transcription")
"""What stands for the deployments of the relay's settings where nobody serves."""

_NOW = 1_000_000.0
_SESSION_SECONDS = 3_600


@dataclass(frozen=True, slots=True)
class ExampleResult:
    """One embedded test. `why` says what differs, and is empty when it passed.

    `tried_on` is the document built on its own that it was tried on; `binding`: it must hold.
    """

    document: str
    name: str
    why: str = ""
    file: str = ""
    line: int = 0
    tried_on: str = ""
    binding: bool = True

    @property
    def passed(self) -> bool:
        """Whether everything was as expected."""
        return not self.why

    @property
    def label(self) -> str:
        """Whose test it is, and what it was tried on."""
        return f"{self.document}{f' on {self.tried_on}' if self.tried_on else ''}: {self.name}"

    @property
    def public(self) -> str:
        """What may stand in a log: nothing that a document says."""
        return f"{self._where}{self._word}: a test of {self.document}{f' on {self.tried_on}' if self.tried_on else ''}"

    @property
    def _where(self) -> str:
        return f"{self.file}:{self.line}: " if self.file else ""

    @property
    def _word(self) -> str:
        return "passed" if self.passed else "failed" if self.binding else "not as expected"

    def __str__(self) -> str:
        return f"{self._where}{self._word}: {self.label}" + (f": {self.why}" if self.why else "")


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
        """The service's `session.created` has been confirmed.

        Raises ConfigRefusal when the policy cannot be minted, Unresolved when it could never be confirmed.
        """
        numbers = itertools.count(1)
        self._session = compose_service_session(policy, None, Dialect.GA, Dialect.GA)
        self._session |= {"id": "sess_dry", "object": "realtime.session", "expires_at": int(_NOW) + _SESSION_SECONDS}
        start = SessionStart("rs_dry", "", Dialect.GA, Dialect.GA, False, model or "default", policy)  # noqa: FBT003
        self._filter = EventFilter(start, lambda: f"event_{next(numbers)}")
        created = dump_event({"event_id": "event_service", "type": "session.created", "session": self._session})
        if not any(isinstance(action, OpenGate) for action in self._filter.server_event(created, _NOW)):
            raise Unresolved(UnresolvedReason.BROKEN, f"{policy.name}: its sessions could never begin")

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
    """Run every embedded test: on its own document, and on each that sessions get and that is built on it.

    There a test that need not be inherited fails only if something passes that it does not expect to.
    """
    by_name = {document.name: document for document in documents}
    for document in documents:
        try:
            said, chain = merged(documents, document.name)
        except Unresolved as broken:
            for test in document.tests:
                yield _result(document, test, f"there is no policy to test: {broken}")
            continue
        bench = _Bench(document.name, said, chain)
        for test in document.tests:
            yield _result(document, test, bench.why(test))
        for base in chain[:-1] if document.match is not None else ():
            for test in by_name[base].tests:
                binding = test.get("inherit", False)
                why = bench.why(test) if binding else bench.why_looser(test)
                yield replace(_result(by_name[base], test, why), tried_on=document.name, binding=binding)


def _result(document: PolicyDocument, test: Mapping[str, Any], why: str) -> ExampleResult:
    index = next(index for index, one in enumerate(document.tests) if one is test)
    line = document.source.line(("spec", "tests", index))
    return ExampleResult(document.name, test["name"], why, document.source.file, line)


class _Bench:
    """One document, resolved as its tests ask. Rules are judged as if enforced, whatever the mode."""

    def __init__(self, name: str, said: Said, chain: tuple[str, ...]) -> None:
        self._made_of = (name, said, chain)
        self._policies: dict[str, EffectivePolicy] = {}

    def why(self, test: Mapping[str, Any]) -> str:
        """What differs from what the test expects."""
        try:
            return _why(_outcome(self._policy(test), test), test)
        except Unresolved as refusal:
            return f"there is no policy to test: {refusal}"
        except ConfigRefusal as refusal:
            return f"the session of the test cannot be minted: {refusal}"

    def why_looser(self, test: Mapping[str, Any]) -> str:
        """The same, unless nothing comes to pass at all."""
        try:
            found = _outcome(self._policy(test), test)
        except (Unresolved, ConfigRefusal):
            return ""
        return "" if found.decision in _NOTHING_PASSES else _why(found, test)

    def _policy(self, test: Mapping[str, Any]) -> EffectivePolicy:
        claims, model = test.get("claims", {}), test.get("model")
        key = canonical([claims, model])
        if key not in self._policies:
            identity, request = Identity(claims=claims), PolicyRequest(model)
            resolved = resolve_merged(*self._made_of, identity, request, DRY_DEPLOYMENTS)
            self._policies[key] = replace(resolved.policy, mode=Mode.ENFORCE)
        return self._policies[key]


_NOTHING_PASSES = (Verdict.REFUSE, Verdict.WITHHOLD, Verdict.END)


def _why(found: Judgement, test: Mapping[str, Any]) -> str:
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
    differences += _differing("result", expected.get("result", {}), onward)
    differences += _differing("answer", expected.get("answer", {}), found.to_client)
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


def _differing(word: str, paths: Mapping[str, Any], events: Sequence[Mapping[str, Any]]) -> list[str]:
    """Nothing when one of the events holds all the values, and none holds what must not be there."""
    absent = [path for path, value in paths.items() if value is None]
    there = [_unlike(word, path, event, None) for event in events for path in absent if _at(event, path) is not None]
    tries = [
        [
            _unlike(word, path, event, value)
            for path, value in paths.items()
            if value is not None and not same(_at(event, path), value)
        ]
        for event in events or ({},)
    ]
    return [*there, *min(tries, key=len)]


def _unlike(word: str, path: str, event: Mapping[str, Any], value: Any) -> str:
    secret = path.rpartition(".")[2] == "instructions"
    return f"{word} {path}: expected {_shown(value, secret=secret)}, got {_shown(_at(event, path), secret=secret)}"


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


def _shown(value: Any, *, secret: bool) -> str:
    if value is None:
        return "nothing"
    if secret and isinstance(value, str):
        digest = hashlib.sha256(value.encode(errors="surrogatepass")).hexdigest()
        return f"{len(value)} characters, sha256 {digest[:12]}"
    return json.dumps(value, ensure_ascii=False)
