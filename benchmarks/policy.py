"""What a policy costs: judging one event under rules of every kind, at the 99th percentile and in the typical case."""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from benchmarks.events import cheapest_round, transcript_delta
from benchmarks.machine import describe
from relay.core.event_actions import Action, ToClient, ToService
from relay.core.event_filter import EventFilter
from relay.core.lifecycle import Dialect, SessionStart
from relay.core.policy import EffectivePolicy
from relay.core.policy_rules import (
    CanaryRules,
    ClientInstructions,
    ClientTool,
    EventRules,
    FieldRule,
    InstructionRules,
    ItemRules,
    ModelRules,
    Strictness,
    ToolRules,
)

_NOW = 1_000.0
_BUDGET_US = 1_000.0
_TYPICAL_BUDGET_US = 50.0
_LARGE = 16_000
_INSTRUCTIONS = "You are the benchmark's assistant. Be brief, be kind, and never speak of the weather. " * 40
_FUNCTION = {"type": "function", "name": "lookup", "description": "Looks it up.", "parameters": {"type": "object"}}


def full_policy() -> EffectivePolicy:
    """A policy with rules of every kind, as an administrator of a large place might write it."""
    return EffectivePolicy(
        name="bench",
        revision="0" * 64,
        instructions=InstructionRules(text=_INSTRUCTIONS, client=ClientInstructions.APPEND),
        models=ModelRules(default="bench", map={f"model-{n}": "bench" for n in range(50)}),
        deployment="bench",
        transcription_deployment="bench-transcribe",
        fields={
            "audio.output.voice": FieldRule(has_default=True, default="marin", allow=("marin", "cedar")),
            "audio.output.speed": FieldRule(minimum=0.8, maximum=1.2),
            "audio.input.turn_detection.create_response": FieldRule(has_lock=True, lock=True),
            "audio.input.transcription": FieldRule(has_lock=True, lock={"model": "bench-transcribe"}),
            "max_output_tokens": FieldRule(maximum=2048),
            "output_modalities": FieldRule(),
        },
        fields_default=Strictness.STRIP,
        items=ItemRules(history_import=True),
        tools=ToolRules(
            admin=tuple({**_FUNCTION, "name": f"admin_{n}"} for n in range(20)),
            client=tuple(ClientTool(f"client_{n}", definition=_FUNCTION) for n in range(20)),
            client_functions=Strictness.STRIP,
        ),
        events=EventRules(client=None, hide_fields=frozenset({"audio.output.speed"})),
        canary=CanaryRules(words=("CANARY-7f3a", "zebra quilt"), overlap_words=8),
    )


def open_filter(policy: EffectivePolicy) -> EventFilter:
    """Make the filter of a GA session whose instructions are confirmed."""
    numbers = itertools.count(1)
    start = SessionStart("rs_bench", "v=0", Dialect.GA, Dialect.GA, webrtc_filter=False, model="m", policy=policy)
    events = EventFilter(start, lambda: f"event_{next(numbers)}")
    session = {"type": "realtime", "object": "realtime.session", "id": "sess_1", "instructions": _INSTRUCTIONS}
    events.server_event(json.dumps({"type": "session.created", "event_id": "e0", "session": session}), _NOW)
    return events


@dataclass(frozen=True, slots=True)
class Load:
    """One kind of event: `texts` in turn, judged by a filter's method, and what must come of it."""

    name: str
    texts: tuple[str, ...]
    from_client: bool
    passed: type[Action]
    typical: bool = False


