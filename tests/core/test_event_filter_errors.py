"""What is reworded, reduced, or said by the relay itself."""

from __future__ import annotations

import json

import pytest

from relay.core.redaction import GENERIC_MESSAGE, MessageScrubber, _fingerprint
from relay.errors import EndReason


def service_error(message="m", **fields):
    return {"type": "error", "event_id": "s", "error": {"type": "invalid_request_error", "message": message, **fields}}


def told(talk, message, **fields):
    [event] = talk.server(service_error(message, **fields)).down
    return event["error"]


# --- errors


def test_v119_errors_of_the_client_pass_with_its_id(talk) -> None:
    [sent] = talk.client({"type": "response.create", "event_id": "r1"}).up
    error = told(talk, "Conversation already has an active response in progress: resp_1.",
                 code="conversation_already_has_active_response", event_id=sent["event_id"])  # fmt: skip
    assert error["message"] == "Conversation already has an active response in progress."
    assert (error["code"], error["event_id"]) == ("conversation_already_has_active_response", "r1")


@pytest.mark.parametrize(
    "message",
    [
        "Invalid value: 'CANARY-7f3a…' for session.instructions",
        "value 'y\\u006fu are cont\\u006fs\\u006f\\'s assistant'",
        "Bad value 'Never give legal' here",
        "No deployment contoso-rt, contoso_rt, contoso%2Drt or contoso\u2011rt here.",
        "See https://contoso.openai.azure.com/x?y, contoso-7.openai.azure.com, aoai-gateway.bank.de:443 or 10.1.2.3.",
        "Session sess_AbC1 of rtc_u2_77 ended.",
        "无效值 公司的助手绝不提供法律建议也不",
        "x" * 1_001,
        7,
    ],
)
def test_v216_no_word_of_the_service_is_told_whatever_it_quotes(talk, message) -> None:
    error = told(talk, message, code="invalid_value", param="session.audio.output.voice")
    assert error["message"] == "The value cannot be used."
    assert (error["code"], error["param"]) == ("invalid_value", "session.audio.output.voice")
    assert told(talk, message)["message"] == GENERIC_MESSAGE


@pytest.mark.parametrize(
    "param",
    [
        "session.instructions",
        "response.instructions",
        "session.prompt.id",
        "session.tool_choice",
        "session.tools[0].parameters",
        "response.tools[2].name",
        "session.tracing",
        "session.truncation",
        "session.model",
        "session.audio.input.transcription.model",
        "session.input_audio_transcription.prompt",
        "session.metadata.relay secret",
        "contoso-rt",
        "session.",
        "session.audio..output",
        "item." * 40,
    ],
)
def test_v216_a_field_is_named_only_if_clients_know_it(talk, param: str) -> None:
    error = told(talk, "Something is wrong with 'abc'.", code="invalid_value", param=param)
    assert (error["param"], error["code"]) == (None, "invalid_value")


@pytest.mark.parametrize("param", ["item.content[3].text", "response.metadata", "item_id", "session.speed"])
def test_a_field_that_clients_know_is_named(talk, param: str) -> None:
    assert told(talk, "m", code="invalid_value", param=param)["param"] == param


def test_a_code_that_nobody_knows_is_not_told(talk) -> None:
    error = told(talk, "m", code="contoso_rt_failed", type="contoso")
    assert (error["type"], error["code"]) == ("server_error", None)


def test_a_right_guess_of_a_deployment_looks_like_a_wrong_one(open_talk) -> None:
    talks = [open_talk(model=model) for model in ("contoso-rt", "another")]
    right, wrong = (told(talk, "contoso-rt and another are busy") for talk in talks)
    assert right == wrong


@pytest.mark.parametrize("error", [None, "x", {}, {"message": 7, "code": ["x"], "param": {}, "event_id": 9}])
def test_malformed_errors_are_survived(talk, error) -> None:
    [event] = talk.server({"type": "error", "error": error}).down
    assert event["error"] == {
        "type": "server_error",
        "code": None,
        "message": GENERIC_MESSAGE,
        "param": None,
        "event_id": None,
    }
    assert event["event_id"].startswith("event_")


def test_errors_of_a_ga_service_reach_a_preview_client_in_its_names(preview) -> None:
    assert told(preview, "m", param="session.audio.input.turn_detection.threshold")["param"] == (
        "session.turn_detection.threshold"
    )


def test_v218_transcription_failed(talk) -> None:
    error = {"type": "server_error", "code": "DeploymentNotFound", "message": "No contoso-transcribe.", "param": None}
    event = {
        "type": "conversation.item.input_audio_transcription.failed",
        "event_id": "s",
        "item_id": "i",
        "error": error,
    }
    out = talk.server(event)
    assert out.down == [{**event, "error": {**error, "message": "The model is not available."}}]
    assert out.verdict == ("rewrite", "errors.redacted")


