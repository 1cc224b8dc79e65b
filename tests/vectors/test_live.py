"""A policy changed in the middle of a session (V258), and what becomes of instructions that drift."""

from __future__ import annotations

import json

import pytest

from relay.core.event_actions import ToService
from relay.core.lifecycle import Dialect
from relay.core.policy_rules import ClientInstructions, FieldRule, Mode, OnCanary, OnDrift, Strictness
from relay.errors import EndReason
from vectors.case import INSTRUCTIONS, P0, Client, Confirm, Service, mode, p0, shown_item, update
from vectors.cases_session import appended, marked
from vectors.engine import EngineRun

NEW_TEXT = "MARKER-99. You are Fabrikam's assistant."
NEW = p0(instructions={"text": NEW_TEXT})
SPEED = {"audio": {"output": {"speed": 1.1}}}


def started(policy=P0, **options) -> EngineRun:
    run = EngineRun(policy, **options)
    run.take(Confirm())
    run.forget()
    return run


def sessions_up(run: EngineRun) -> list[dict]:
    return [event["session"] for event in run.up]


def refusal(event_id: str | None = "{last}") -> Service:
    return Service({"type": "error", "event_id": "up_e", "error": {"message": "no", "event_id": event_id}})


@pytest.mark.parametrize("door", list(Dialect))
def test_v258_the_policy_is_changed_and_the_browser_sees_nothing(door) -> None:
    run = started(door=door)
    run.replace_policy(NEW)
    assert sessions_up(run) == [{"type": "realtime", "instructions": NEW_TEXT}]
    assert run.service.instructions == NEW_TEXT
    assert (run.down, run.end) == ([], None)
    assert [judged.rule for judged in run.judged] == ["session.own_update"]
    run.take(update(instructions="x"))
    assert "MARKER-99" not in run.down_texts[-1]


def test_v258_both_texts_stay_private() -> None:
    run = started()
    run.replace_policy(NEW)
    for text in (INSTRUCTIONS, NEW_TEXT):
        run.take(Service({"type": "error", "event_id": "e", "error": {"message": f"Bad: {text}", "param": "item"}}))
        assert run.down[-1]["error"]["message"] == "The service could not process the request."


def test_v258_answers_in_order_are_told_apart() -> None:
    run = started()
    run.filter.client_event(update(**SPEED).text)
    [sent] = run.filter.replace_policy(NEW)
    run.service.update(SPEED)
    run.take(Service(run.service.echo("session.updated")))
    assert [event["type"] for event in run.down] == ["session.updated"]
    run.service.update(json.loads(sent.text)["session"])
    run.take(Service(run.service.echo("session.updated")))
    assert (len(run.down), run.up, run.end) == (1, [], None)


def test_v258_before_the_confirmation_it_waits_and_what_waits_is_judged_by_it() -> None:
    run = EngineRun(P0)
    run.take(update(**SPEED))
    run.replace_policy(p0(instructions={"text": NEW_TEXT}, fields={"audio.output.speed": FieldRule(allow=())}))
    assert run.up == []
    run.take(Confirm())
    assert sessions_up(run) == [{"type": "realtime", "instructions": NEW_TEXT}]
    assert [event["type"] for event in run.down] == ["session.created", "session.updated"]
    assert run.service.instructions == NEW_TEXT


@pytest.mark.parametrize(
    ("on_drift", "tries", "reason"),
    [
        (OnDrift.REASSERT, 2, EndReason.POLICY_NOT_IN_FORCE),
        (OnDrift.END, 2, EndReason.POLICY_NOT_IN_FORCE),
        (OnDrift.LOG, 1, None),
    ],
)
def test_v258_refused_ends_or_keeps_by_setting(on_drift, tries, reason) -> None:
    run = started()
    actions = run.filter.replace_policy(p0(instructions={"text": NEW_TEXT, "on_drift": on_drift}))
    for number in range(tries):
        asked = [action.text for action in actions if isinstance(action, ToService)][-1]
        event_id = json.loads(asked)["event_id"]
        assert "MARKER" in asked, number
        actions = run.filter.server_event(refusal(event_id).text, 1000.0)
    reasons = [action.reason for action in actions if hasattr(action, "reason")]
    assert reasons == ([] if reason is None else [reason])
    if reason is None:
        run.forget()
        run.take(update(**SPEED))
        assert (run.end, run.service.instructions) == (None, INSTRUCTIONS)


