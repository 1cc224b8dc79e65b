"""Turns, usage, limits and errors, as the service's events tell them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.core.event_actions import AnswerAudio, Tell
from relay.core.events import SERVER_EVENT_TYPES
from relay.core.turn_facts import Answered, Interrupted, LimitsTold, ServiceErred, Transcribed
from relay.core.turn_watch import TurnWatch, tokens_of

USAGE = {
    "total_tokens": 253,
    "input_tokens": 132,
    "output_tokens": 121,
    "input_token_details": {
        "text_tokens": 119,
        "audio_tokens": 13,
        "image_tokens": 0,
        "cached_tokens": 64,
        "cached_tokens_details": {"text_tokens": 64, "audio_tokens": 0, "image_tokens": 0},
    },
    "output_token_details": {"text_tokens": 30, "audio_tokens": 91},
}
TOKENS = {
    ("input", "text"): 55,
    ("input", "cached_text"): 64,
    ("input", "audio"): 13,
    ("output", "text"): 30,
    ("output", "audio"): 91,
}


def told(*events):
    """The facts of events that come one second after the other."""
    watch = TurnWatch()
    actions = [
        action for second, event in enumerate(events) for action in watch.follow(event["type"], event, 1000.0 + second)
    ]
    return [action.fact if isinstance(action, Tell) else action for action in actions]


def speech(word):
    return {"type": f"input_audio_buffer.speech_{word}"}


def sound(word, response="r1"):
    return {"type": f"output_audio_buffer.{word}", "response_id": response}


def done(status="completed", reason=None, response="r1", **members):
    details = {"reason": reason, **members.pop("details", {})}
    return {
        "type": "response.done",
        "response": {"id": response, "status": status, "status_details": details, **members},
    }


def test_an_answer_is_timed_from_the_end_of_the_speech_before_it():
    assert told(speech("started"), speech("stopped"), sound("started")) == [AnswerAudio(1001.0)]


def test_speech_that_goes_on_begins_anew_and_one_speech_has_one_answer():
    assert told(speech("stopped"), speech("started"), sound("started")) == []
    assert told(speech("stopped"), speech("stopped"), sound("started"), sound("started", "r2")) == [AnswerAudio(1001.0)]


def test_sound_long_after_speech_is_no_answer_to_it():
    watch = TurnWatch()
    watch.follow("input_audio_buffer.speech_stopped", {}, 1000.0)
    assert watch.follow("output_audio_buffer.started", {}, 1061.0) == []


def test_an_answer_ends_with_its_status_its_time_and_its_tokens():
    created = {"type": "response.created", "response": {"id": "r1"}}
    assert told(created, done(usage=USAGE)) == [Answered("completed", 1.0, TOKENS)]


@pytest.mark.parametrize(
    ("status", "reason", "expected"),
    [
        ("incomplete", "max_output_tokens", "incomplete"),
        ("incomplete", "content_filter", "content_filter"),
        ("cancelled", None, "cancelled"),
        ("no such", "no such", "other"),
        ({"x": 1}, ["y"], "other"),
    ],
)
def test_statuses_are_closed(status, reason, expected):
    assert told(done(status, reason)) == [Answered(expected)]


def test_an_interruption_counts_once_however_often_it_is_told():
    cut = done("cancelled", "turn_detected")
    assert told(sound("cleared"), cut) == [Interrupted(), Answered("cancelled")]
    assert told(cut, sound("cleared"), sound("cleared", "r2")) == [Answered("cancelled"), Interrupted(), Interrupted()]


def test_errors_have_known_codes_or_none():
    failed = {"type": "conversation.item.input_audio_transcription.failed", "error": {"code": "transcription_failed"}}
    unknown = {"type": "error", "error": {"code": "contoso-secret", "message": "of contoso"}}
    answer = done("failed", details={"error": {"code": "rate_limit_exceeded"}})
    assert told(failed, unknown, answer) == [
        ServiceErred("transcription_failed"),
        ServiceErred("other"),
        Answered("failed"),
        ServiceErred("rate_limit_exceeded"),
    ]


def test_limits_are_shares():
    limits = [
        {"name": "requests", "limit": 100, "remaining": 25, "reset_seconds": 1},
        {"name": "tokens", "limit": 10, "remaining": 90},
        {"name": "contoso", "limit": 2, "remaining": 1},
        {"name": "tokens", "limit": 0, "remaining": 1},
        "nonsense",
    ]
    event = {"type": "rate_limits.updated", "rate_limits": limits}
    assert told(event) == [LimitsTold({"requests": 0.25, "tokens": 1.0, "other": 0.5})]


def test_transcription_is_billed_by_tokens_or_by_time():
    kind = "conversation.item.input_audio_transcription.completed"
    by_time = {"type": kind, "transcript": "canary", "usage": {"type": "duration", "seconds": 3.5}}
    details = {"audio_tokens": 20, "text_tokens": 0}
    tokens = {"type": "tokens", "input_tokens": 20, "output_tokens": 4, "input_token_details": details}
    assert told(by_time, {"type": kind, "usage": tokens}, {"type": kind}) == [
        Transcribed({}, 3.5),
        Transcribed({("input", "audio"): 20, ("output", "text"): 4}),
    ]


counts = st.one_of(st.integers(-5, 10_000), st.none(), st.booleans(), st.text(max_size=3), st.just(10**400))
details = st.dictionaries(
    st.sampled_from(["text_tokens", "audio_tokens", "image_tokens", "cached_tokens"]), counts, max_size=4
)


@given(counts, counts, st.one_of(counts, details), details, details)
def test_every_token_is_of_one_kind_and_none_is_invented(inputs, outputs, told_in, told_out, cached):
    if isinstance(told_in, dict):
        told_in = {**told_in, "cached_tokens_details": cached}
    usage = {
        "input_tokens": inputs,
        "output_tokens": outputs,
        "input_token_details": told_in,
        "output_token_details": told_out,
    }
    found = tokens_of(usage)
    assert all(number > 0 for number in found.values())

    def whole(number):
        return number if isinstance(number, int) and not isinstance(number, bool) and 0 <= number < 10**9 else 0

    parts = told_in if isinstance(told_in, dict) else {}
    kinds = ("text_tokens", "audio_tokens", "image_tokens")
    broken_down = sum(whole(parts.get(kind)) for kind in kinds)
    assert sum(n for (side, _), n in found.items() if side == "input") == max(whole(inputs), broken_down)
    assert sum(n for (_, kind), n in found.items() if kind.startswith("cached")) <= whole(parts.get("cached_tokens"))


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.sampled_from(sorted(SERVER_EVENT_TYPES)),
    st.dictionaries(
        st.sampled_from(["response", "usage", "rate_limits", "error", "response_id", "id", "status"]), anything
    ),
)
def test_no_event_is_too_strange_to_follow(kind, event):
    told = TurnWatch().follow(kind, event, 1.0)
    assert all(isinstance(action, AnswerAudio | Tell) for action in told)


def test_answers_that_never_end_are_not_kept_for_ever():
    watch = TurnWatch()
    for number in range(1000):
        watch.follow("response.created", {"response": {"id": f"r{number}"}}, 1.0)
    assert len(watch._begun) <= 64