def test_errors_inside_a_response_are_scrubbed(talk) -> None:
    error = {"type": "invalid_request_error", "code": "inference_rate_limit_exceeded", "message": "contoso-rt is full"}
    response = {"id": "resp_1", "status": "failed", "status_details": {"type": "failed", "error": error}}
    [event] = talk.server({"type": "response.done", "event_id": "s", "response": response}).down
    assert event["response"]["status_details"]["error"] == {
        **error,
        "message": "The service is asked too much at a time; try again later.",
    }


@pytest.mark.parametrize("webrtc_filter", [False, True])
def test_v261_session_expired(open_talk, webrtc_filter: bool) -> None:
    talk = open_talk(webrtc_filter=webrtc_filter)
    out = talk.server(service_error("Your session hit the maximum duration of 60 minutes.", code="session_expired"))
    assert out.end.reason is EndReason.SESSION_EXPIRED
    assert out.verdict == ("end", "session.expired")
    assert [event["error"]["code"] for event in out.down] == ([] if webrtc_filter else ["session_expired"])
    assert len(talk.filter.notices_of_end(EndReason.SESSION_EXPIRED)) == webrtc_filter


def test_session_expired_before_the_confirmation(new_talk) -> None:
    out = new_talk().server(service_error("m", code="session_expired"))
    assert out.end.reason is EndReason.SESSION_EXPIRED
    assert len(out.down) == 1


# --- size


def retrieved(audio: str, text: str = "hi"):
    parts = [{"type": "input_audio", "audio": audio, "transcript": text}]
    return {
        "type": "conversation.item.retrieved",
        "event_id": "s",
        "item": {"id": "i", "role": "user", "content": parts},
    }


def test_v149_retrieved_audio_above_the_limit_is_left_out(talk) -> None:
    out = talk.server(retrieved("A" * 400_000))
    expected = retrieved("")
    del expected["item"]["content"][0]["audio"]
    assert out.down == [expected]
    assert out.verdict == ("strip", "events.size")


def test_v149_audio_below_the_limit_stays(talk) -> None:
    assert talk.server(retrieved("A" * 200_000)).down == [retrieved("A" * 200_000)]


@pytest.mark.parametrize("char", ["x", "é"])
def test_v229_what_cannot_be_reduced_is_replaced_by_an_error(talk, char: str) -> None:
    out = talk.server(retrieved("A", char * (262_144 // len(char.encode()))))
    [event] = out.down
    assert (event["type"], event["error"]["code"]) == ("error", "event_too_large")
    assert out.verdict == ("withhold", "events.size")


def test_v229_a_session_with_many_tools_is_reduced(talk) -> None:
    tool = {"type": "function", "name": "f", "description": "d" * 10_000, "parameters": {}}
    out = talk.updated(tools=[tool] * 30)
    assert "tools" not in out.down[0]["session"]
    assert out.down[0]["session"]["model"] == "gpt-realtime"


def test_nothing_above_the_limit_reaches_the_client(talk) -> None:
    part = {"type": "audio", "audio": "A" * 300_000, "transcript": "t"}
    item = {"id": "i", "role": "assistant", "content": [part]}
    for event in (
        {"type": "response.content_part.done", "part": part, "content": part},
        {"type": "response.done", "response": {"id": "r", "output": [item]}},
        {"type": "response.output_audio.delta", "delta": "A" * 300_000},
        {"type": "conversation.item.created", "item": item},
    ):
        [shown] = talk.server(event).down
        text = json.dumps(shown, separators=(",", ":"))
        assert len(text.encode()) <= 262_144


# --- notices


def test_the_announcement_of_an_end(talk) -> None:
    notice = json.loads(talk.filter.notice_ending(EndReason.RELAY_DRAINING, 30))
    assert notice == {
        "type": "relay.session.ending",
        "event_id": "event_1",
        "reason": "relay_draining",
        "seconds_left": 30,
    }


@pytest.mark.parametrize("reason", list(EndReason))
def test_every_end_is_told_in_public_words_or_not_at_all(talk, reason: EndReason) -> None:
    texts = talk.filter.notices_of_end(reason)
    silent = {"client_left", "client_lost", "client_unreachable", "client_dtls_failed", "client_channel_timeout"}
    if reason.value in silent | {"offer_refused", "request_cancelled", "worker_lost", "early_unused"}:
        assert texts == []
        return
    [error] = [json.loads(text)["error"] for text in texts]
    assert error["code"] == reason.value
    assert error["message"]
    assert (error["param"], error["event_id"]) == (None, None)


def test_what_is_kept_to_compare_with_is_of_few_policies() -> None:
    """Instructions may differ by user, and what is kept of long ones takes megabytes."""
    for user in range(64):
        assert MessageScrubber([f"You are the assistant of user number {user}."], []).quotes_policy("you are the assis")
    assert 0 < _fingerprint.cache_info().currsize <= 32
