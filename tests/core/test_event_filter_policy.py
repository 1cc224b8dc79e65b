"""Session echoes: what the client sees of them, and whether the policy is in force."""

from __future__ import annotations

import pytest

from relay.core.lifecycle import Dialect
from relay.errors import EndReason

HIDDEN = {"instructions", "prompt", "tool_choice", "tracing", "truncation", "client_secret"}


def service_error(message="m", **fields):
    return {"type": "error", "event_id": "s", "error": {"type": "invalid_request_error", "message": message, **fields}}


# --- session echoes


def test_v210_session_created(new_talk) -> None:
    out = new_talk().created()
    assert out.gate_opened
    [created] = out.down
    assert (created["type"], created["event_id"]) == ("session.created", "up_1")
    session = created["session"]
    assert HIDDEN.isdisjoint(session)
    assert (session["id"], session["model"]) == ("rs_1", "gpt-realtime")
    assert session["audio"]["input"]["transcription"] == {"model": "default", "language": "tr"}
    assert session["audio"]["output"] == {
        "format": {"type": "audio/pcm", "rate": 24000},
        "voice": "marin",
        "speed": 1.0,
    }
    assert session["audio"]["input"]["turn_detection"]["silence_duration_ms"] == 200
    assert session["expires_at"] == 4600
    assert out.verdict == ("rewrite", "session.echo")


def test_v211_session_created_at_a_preview_door(new_talk) -> None:
    [created] = new_talk(Dialect.PREVIEW).created().down
    session = created["session"]
    assert HIDDEN & set(session) == {"client_secret"}
    assert (session["client_secret"], session["temperature"]) == (None, 0.8)
    assert (session["id"], session["model"]) == ("rs_1", "gpt-realtime")
    assert (session["modalities"], session["voice"]) == (["audio", "text"], "marin")
    assert (session["input_audio_format"], session["turn_detection"]["type"]) == ("pcm16", "server_vad")
    assert {"audio", "type", "output_modalities"}.isdisjoint(session)


@pytest.mark.parametrize("dialect", list(Dialect))
def test_v211_a_preview_service(new_talk, dialect: Dialect) -> None:
    talk = new_talk(dialect, Dialect.PREVIEW)
    out = talk.created()
    assert out.gate_opened
    session = out.down[0]["session"]
    assert "instructions" not in session
    assert session["id"] == "rs_1"
    assert (session["voice"] if dialect is Dialect.PREVIEW else session["audio"]["output"]["voice"]) == "verse"


def test_v212_session_updated(talk) -> None:
    talk.update(audio={"output": {"speed": 1.2}})
    [event] = talk.updated().down
    assert event["type"] == "session.updated"
    assert HIDDEN.isdisjoint(event["session"])
    assert (event["session"]["id"], event["session"]["model"]) == ("rs_1", "gpt-realtime")


def test_v227_unknown_session_fields_are_dropped(new_talk) -> None:
    audio = {"input": {"x": 1, "transcription": None}, "output": {"voice": {"id": "voice_1"}}, "side": {"y": 1}}
    session = new_talk().created(system_prompt="x", audio=audio, reasoning={"effort": "low"}).down[0]["session"]
    assert not {"system_prompt", "reasoning"} & set(session)
    assert session["audio"] == {"input": {"transcription": None}}


@pytest.mark.parametrize("audio", [None, "x", [], {"input": "x", "output": None}])
def test_a_malformed_echo_is_survived(new_talk, audio) -> None:
    out = new_talk().created(audio=audio, tools="x", include={"a": 1}, max_output_tokens=[1])
    assert out.gate_opened
    assert not {"audio", "tools", "include", "max_output_tokens"} & set(out.down[0]["session"])


def test_tools_are_shown_as_functions_alone(talk) -> None:
    function = {"type": "function", "name": "f", "description": "d", "parameters": {"a": 1}}
    tools = [{**function, "secret": 1}, {"type": "mcp", "server_url": "https://x"}, "x"]
    assert talk.updated(tools=tools).down[0]["session"]["tools"] == [function]


# --- the policy in force


@pytest.mark.parametrize("instructions", ["other", "", None, 7, "canary-7f3a. You are Contoso's assistant."])
@pytest.mark.parametrize("service", list(Dialect))
def test_v219_other_instructions_are_repaired_before_anything_passes(new_talk, service, instructions) -> None:
    talk = new_talk(service=service)
    talk.client({"type": "response.cancel"})
    out = talk.created(instructions=instructions)
    assert not out.gate_opened
    assert out.down == []
    flat = {"instructions": talk.instructions}
    session = flat if service is Dialect.PREVIEW else {"type": "realtime", **flat}
    assert out.up == [{"type": "session.update", "event_id": "event_1", "session": session}]
    assert out.verdict == ("withhold", "session.in_force")
    assert not talk.filter.settled

    out = talk.updated()
    assert out.gate_opened
    assert [event["type"] for event in out.down] == ["session.created"]
    assert [event["type"] for event in out.up] == ["response.cancel"]
    assert talk.filter.settled