def test_v258_an_update_that_is_never_answered_ends_the_session() -> None:
    run = started()
    run.filter.replace_policy(NEW)
    quiet = Service({"type": "input_audio_buffer.cleared", "event_id": "q"})
    assert run.filter.server_event(quiet.text, 1000.0)
    late = run.filter.server_event(quiet.text, 1011.0)
    assert late[-1].reason is EndReason.POLICY_NOT_IN_FORCE


def test_v258_a_clients_text_is_merged_with_the_new_policy() -> None:
    run = started(mode(ClientInstructions.APPEND))
    run.take(update(instructions="Speak Turkish."))
    assert run.service.instructions == appended("Speak Turkish.")
    run.replace_policy(mode(ClientInstructions.APPEND, text=NEW_TEXT))
    assert run.service.instructions == f"{NEW_TEXT}\n\n{marked('Speak Turkish.')}"
    run.replace_policy(mode(ClientInstructions.APPEND, text=NEW_TEXT, client_max_chars=3))
    assert run.service.instructions == NEW_TEXT


def test_v258_locks_and_tools_are_put_in_force_each_by_itself() -> None:
    tool = {"type": "function", "name": "kb", "description": "Look it up in the archive.", "parameters": {}}
    own = {"type": "function", "name": "mine", "parameters": {}}
    open_tools = {"client_functions": Strictness.ALLOW}
    run = started(p0(tools=open_tools))
    run.take(update(tools=[own]))
    run.forget()
    locked = {"audio.output.speed": FieldRule(has_lock=True, lock=1.2)}
    run.replace_policy(p0(tools={**open_tools, "admin": (tool,)}, fields=locked))
    assert sessions_up(run) == [
        {"type": "realtime", "audio": {"output": {"speed": 1.2}}},
        {"type": "realtime", "tools": [tool, own]},
    ]
    run.take(update(instructions="x"))
    assert run.down[-1]["session"]["tools"] == [own]
    assert run.service.instructions == INSTRUCTIONS


def test_v258_a_voice_is_not_locked_once_sound_was_heard() -> None:
    run = started()
    run.take(Service({"type": "output_audio_buffer.started", "event_id": "a", "response_id": "resp_1"}))
    run.replace_policy(p0(fields={"audio.output.voice": FieldRule(has_lock=True, lock="cedar")}))
    assert run.up == []


def test_v258_nothing_is_sent_for_rules_of_events() -> None:
    run = started()
    run.replace_policy(p0(items={"retrieve": False}))
    assert run.actions == []
    run.take(shown_item("item_1"))
    run.forget()
    run.take(Client({"type": "conversation.item.retrieve", "event_id": "g", "item_id": "item_1"}))
    assert run.down[0]["error"]["code"] == "policy_violation"


def test_v258_nothing_happens_after_the_end() -> None:
    run = started()
    run.service.update({"instructions": "other"})
    run.filter.server_event(run.service.echo("session.updated"), 1000.0)
    run.filter.server_event(run.service.echo("session.updated"), 1000.0)
    run.filter.server_event(run.service.echo("session.updated"), 1000.0)
    assert run.filter.replace_policy(NEW) == []


# --- drift ------------------------------------------------------------------------------------------------------------


def drifted(policy) -> EngineRun:
    run = started(policy)
    run.service.update({"instructions": "Others."})
    run.take(Service(run.service.echo("session.updated")))
    return run


def test_v219_drift_is_reasserted_once() -> None:
    run = drifted(P0)
    assert sessions_up(run) == [{"type": "realtime", "instructions": INSTRUCTIONS}]
    run.service.update({"instructions": "Others."})
    run.take(Service(run.service.echo("session.updated")))
    assert run.end.reason is EndReason.POLICY_NOT_IN_FORCE


def test_v219_drift_may_be_logged_alone() -> None:
    run = drifted(p0(instructions={"on_drift": OnDrift.LOG}))
    assert (run.up, run.end, run.judged[0].rule) == ([], None, "session.in_force")
    assert "Others" not in run.down_texts[0]


def test_v219_drift_may_end_the_session_at_once() -> None:
    run = drifted(p0(instructions={"on_drift": OnDrift.END}))
    assert (run.up, run.end.reason) == ([], EndReason.POLICY_NOT_IN_FORCE)


