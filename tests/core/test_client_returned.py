"""Another peer of the client takes over: what it is told, and what is not for it."""

from __future__ import annotations

import json

import pytest

from relay.core.event_filter import EventFilter
from relay.core.event_ledger import Asker
from relay.core.lifecycle import Dialect, LegCounters, merged


def returned(talk) -> list[dict]:
    """What the peer that took over is sent at once."""
    return [json.loads(action.text) for action in talk.filter.client_returned()]


def error(event_id=None, **fields):
    whole = {"type": "invalid_request_error", "message": "m", "event_id": event_id, **fields}
    return {"type": "error", "event_id": "s", "error": whole}


@pytest.mark.parametrize("dialect", list(Dialect))
@pytest.mark.parametrize("service", list(Dialect))
def test_the_session_in_force_in_the_clients_dialect_without_the_policys_text(new_talk, dialect, service) -> None:
    talk = new_talk(dialect, service)
    [first] = talk.created().down
    [again] = returned(talk)
    assert again["event_id"] != first["event_id"]
    assert {**again, "event_id": first["event_id"]} == first
    assert "CANARY" not in json.dumps(again)
    assert again["session"]["id"] == "rs_1"


def test_the_session_as_it_is_now(talk) -> None:
    talk.update(audio={"output": {"voice": "cedar"}})
    session = talk.session()
    session["audio"]["output"]["voice"] = "cedar"
    talk.updated(**session)
    assert returned(talk)[0]["session"]["audio"]["output"]["voice"] == "cedar"


def test_before_the_confirmation_there_is_no_session_to_tell_of(new_talk) -> None:
    assert returned(new_talk()) == []


def test_after_the_end_nothing_is_told(talk) -> None:
    talk.server(error(code="session_expired"))
    assert returned(talk) == []


def test_an_error_for_an_event_of_the_peer_before_is_not_for_the_new_one(talk) -> None:
    [before] = talk.client({"type": "response.create", "event_id": "r1"}).up
    returned(talk)
    [own] = talk.client({"type": "response.create", "event_id": "r1"}).up
    out = talk.server(error(before["event_id"], code="some_error"))
    assert out.down == []
    assert out.verdict == ("withhold", "session.former_peer")
    [shown] = talk.server(error(own["event_id"], code="some_error")).down
    assert shown["error"]["event_id"] == "r1"
    # An error that answers nobody is everybody's.
    [shown] = talk.server(error(code="some_error")).down
    assert shown["error"]["event_id"] is None


def test_what_the_peer_before_asked_of_the_session_is_news_unless_an_answer_is_awaited(talk) -> None:
    talk.update(audio={"output": {"voice": "cedar"}})
    returned(talk)
    assert [event["type"] for event in talk.updated().down] == ["session.updated"]
    talk.update(audio={"output": {"voice": "verse"}})
    returned(talk)
    talk.update(audio={"output": {"voice": "marin"}})
    out = talk.updated()
    assert out.down == []
    assert out.verdict == ("withhold", "session.former_peer")
    assert [event["type"] for event in talk.updated().down] == ["session.updated"]


def test_a_refused_update_of_the_peer_before_is_forgotten(talk) -> None:
    [before] = talk.update(audio={"output": {"voice": "cedar"}}).up
    returned(talk)
    talk.update(audio={"output": {"voice": "marin"}})
    assert talk.server(error(before["event_id"], param="session.audio.output.voice")).down == []
    # The next answer is the new peer's.
    assert [event["type"] for event in talk.updated().down] == ["session.updated"]
    assert not talk.filter._ledger.due(Asker.CLIENT, Asker.LOCAL)


def test_an_unnamed_refusal_is_the_oldest_updates(talk) -> None:
    talk.update(audio={"output": {"voice": "cedar"}})
    returned(talk)
    assert talk.server(error(param="session.audio.output.voice")).down == []
    assert not talk.filter._ledger.due(Asker.CLIENT, Asker.LOCAL)


def test_answers_of_our_own_that_waited_are_dropped(talk) -> None:
    """An update of which nothing was sent is answered when its turn comes: not any more."""
    talk.update(audio={"output": {"voice": "cedar"}})
    assert talk.update(instructions="x").down == []
    returned(talk)
    assert [event["type"] for event in talk.updated().down] == ["session.updated"]


def test_a_function_call_is_still_to_be_answered(talk) -> None:
    call = {"id": "item_1", "type": "function_call", "call_id": "call_1", "name": "f", "status": "completed"}
    talk.server({"type": "conversation.item.added", "event_id": "s", "item": call})
    returned(talk)
    answer = {"type": "function_call_output", "call_id": "call_1", "output": "{}"}
    out = talk.client({"type": "conversation.item.create", "event_id": "c", "item": answer})
    assert [event["type"] for event in out.up] == ["conversation.item.create"]


def test_a_webrtc_filter_still_filters(new_talk) -> None:
    talk = new_talk(webrtc_filter=True)
    first = talk.created().down
    assert [event["type"] for event in returned(talk)] == [event["type"] for event in first]


def test_counters_of_one_leg_after_the_other_add_up() -> None:
    before = LegCounters(
        packets_in=2, bytes_in=20, packets_lost=1, jitter_seconds=0.1, rtt_seconds=0.2, dropped={"rate": 1}
    )
    after = LegCounters(packets_in=3, bytes_out=7, jitter_seconds=0.3, dropped={"rate": 2, "ssrc": 1})
    assert merged(before, after) == LegCounters(
        packets_in=5, bytes_in=20, bytes_out=7, packets_lost=1, jitter_seconds=0.3, rtt_seconds=0.2,
        dropped={"rate": 3, "ssrc": 1},
    )  # fmt: skip
    assert merged(LegCounters(), after) == after


def test_the_filter_is_one_for_the_whole_session(talk) -> None:
    """What a peer that is gone was shown, the one that came may speak of: it is the same person with the same key."""
    talk.server({"type": "conversation.item.added", "event_id": "s",
                 "item": {"id": "item_1", "type": "message", "role": "assistant", "content": []}})  # fmt: skip
    returned(talk)
    out = talk.client({"type": "conversation.item.delete", "event_id": "d", "item_id": "item_1"})
    assert [event["type"] for event in out.up] == ["conversation.item.delete"]
    assert isinstance(talk.filter, EventFilter)
