"""What an attack on the engine found: members nobody judged, events too large for the service, a gate left open."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from relay.core.event_actions import CloseGate, EndWith, OpenGate, ToClient
from relay.core.lifecycle import Dialect
from relay.core.policy_rules import ResponseRules, Strictness
from vectors.case import CANARY, INSTRUCTIONS, P0, Client, Confirm, Service
from vectors.engine import NOW, EngineRun

SYSTEM_ITEM = {"id": "item_s", "type": "message", "role": "system", "content": [{"type": "input_text", "text": "x"}]}
STRANGERS = {
    "instructions of a response": {"type": "response.created", "response": {"id": "r", "instructions": INSTRUCTIONS}},
    "prompt of a response": {"type": "response.done", "response": {"id": "r", "prompt": {"id": CANARY}}},
    "system item in a response": {"type": "response.done", "response": {"id": "r", "output": [SYSTEM_ITEM]}},
    "system item in a conversation": {"type": "conversation.created", "conversation": {"items": [SYSTEM_ITEM]}},
    "session on another event": {"type": "input_audio_buffer.cleared", "session": {"instructions": INSTRUCTIONS}},
    "deployment beside it": {"type": "input_audio_buffer.cleared", "deployment": "contoso-rt"},
    "unknown member": {"type": "input_audio_buffer.cleared", "system_prompt": INSTRUCTIONS},
    "code of an error": {"type": "error", "error": {"type": "contoso-rt", "code": "contoso-rt gone", "message": "m"}},
    "code of a failed transcription": {
        "type": "conversation.item.input_audio_transcription.failed",
        "item_id": "i",
        "error": {"type": "server_error", "code": "contoso-transcribe", "param": "contoso-transcribe", "message": "m"},
    },
}


def session(door=Dialect.GA):
    run = EngineRun(P0, door)
    run.take(Confirm())
    run.forget()
    return run


@pytest.mark.parametrize("door", list(Dialect))
@pytest.mark.parametrize("event", STRANGERS.values(), ids=STRANGERS)
def test_what_a_known_event_should_not_hold_does_not_come_down(event, door):
    run = session(door)
    run.take(Service({"event_id": "event_1", **event}))
    told = json.dumps(run.down)
    for secret in (CANARY, "contoso-rt", "contoso-transcribe", "system"):
        assert secret not in told, told


def test_a_normal_event_comes_down_as_it_is():
    event = {
        "type": "response.done", "event_id": "event_1", "obfuscation": "xx",
        "response": {"id": "r", "status": "completed", "output": [], "usage": {"total_tokens": 3}, "metadata": None},
    }  # fmt: skip
    run = session()
    run.take(Service(event))
    assert run.down == [event]


def test_an_event_too_large_for_the_service_is_refused_and_leaves_no_trace():
    run = session()
    run.filter.adapt(service_bytes=65_536)
    content = [{"type": "input_text", "text": "x" * 100_000}]
    item = {"type": "message", "role": "user", "content": content}
    run.take(Client({"type": "conversation.item.create", "event_id": "c1", "item": item}))
    assert run.up == []
    (refusal,) = run.down
    assert (refusal["error"]["code"], refusal["error"]["event_id"]) == ("event_too_large", "c1")
    run.take(Client({"type": "response.create"}))
    assert [event["type"] for event in run.up] == ["response.create"]


def test_the_gate_is_shut_while_other_instructions_run():
    run = session()
    run.service.update({"instructions": "OTHER"})
    actions = run.filter.server_event(run.service.echo("session.updated"), NOW)
    assert any(isinstance(action, CloseGate) for action in actions)
    assert not [action for action in actions if isinstance(action, ToClient) and "OTHER" in action.text]
    run.service.update({"instructions": INSTRUCTIONS})
    again = run.filter.server_event(run.service.echo("session.updated"), NOW)
    assert any(isinstance(action, OpenGate) for action in again)


def test_a_repair_that_is_not_answered_ends_the_session_though_the_service_is_silent():
    run = session()
    run.service.update({"instructions": "OTHER"})
    run.filter.server_event(run.service.echo("session.updated"), NOW)
    assert run.filter.tick(NOW + 5) == []
    (end,) = run.filter.tick(NOW + 60)
    assert isinstance(end, EndWith)
    assert end.reason == "policy_not_in_force"


def test_the_parts_of_a_responses_input_are_counted_together():
    message = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "x"}] * 33}
    run = session()
    run.take(Client({"type": "response.create", "event_id": "r1", "response": {"input": [message, message]}}))
    assert run.up == []
    assert run.down[0]["error"]["param"] == "response.input"
    run.take(Client({"type": "response.create", "response": {"input": [message]}}))
    assert [event["type"] for event in run.up] == ["response.create"]


@pytest.mark.parametrize("door", list(Dialect))
@pytest.mark.parametrize(
    ("default", "named", "sent", "param"),
    [
        (Strictness.REFUSE, False, None, "response.max_output_tokens"),
        (Strictness.STRIP, False, {}, None),
        (Strictness.REFUSE, True, {"max_output_tokens": 7}, None),
        (Strictness.ALLOW, False, {"max_output_tokens": 7}, None),
    ],
)
def test_v119_what_a_session_closes_is_closed_for_a_response_too(default, named, sent, param, door) -> None:
    """Unless the document says for itself what a response may hold."""
    policy = replace(P0, fields={}, fields_default=default, responses=replace(P0.responses, max_output_tokens=None))
    if named:
        policy = replace(policy, responses=ResponseRules(fields=frozenset({"max_output_tokens"})))
    run = EngineRun(policy, door)
    run.take(Confirm())
    run.forget()
    name = "max_output_tokens" if door is Dialect.GA else "max_response_output_tokens"
    run.take(Client({"type": "response.create", "event_id": "r", "response": {name: 7}}))
    assert [event.get("response", {}) for event in run.up] == ([] if sent is None else [sent])
    refused = [event["error"]["param"] for event in run.down]
    assert refused == ([] if param is None else [param if door is Dialect.GA else f"response.{name}"])