def test_v219_a_session_without_instructions_is_repaired(new_talk) -> None:
    talk = new_talk()
    out = talk.server({"type": "session.created", "event_id": "s"})
    assert (out.gate_opened, len(out.up)) == (False, 1)


def test_v219_a_repair_without_effect_ends_the_session(new_talk) -> None:
    talk = new_talk()
    talk.created(instructions="other")
    out = talk.updated(instructions="other")
    assert out.end.reason is EndReason.POLICY_NOT_IN_FORCE
    assert (out.gate_opened, out.down) == (False, [])
    assert out.verdict == ("end", "session.in_force")
    assert talk.updated().actions == []
    assert talk.client({"type": "response.cancel"}).actions == []


def test_v215_a_refused_repair_is_tried_again_and_then_ends_the_session(new_talk) -> None:
    talk = new_talk()
    [sent] = talk.created(instructions="other").up
    out = talk.server(service_error("no", event_id=sent["event_id"]))
    assert (out.end, out.down, out.verdict) == (None, [], ("withhold", "session.in_force"))
    [again] = out.up
    assert again["session"] == sent["session"]
    out = talk.server(service_error("no", event_id=again["event_id"]))
    assert out.end.reason is EndReason.POLICY_NOT_IN_FORCE
    assert (out.down, out.verdict) == ([], ("end", "session.in_force"))


def test_v215_a_refused_repair_without_an_id_is_recognised(new_talk) -> None:
    talk = new_talk()
    talk.created(instructions="other")
    refusal = service_error("no", event_id=None, param="session.instructions")
    assert len(talk.server(refusal).up) == 1
    assert talk.server(refusal).end.reason is EndReason.POLICY_NOT_IN_FORCE


def test_drift_is_repaired_once(talk) -> None:
    talk.update(audio={"output": {"speed": 1.2}})
    out = talk.updated(instructions="other")
    assert [event["type"] for event in out.down] == ["session.updated"]
    assert out.up[0]["session"] == {"type": "realtime", "instructions": talk.instructions}
    out = talk.updated()
    assert (out.up, out.down) == ([], [])
    assert out.verdict == ("withhold", "session.own_update")
    out = talk.updated(instructions="other")
    assert out.end.reason is EndReason.POLICY_NOT_IN_FORCE
    assert out.up == []


def test_v213_the_answer_to_the_repair_is_swallowed_and_the_clients_is_not(talk) -> None:
    talk.updated(instructions="other")
    talk.update(audio={"output": {"speed": 1.2}})
    assert talk.updated().down == []
    assert [event["type"] for event in talk.updated().down] == ["session.updated"]


def test_drift_while_the_repair_is_under_way_is_awaited(talk) -> None:
    talk.update(audio={"output": {"speed": 1.1}})
    talk.update(audio={"output": {"speed": 1.2}})
    assert len(talk.updated(instructions="other").up) == 1
    late = talk.updated(instructions="other")
    assert (late.up, late.end, late.down) == ([], None, [])
    repaired = talk.updated()
    assert (repaired.end, [event["type"] for event in repaired.down]) == (None, ["session.updated"])


def test_a_repair_that_is_never_answered_ends_the_session(talk) -> None:
    talk.updated(instructions="other")
    quiet = {"type": "input_audio_buffer.speech_started", "event_id": "s", "item_id": "i", "audio_start_ms": 1}
    assert talk.server(quiet, now=1009.0).end is None
    assert talk.server(quiet, now=1011.0).end.reason is EndReason.POLICY_NOT_IN_FORCE


def test_events_before_the_confirmation_are_held_in_order(new_talk) -> None:
    talk = new_talk()
    conversation = {"type": "conversation.created", "event_id": "c", "conversation": {"id": "conv_1"}}
    assert talk.server(conversation).down == []
    assert talk.created(instructions="other").down == []
    assert talk.server(service_error("first")).down == []
    out = talk.updated()
    assert [event["type"] for event in out.down] == ["session.created", "conversation.created", "error"]
    assert talk.updated().down[0]["type"] == "session.updated"


def test_held_events_are_bounded(new_talk) -> None:
    talk = new_talk()
    outs = [talk.server({"type": "input_audio_buffer.cleared", "event_id": "s"}) for _ in range(65)]
    assert [out.end for out in outs[:64]] == [None] * 64
    assert outs[64].end.reason is EndReason.POLICY_UNCONFIRMED


def test_an_update_before_session_created_confirms_nothing(new_talk) -> None:
    talk = new_talk()
    assert talk.updated().actions[1:] == []
    assert not talk.filter.settled


def test_a_second_session_created_is_checked_and_withheld(talk) -> None:
    out = talk.created()
    assert (out.down, out.gate_opened) == ([], False)
    assert talk.created(instructions="other").up


@pytest.mark.parametrize(("shown", "opened"), [("", True), (None, True), ("service default", False)])
def test_v259_an_empty_policy(new_talk, shown, opened: bool) -> None:
    assert new_talk(instructions="").created(instructions=shown).gate_opened is opened
