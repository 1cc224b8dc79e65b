"""What is kept of a session that goes on and on."""

from __future__ import annotations

import pytest

from relay.core.lifecycle import ClientGone, Decided, LegName, MediaSample, TransportUsed
from relay.core.timeline import Entry, Moment, Timeline, entry_of
from relay.core.turn_facts import AnswerBegan, Answered, LimitsTold, Transcribed
from relay.core.verdicts import Rule
from relay.errors import EndReason


def test_the_first_and_the_last_are_kept_and_those_between_are_counted():
    timeline = Timeline()
    for number in range(1_000):
        timeline.add(float(number), Entry(Moment.INTERRUPTED))
    kept = [entry["at"] for entry in timeline.entries()]
    assert kept == [*range(100), *range(600, 1_000)]
    assert timeline.dropped == 500


def test_nothing_is_dropped_while_there_is_room():
    timeline = Timeline(first=2, last=2)
    for number in range(4):
        timeline.add(number, Entry(Moment.PHASE, "active"))
    assert (len(timeline.entries()), timeline.dropped) == (4, 0)


@pytest.mark.parametrize(
    ("fact", "told"),
    [
        (TransportUsed(LegName.UPSTREAM, "tcp"), {"kind": "transport", "leg": "upstream", "text": "tcp"}),
        (AnswerBegan(0.4321), {"kind": "answer_began", "seconds": 0.432}),
        (
            Answered("completed", 2.0, {("output", "audio"): 50, ("input", "text"): 7}),
            {"kind": "answered", "text": "completed", "seconds": 2.0, "tokens": 57},
        ),
        (
            ClientGone(EndReason.CLIENT_LOST, "to the log", 15.0),
            {"kind": "client_gone", "text": "client_lost", "seconds": 15.0},
        ),
        (
            Decided(LegName.DOWNSTREAM, "session.update", "refuse", Rule.SESSION_IN_FORCE),
            {"kind": "decision", "leg": "downstream", "text": f"refuse session.update {Rule.SESSION_IN_FORCE} enforce"},
        ),
        (LimitsTold({"requests": 0.05, "tokens": 0.5}), {"kind": "limits_low", "text": "requests"}),
    ],
)  # fmt: skip
def test_facts_are_told_in_closed_words(fact, told):
    entry = entry_of(fact)
    assert entry is not None
    assert entry.as_json(1.23456) == {"at": 1.235, **told}


@pytest.mark.parametrize(
    "fact",
    [
        Decided(LegName.UPSTREAM, "error", "forward", Rule.FRAMING),
        LimitsTold({"requests": 0.9}),
        Transcribed(),
        MediaSample(LegName.UPSTREAM),
    ],
)
def test_what_belongs_in_figures_is_no_moment(fact):
    assert entry_of(fact) is None


def test_a_long_word_is_cut():
    assert len(Entry(Moment.ENDED, "x" * 1_000).as_json(0)["text"]) == 200
