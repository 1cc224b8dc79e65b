"""One input of the fuzzer: a few messages of client and service to one session, and what must hold after each.

The first byte chooses policy and door; then one message a line, `<` from the service, anything else from the client.
What is found here becomes a vector.
"""

from __future__ import annotations

import json
from dataclasses import replace

import orjson
from vectors.allowed_paths import foreign_paths
from vectors.case import CANARY, INSTRUCTIONS, Client, Confirm, Service, called, shown_item
from vectors.cases import CASES
from vectors.engine import NOW, EngineRun
from vectors.strategies import ADMIN_TOOL, POLICIES
from vectors.test_properties import holds_the_policy

from relay.core.event_actions import ToClient
from relay.core.lifecycle import Dialect

_NAMES = sorted(POLICIES)
_DOORS = list(Dialect)
_MOST_MESSAGES = 12


def one_input(data: bytes) -> None:
    """Judge all of it. Raises AssertionError, or whatever the engine should not have."""
    if not data:
        return
    policy = POLICIES[_NAMES[data[0] % len(_NAMES)]]
    policy = replace(policy, tools=replace(policy.tools, admin=(ADMIN_TOOL,)))
    run = EngineRun(policy, _DOORS[data[0] // len(_NAMES) % 2])
    for step in (Confirm(), shown_item("item_1"), called("call_1")):
        run.take(step)
    spoken = False
    for line in data[1:].decode(errors="surrogateescape" if data[0] & 128 else "replace").split("\n")[:_MOST_MESSAGES]:
        if line.startswith("<"):
            spoken = True
            for action in run.filter.server_event(line[1:], NOW):
                if isinstance(action, ToClient):
                    json.loads(action.text)
        else:
            run.take(Client(line))
            _check(run, line, spoken=spoken)
        run.forget()


def _check(run: EngineRun, line: str, *, spoken: bool) -> None:
    for text in run.up_texts:
        event = json.loads(text)
        assert orjson.loads(text) == json.loads(text) == event, "another parser reads it otherwise"
        assert foreign_paths(event) == [], "a path that may not go up"
        response = event.get("response", {})
        assert "instructions" not in response or holds_the_policy(response["instructions"])
    for text in run.down_texts:
        # A client's own event id comes back to it, whatever it says.
        assert CANARY not in text or CANARY in line
        assert INSTRUCTIONS[12:50] not in text or INSTRUCTIONS[12:50] in line
    # Once the fuzzer spoke for the service, what it said was in force is anything; before that it is the policy.
    assert spoken or holds_the_policy(run.service.instructions)


def seeds() -> list[bytes]:
    """The texts of all vectors."""
    lines = []
    for case in CASES:
        for step in (*case.before, *case.send):
            match step:
                case Client():
                    lines.append(step.text)
                case Service(event) if not isinstance(event, bytes):
                    lines.append("<" + step.text)
    return [
        bytes([number % 12]) + line.encode(errors="replace")
        for number, line in enumerate(lines)
        if "\n" not in line and len(line) < 20_000
    ]