def test_v052_a_refused_addition_is_told_and_changes_nothing() -> None:
    run = started(mode(ClientInstructions.APPEND))
    [_, sent] = run.filter.client_event(update(instructions="x").text)
    run.take(refusal(json.loads(sent.text)["event_id"]))
    assert run.down[0]["error"]["event_id"] == "e1"
    run.take(update(**SPEED))
    assert (run.service.instructions, run.end) == (INSTRUCTIONS, None)


def test_v063_a_part_refused_leaves_the_others_and_is_answered() -> None:
    run = started(mode(ClientInstructions.APPEND))
    _, own, fields = run.filter.client_event(update(instructions="x", **SPEED).text)
    run.service.update(json.loads(own.text)["session"])
    run.take(Service(run.service.echo("session.updated")))
    assert run.down == []
    run.take(refusal(json.loads(fields.text)["event_id"]))
    assert [event["type"] for event in run.down] == ["error", "session.updated"]
    assert run.service.instructions == appended("x")


# --- modes ------------------------------------------------------------------------------------------------------------

SYSTEM = {"type": "message", "role": "system", "content": [{"type": "input_text", "text": "x"}]}
ASSISTANT = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "x"}]}


def created(item) -> Client:
    return Client({"type": "conversation.item.create", "event_id": "c", "item": item})


@pytest.mark.parametrize(
    ("step", "verdict", "would_be", "rule", "goes_up"),
    [
        (update(instructions="x"), "rewrite", "strip", "session.instructions", True),
        (update(audio={"output": {"voice": "alloy"}}), "forward", "strip", "session.fields", True),
        (Client({"type": "response.create", "response": {"instructions": "x"}}), "forward", "strip",
         "responses.overrides", True),
        (created(ASSISTANT), "forward", "refuse", "items.role", True),
        (Client({"type": "input_audio_buffer.append", "audio": "AAAA"}), "forward", "refuse", "input_audio.append",
         True),
        # What no policy can grant is not granted here either.
        (created(SYSTEM), "refuse", None, "items.role", False),
        (Client("nonsense"), "refuse", None, "events.framing", False),
        (Client({"type": "response.cancel"}), "forward", None, "events.allowed", True),
    ],
)  # fmt: skip
def test_audit_writes_down_what_would_have_been(step, verdict, would_be, rule, goes_up) -> None:
    run = started(p0(mode=Mode.AUDIT))
    run.take(step)
    judged = run.judged[0]
    assert (judged.verdict, judged.would_be, judged.rule, judged.mode) == (verdict, would_be, rule, "audit")
    assert bool(run.up) is goes_up
    assert judged.plain is (would_be is None and verdict == "forward")


def test_audit_keeps_what_is_confidential() -> None:
    run = started(p0(mode=Mode.AUDIT))
    run.take(update(audio={"output": {"speed": 1.1}}))
    run.take(Service({"type": "rate_limits.updated", "event_id": "r", "rate_limits": []}))
    assert [event["type"] for event in run.down] == ["session.updated"]
    assert "CANARY" not in run.down_texts[0]
    assert run.service.instructions == INSTRUCTIONS


def test_audit_lets_the_clients_instructions_rule() -> None:
    run = started(p0(mode=Mode.AUDIT), mint={"instructions": "mine"})
    assert run.service.instructions == "mine"
    run.take(update(instructions="others"))
    assert (run.service.instructions, run.end) == ("others", None)
    assert run.down[0]["session"]["instructions"] == "others"


def test_disabled_judges_nothing() -> None:
    run = started(p0(mode=Mode.DISABLED))
    run.take(update(audio={"output": {"voice": "alloy"}}))
    assert (run.judged[0].verdict, run.judged[0].would_be, run.judged[0].mode) == ("forward", None, "disabled")


@pytest.mark.parametrize(("action", "would_be"), [(OnCanary.CUT, "strip"), (OnCanary.END, "end")])
def test_audit_of_a_disclosure(action, would_be) -> None:
    run = started(p0(mode=Mode.AUDIT, canary={"words": ("CANARY-7f3a",), "action": action}))
    event = {"type": "response.output_text.done", "event_id": "t", "item_id": "i", "text": "CANARY-7f3a"}
    run.take(Service(event))
    assert run.down == [event]
    assert run.judged[0].would_be == would_be
