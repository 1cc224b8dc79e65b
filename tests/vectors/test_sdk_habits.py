"""Real clients get no error event for what they do unasked, and every answer they wait for."""

from __future__ import annotations

import pytest

from relay.core.policy import policy_from_instructions
from vectors.case import CANARY, INSTRUCTIONS, UPSTREAM_NAMES, Confirm
from vectors.engine import EngineRun
from vectors.sdk_habits import HABITS, Habit


def played(habit: Habit, policy, *, early: bool) -> EngineRun:
    run = EngineRun(policy, habit.door, webrtc_filter=habit.webrtc_filter)
    first = 2 if early else 0
    for step in habit.steps[:first]:
        run.take(step)
    run.take(Confirm())
    for step in habit.steps[first:]:
        run.take(step)
    return run


@pytest.mark.parametrize("early", [False, True], ids=["", "early"])
@pytest.mark.parametrize("habit", HABITS, ids=lambda habit: f"{habit.number.lower()}_{habit.name}")
def test_habit(habit: Habit, early: bool) -> None:
    run = played(habit, habit.policy, early=early and habit.early)
    types = [event["type"] for event in run.down]
    assert "error" not in types
    assert types.count("session.updated") == habit.updates
    assert run.end is None
    assert run.service.instructions == INSTRUCTIONS
    text = "".join(run.down_texts)
    assert CANARY not in text
    assert not any(name in text for name in UPSTREAM_NAMES)
    refused = [judged for judged in run.judged if judged.verdict == "refuse"]
    assert refused == []


@pytest.mark.parametrize("habit", HABITS, ids=lambda habit: f"{habit.number.lower()}_{habit.name}")
def test_habit_under_one_text_alone(habit: Habit) -> None:
    run = played(habit, policy_from_instructions(INSTRUCTIONS, "contoso-rt", "contoso-transcribe"), early=False)
    assert "error" not in [event["type"] for event in run.down]
    assert run.service.instructions == INSTRUCTIONS


def test_v253_the_name_of_the_transcription_model_is_the_clients_own() -> None:
    habit = next(habit for habit in HABITS if habit.name == "tanstack")
    run = played(habit, habit.policy, early=False)
    updated = next(event for event in run.down if event["type"] == "session.updated")
    assert updated["session"]["audio"]["input"]["transcription"]["model"] == "whisper-1"
