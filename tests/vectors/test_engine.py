"""The policy vectors on the pure engine, with the invariants that hold in every one of them."""

from __future__ import annotations

import json

import pytest

from relay.core.events import CLIENT_EVENT_TYPES, dump_event
from vectors.case import CANARY, UPSTREAM_NAMES, Case
from vectors.cases import CASES
from vectors.engine import EngineRun, mismatch, run


def the_same(found: list[dict], expected: tuple, case: Case) -> None:
    shown = json.dumps(found, indent=1)[:4_000]
    assert len(found) == len(expected), f"{case.id}: {len(found)} events instead of {len(expected)}: {shown}"
    for event, pattern in zip(found, expected, strict=True):
        assert (wrong := mismatch(pattern, event)) is None, f"{case.id} {wrong}: {shown}"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_vector(case: Case) -> None:
    session = run(case)
    sent = [{name: value for name, value in event.items() if name != "event_id"} for event in session.up]
    if case.up_is_part:
        the_same(sent, case.up, case)
    else:
        assert sent == list(case.up), case.id
    the_same(session.down, case.down, case)
    assert (None if session.end is None else session.end.reason) is case.ends
    if case.verdict is not None:
        assert (session.judged[-1].verdict, session.judged[-1].rule) == case.verdict
    the_invariants_hold(session, case)


def the_invariants_hold(session: EngineRun, case: Case) -> None:
    for text in session.down_texts:
        assert case.discloses or CANARY not in text
        assert not any(name in text for name in UPSTREAM_NAMES)
    expected = case.policy.instructions.text if case.in_force is None else case.in_force
    assert session.service.instructions == expected
    for text in session.up_texts:
        event = json.loads(text)
        assert text == dump_event(event)
        assert event["type"] in CLIENT_EVENT_TYPES
        assert event["event_id"].startswith("event_relay_")
    for judged in session.judged:
        # A binary message is not read, so there is nothing to hash.
        assert judged.plain or judged.content_sha256 is not None or judged.event_type == "other"


def test_every_case_has_a_name_of_its_own() -> None:
    names = [case.id for case in CASES]
    assert len(names) == len(set(names))
