"""What holds for every sequence of events, under policies strict and generous."""

from __future__ import annotations

import json
from dataclasses import replace

import orjson
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from relay.core.events import CLIENT_EVENT_TYPES
from relay.core.instruction_text import BEGIN_CLIENT_TEXT, END_CLIENT_TEXT
from relay.core.lifecycle import Dialect
from vectors.allowed_paths import foreign_paths
from vectors.case import CANARY, INSTRUCTIONS, UPSTREAM_NAMES, Client, Confirm, Service, called, shown_item
from vectors.engine import EngineRun
from vectors.strategies import ADMIN_TOOL, POLICIES, client_texts, policies, service_events

# Slow shared cores: no deadlines, few and small examples; `make fuzz` takes its time.
quick = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
doors = st.sampled_from(list(Dialect))


def a_session(name: str, door: Dialect, **tools) -> EngineRun:
    policy = POLICIES[name]
    run = EngineRun(replace(policy, tools=replace(policy.tools, **tools)), door)
    run.take(Confirm())
    run.take(shown_item("item_1"))
    run.take(called("call_1"))
    return run


def holds_the_policy(text: str) -> bool:
    """Whether instructions are the policy's alone, or the policy's beside one marked text of the client's."""
    if text == INSTRUCTIONS:
        return True
    inner = text.removeprefix(f"{INSTRUCTIONS}\n\n").removesuffix(f"\n\n{INSTRUCTIONS}")
    return (
        len(inner) < len(text)
        and inner.startswith(f"{BEGIN_CLIENT_TEXT}\n")
        and inner.endswith(f"\n{END_CLIENT_TEXT}")
        and "=====" not in inner.removeprefix(BEGIN_CLIENT_TEXT).removesuffix(END_CLIENT_TEXT)
    )


@quick
@given(policies, doors, st.lists(client_texts, max_size=6))
@example("append", Dialect.GA, [json.dumps({"type": "session.update", "session": {"instructions": "=" * 50}})])
def test_no_client_changes_the_instructions_in_force(name, door, said) -> None:
    run = a_session(name, door)
    for text in said:
        run.take(Client(text))
        assert holds_the_policy(run.service.instructions)
        assert run.end is None
    for event in run.up:
        response = event.get("response", {})
        if "instructions" in response:
            assert holds_the_policy(response["instructions"])
        assert all(entry.get("role") not in ("system", "developer") for entry in items_of(event))


def items_of(event: dict) -> list[dict]:
    return [item for item in (event.get("item"), *event.get("response", {}).get("input", ())) if item]


@quick
@given(policies, doors, st.lists(client_texts, max_size=6))
def test_what_goes_up_reads_the_same_elsewhere_and_holds_only_allowed_paths(name, door, said) -> None:
    run = a_session(name, door)
    for text in said:
        run.take(Client(text))
    for text in run.up_texts:
        event = json.loads(text)
        assert orjson.loads(text) == json.loads(text) == event
        assert foreign_paths(event) == []
        assert event["type"] in CLIENT_EVENT_TYPES
        assert event["event_id"].startswith("event_relay_")


@quick
@given(policies, doors, st.lists(st.tuples(service_events, client_texts), max_size=5))
def test_nothing_confidential_comes_down(name, door, steps) -> None:
    run = a_session(name, door, admin=(ADMIN_TOOL,))
    for theirs, mine in steps:
        run.take(Service(theirs))
        run.take(Client(mine))
        if run.end is not None:
            break
    for text in run.down_texts:
        assert CANARY not in text
        assert INSTRUCTIONS[12:50] not in text
        assert not any(upstream in text for upstream in UPSTREAM_NAMES)
        # A function of the administrator's is hidden as a whole; a client may say its name itself.
        assert ADMIN_TOOL["description"] not in text


@quick
@given(policies, doors, st.lists(client_texts | service_events.map(json.dumps), max_size=6))
def test_every_event_is_judged_once(name, door, said) -> None:
    run = a_session(name, door)
    for text in said:
        for actions in (run.filter.client_event(text), run.filter.server_event(text, 1_000.0)):
            if not actions:  # ended
                return
            assert [hasattr(action, "verdict") for action in actions] == [True] + [False] * (len(actions) - 1)