def item(size: int) -> str:
    """Write a client's message of so many bytes."""

    def event(text: str) -> dict[str, Any]:
        content = [{"type": "input_text", "text": text}]
        return {"type": "conversation.item.create", "item": {"type": "message", "role": "user", "content": content}}

    words = "the quick brown fox jumps over the lazy dog "
    spare = size - len(json.dumps(event("")))
    return json.dumps(event((words * (spare // len(words) + 1))[:spare]))


def loads() -> Iterator[Load]:
    """The kinds that are measured."""
    yield Load("client message, 200 B", (item(200),), from_client=True, passed=ToService, typical=True)
    yield Load("transcript delta", (transcript_delta(),), from_client=False, passed=ToClient, typical=True)
    yield Load("client message, 16 kB", (item(_LARGE),), from_client=True, passed=ToService)
    history = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "x" * 15_000}]}
    yield Load("imported answer, 15 kB", (json.dumps({"type": "conversation.item.create", "item": history}),),
               from_client=True, passed=ToService)  # fmt: skip
    parts = [{"type": "input_text", "text": "hello there " * 18}] * 16
    asked = [{"type": "message", "role": "user", "content": parts}] * 4
    yield Load("response with input, 16 kB", (json.dumps({"type": "response.create", "response": {
        "metadata": {"a": "b"}, "input": asked}}),), from_client=True, passed=ToService)  # fmt: skip
    tools = [{**_FUNCTION, "name": f"client_{n}", "description": "d" * 700} for n in range(20)]
    update = {
        "type": "session.update",
        "session": {"type": "realtime", "audio": {"output": {"speed": 1.1}}, "tools": tools},
    }
    yield Load("session update with tools, 16 kB", (json.dumps(update),), from_client=True, passed=ToClient)
    whole = {"type": "response.output_audio_transcript.done", "event_id": "e", "item_id": "item_1", "response_id": "r",
             "transcript": "and then we walked along the shore and talked " * 330}  # fmt: skip
    yield Load("whole transcript, 15 kB", (json.dumps(whole),), from_client=False, passed=ToClient)
    said = {"type": "message", "id": "item_1", "role": "assistant", "content": [
        {"type": "output_audio", "transcript": whole["transcript"]}]}  # fmt: skip
    done = {"type": "response.done", "event_id": "e", "response": {"id": "r", "output": [said], "metadata": None}}
    yield Load("response.done, 15 kB", (json.dumps(done),), from_client=False, passed=ToClient)
    error = {"type": "error", "event_id": "e", "error": {"message": "Invalid value for item. " * 40, "code": "x"}}
    yield Load("error, 1 kB", (json.dumps(error),), from_client=False, passed=ToClient)


def judge_of(load: Load, events: EventFilter) -> Callable[[str], list[Action]]:
    """Choose the way in; the update of a session is answered, so that none waits for ever."""
    if not load.from_client:
        return lambda text: events.server_event(text, _NOW)
    if "session update" not in load.name:
        return events.client_event
    session = {"type": "realtime", "instructions": _INSTRUCTIONS}
    answer = json.dumps({"type": "session.updated", "event_id": "e", "session": session})

    def updated(text: str) -> list[Action]:
        sent = events.client_event(text)
        for action in list(sent):
            if isinstance(action, ToService):
                sent += events.server_event(answer, _NOW)
        return sent

    return updated


def measure(load: Load, count: int) -> tuple[float, float]:
    """Judge `count` events; the median and the 99th percentile in microseconds of processor time.

    What others do on a shared machine is no cost of the policy.

    Raises ValueError if an event is not passed on: refusing is cheaper than what is to be measured.
    """
    judge = judge_of(load, open_filter(full_policy()))
    spent = []
    for text in itertools.islice(itertools.cycle(load.texts), count):
        began = time.thread_time()
        actions = judge(text)
        spent.append((time.thread_time() - began) * 1e6)
        if not any(isinstance(action, load.passed) for action in actions):
            raise ValueError(f"{load.name} is not passed on: {actions}")
    return statistics.median(spent), statistics.quantiles(spent, n=100)[98]


def best_of(load: Load) -> float:
    """Judge rounds of events; the mean of the round that other work disturbed least, in microseconds."""
    judge = judge_of(load, open_filter(full_policy()))
    texts = itertools.cycle(load.texts)
    return cheapest_round(lambda: judge(next(texts)), load.passed, rounds=10, count=2_000 if load.typical else 100)


def main() -> int:
    """Measure and print; the exit status says whether every budget was kept."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.policy", description="What a policy costs.")
    parser.add_argument("--count", type=int, default=5_000, help="events of each kind (5000)")
    count = parser.parse_args().count
    machine = describe()
    print(f"{machine['cpu']}, {machine['python']}")
    print(f"{'event':<36}{'best':>10}{'median':>10}{'p99':>10}  us; best: mean of the best of ten rounds")
    kept = True
    for load in loads():
        median, p99 = measure(load, count)
        best = best_of(load)
        within = p99 < _BUDGET_US and (not load.typical or best < _TYPICAL_BUDGET_US)
        kept = kept and within
        print(f"{load.name:<36}{best:>10.1f}{median:>10.1f}{p99:>10.1f}{'' if within else '  over budget'}")
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
