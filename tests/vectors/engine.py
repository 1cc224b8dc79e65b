"""The pure engine between a client and a service that the cases speak for, with a model of the service in between."""

from __future__ import annotations

import copy
import itertools
import json
from collections.abc import Iterable, Mapping
from typing import Any

from support.echoes import ga_session

from relay.core.event_actions import Action, EndWith, Judged, OpenGate, ToClient, ToService
from relay.core.event_filter import EventFilter
from relay.core.lifecycle import Dialect, LegName, SessionStart
from relay.core.policy import EffectivePolicy, compose
from vectors.case import ABSENT, Binary, Case, Client, Confirm, Service, Step

NOW = 1_000.0


class ServiceModel:
    """A service's session: minted, updated whole or not at all, echoed."""

    def __init__(self, minted: Mapping[str, Any]) -> None:
        self.session = ga_session("The service's own.")
        self.update(minted)

    @property
    def instructions(self) -> str:
        return self.session["instructions"]

    def update(self, changes: Mapping[str, Any]) -> None:
        _merge(self.session, changes)

    def echo(self, kind: str) -> str:
        return json.dumps({"type": kind, "event_id": f"up_{kind}", "session": self.session})


def _merge(place: dict[str, Any], changes: Mapping[str, Any]) -> None:
    for name, value in changes.items():
        if name in ("audio", "input", "output") and isinstance(value, dict):
            _merge(place.setdefault(name, {}), value)
        else:
            place[name] = copy.deepcopy(value)


class EngineRun:
    """One session. After every step `up` and `down` hold what came of it, parsed; `actions` everything."""

    def __init__(
        self,
        policy: EffectivePolicy,
        door: Dialect = Dialect.GA,
        mint: Mapping[str, Any] | None = None,
        *,
        webrtc_filter: bool = False,
        model: str = "gpt-realtime",
    ) -> None:
        numbers = itertools.count(1)
        wish = None if mint is None else dict(mint)
        composed = compose(policy, wish, door, Dialect.GA)
        self.service = ServiceModel(composed.session)
        start = SessionStart(
            session_id="rs_1",
            offer="v=0",
            dialect=door,
            service_dialect=Dialect.GA,
            webrtc_filter=webrtc_filter,
            model=model,
            policy=policy,
            transcription_name=composed.transcription_name,
            client_instructions=composed.instructions,
            client_functions=composed.functions,
            client_fields=composed.fields,
        )
        self.filter = EventFilter(start, lambda: f"event_relay_{next(numbers)}")
        self.actions: list[Action] = []
        self.up: list[dict[str, Any]] = []
        self.up_texts: list[str] = []
        self.down: list[dict[str, Any]] = []
        self.down_texts: list[str] = []
        self.judged: list[Judged] = []
        self.end: EndWith | None = None
        self.gate_open = False

    def forget(self) -> None:
        """Start looking from here."""
        for seen in (self.actions, self.up, self.up_texts, self.down, self.down_texts, self.judged):
            seen.clear()

    def take(self, step: Step) -> None:
        """One step, and all that the service answers because of it."""
        match step:
            case Client():
                self._act(self.filter.client_event(step.text))
            case Binary():
                self._act(self.filter.binary(LegName.DOWNSTREAM))
            case Service(bytes()):
                self._act(self.filter.binary(LegName.UPSTREAM))
            case Service():
                last = self.up[-1]["event_id"] if self.up else ""
                self._act(
                    self.filter.server_event(step.text.replace("{last}", last), NOW), answer="{last}" not in step.text
                )
            case Confirm(changes, answers):
                self.service.update(changes)
                self._act(self.filter.server_event(self.service.echo("session.created"), NOW), answer=answers)

    def replace_policy(self, policy: EffectivePolicy) -> None:
        """The administrator changed it."""
        self._act(self.filter.replace_policy(policy))

    def _act(self, actions: Iterable[Action], *, answer: bool = True) -> None:
        sent = []
        for action in actions:
            self.actions.append(action)
            match action:
                case Judged():
                    self.judged.append(action)
                case ToService(text):
                    self.up_texts.append(text)
                    sent.append(json.loads(text))
                case ToClient(text):
                    self.down_texts.append(text)
                    self.down.append(json.loads(text))
                case OpenGate():
                    self.gate_open = True
                case EndWith():
                    self.end = action
        self.up += sent
        for event in sent if answer else ():
            if event["type"] == "session.update":
                self.service.update(event["session"])
                self._act(self.filter.server_event(self.service.echo("session.updated"), NOW))


def run(case: Case) -> EngineRun:
    """The case up to its end; what is looked at is what came of `send`."""
    session = EngineRun(case.policy, case.door, case.mint, webrtc_filter=case.webrtc_filter)
    if case.confirmed:
        session.take(Confirm())
        assert session.gate_open
    for step in case.before:
        session.take(step)
    session.forget()
    for step in case.send:
        session.take(step)
    return session


def mismatch(pattern: Any, value: Any, path: str = "") -> str | None:
    """Where a value is not what a pattern says; None where it is."""
    if isinstance(pattern, Mapping) and isinstance(value, dict):
        found = (_member_mismatch(pattern[name], value, name, path) for name in pattern)
    elif isinstance(pattern, list) and isinstance(value, list) and len(pattern) == len(value):
        pairs = enumerate(zip(pattern, value, strict=True))
        found = (mismatch(expected, entry, f"{path}[{index}]") for index, (expected, entry) in pairs)
    else:
        return None if pattern == value else f"{path}: {value!r} is not {pattern!r}"
    return next((wrong for wrong in found if wrong is not None), None)


def _member_mismatch(expected: Any, value: dict[str, Any], name: str, path: str) -> str | None:
    if expected is ABSENT:
        return f"{path}.{name}: is there" if name in value else None
    return mismatch(expected, value[name], f"{path}.{name}") if name in value else f"{path}.{name}: is missing"
