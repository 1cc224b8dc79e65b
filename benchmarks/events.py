"""What judging one event costs: the core's filter alone, no socket and no session around it."""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import time
from collections.abc import Callable
from typing import Any

from benchmarks.machine import describe
from relay.core.event_actions import Action, ToClient, ToService
from relay.core.event_filter import EventFilter
from relay.core.lifecycle import Dialect, SessionStart
from relay.core.policy import policy_from_instructions

_INSTRUCTIONS = "You are the benchmark's assistant."
_CLIENT_EVENT_BYTES = 200
_EVENTS_PER_ROUND = 2_000
_NOW = 1_000.0


def open_filter() -> EventFilter:
    """Make the filter of a GA session whose instructions are confirmed."""
    numbers = itertools.count(1)
    policy = policy_from_instructions(_INSTRUCTIONS, "bench", "bench-transcribe")
    start = SessionStart("rs_bench", "v=0", Dialect.GA, Dialect.GA, webrtc_filter=False, model="m", policy=policy)
    events = EventFilter(start, lambda: f"event_{next(numbers)}")
    session = {"type": "realtime", "object": "realtime.session", "id": "sess_1", "instructions": _INSTRUCTIONS}
    events.server_event(json.dumps({"type": "session.created", "event_id": "e0", "session": session}), _NOW)
    return events


def client_event() -> str:
    """Write a client's message to the model, of 200 bytes."""

    def event(text: str) -> dict[str, Any]:
        content = [{"type": "input_text", "text": text}]
        return {"type": "conversation.item.create", "item": {"type": "message", "role": "user", "content": content}}

    spare = _CLIENT_EVENT_BYTES - len(json.dumps(event("")))
    return json.dumps(event("x" * spare))


def transcript_delta() -> str:
    """Write a piece of the model's transcript, by far the most frequent server event."""
    return json.dumps(
        {
            "type": "response.output_audio_transcript.delta",
            "event_id": "event_CqX0Vq6mZq7bQ3kY1nT2s",
            "response_id": "resp_CqX0VbF1sYw0eJ9uH4pLd",
            "item_id": "item_CqX0V8cR2mKx5tG7aZ1oE",
            "output_index": 0,
            "content_index": 0,
            "delta": " assistance",
        }
    )


def cheapest_round(
    judge: Callable[[], list[Action]], passed: type[Action], rounds: int, count: int = _EVENTS_PER_ROUND
) -> float:
    """Time the judging of one event in microseconds: the mean of the best round, that other work disturbed least.

    Raises ValueError if an event is not passed on: refusing is cheaper than what is to be measured.
    """
    best = float("inf")
    for _ in range(rounds):
        began = time.perf_counter()
        for _ in range(count):
            actions = judge()
        best = min(best, time.perf_counter() - began)
        if not any(isinstance(action, passed) for action in actions):
            raise ValueError(f"not passed on: {actions}")
    return best / count * 1e6


def measure(rounds: int) -> dict[str, float]:
    """Judge both kinds of event, each in a session of its own; microseconds an event."""
    outward, inward = open_filter(), open_filter()
    sent, heard = client_event(), transcript_delta()
    return {
        f"client event, {len(sent)} bytes": cheapest_round(lambda: outward.client_event(sent), ToService, rounds),
        f"transcript delta, {len(heard)} bytes": cheapest_round(
            lambda: inward.server_event(heard, _NOW), ToClient, rounds
        ),
    }


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.events", description="What judging one event costs.")
    parser.add_argument("--rounds", type=int, default=10, help=f"rounds of {_EVENTS_PER_ROUND} events (10)")
    rounds = parser.parse_args().rounds
    machine = describe()
    print(f"{machine['cpu']}, {machine['python']}")
    for name, microseconds in measure(rounds).items():
        print(f"{name:<32}{microseconds:>8.1f} us")
    return 0


if __name__ == "__main__":
    sys.exit(main())
