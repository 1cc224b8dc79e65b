"""What a policy costs: judging one event under rules of every kind, at the 99th percentile and in the typical case."""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from benchmarks.events import transcript_delta
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
    Mode,
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
        events=EventRules(client=None, pass_unknown=True, hide_fields=frozenset({"audio.output.speed"})),
        canary=CanaryRules(words=("CANARY-7f3a", "zebra quilt"), overlap_words=8),
    )


def _brought(padding: int = 0) -> list[dict[str, Any]]:
    """Make the functions of a client, as the service shows them: with `padding` bytes each that nobody asked for."""
    more = {"note": "d" * padding} if padding else {}
    return [{**_FUNCTION, "name": f"client_{n}", **more} for n in range(20)]


def open_filter(policy: EffectivePolicy) -> EventFilter:
    """Make the filter of a GA session whose instructions are confirmed."""
    numbers = itertools.count(1)
    start = SessionStart("rs_bench", "v=0", Dialect.GA, Dialect.GA, webrtc_filter=False, model="m", policy=policy)
    events = EventFilter(start, lambda: f"event_{next(numbers)}")
    session: dict[str, Any] = {"type": "realtime", "id": "sess_1", "instructions": _INSTRUCTIONS}
    session["tools"] = [*policy.tools.admin, *_brought()]
    events.server_event(json.dumps({"type": "session.created", "event_id": "e0", "session": session}), _NOW)
    return events


@dataclass(frozen=True, slots=True)
class Load:
    """One kind of event: its `text`, judged by a filter's method, and what must come of it.

    `answer` is what the service says to each event that it is sent; judging that is not counted. `policy` stands in
    for the full one.
    """

    name: str
    text: str
    from_client: bool
    passed: type[Action]
    typical: bool = False
    answer: str = ""
    policy: EffectivePolicy | None = None


@dataclass(frozen=True, slots=True)
class Cost:
    """Microseconds an event: by the clock, which other work on the machine delays, and of processor time."""

    best: float
    median: float
    p99: float
    cpu_median: float
    cpu_p99: float


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
    yield from _client_loads()
    yield from _hostile_loads()
    yield from _server_loads()


def _client_loads() -> Iterator[Load]:
    def load(
        name: str, text: str, passed: type[Action] = ToService, *, typical: bool = False, answer: str = ""
    ) -> Load:
        return Load(name, text, from_client=True, passed=passed, typical=typical, answer=answer)

    yield load("client message, 200 B", item(200), typical=True)
    yield load("client message, 16 kB", item(_LARGE))
    history = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "x" * 15_000}]}
    yield load("imported answer, 15 kB", json.dumps({"type": "conversation.item.create", "item": history}))
    parts = [{"type": "input_text", "text": "hello there " * 18}] * 16
    asked = [{"type": "message", "role": "user", "content": parts}] * 4
    response = {"metadata": {"a": "b"}, "input": asked}
    yield load("response with input, 16 kB", json.dumps({"type": "response.create", "response": response}))
    tools = [{**_FUNCTION, "name": f"client_{n}", "description": "d" * 700} for n in range(20)]
    wish = {"type": "realtime", "audio": {"output": {"speed": 1.1}}, "tools": tools}
    echo = {"type": "realtime", "instructions": _INSTRUCTIONS}
    answer = json.dumps({"type": "session.updated", "event_id": "e", "session": echo})
    update = json.dumps({"type": "session.update", "session": wish})
    yield load("session update with tools, 16 kB", update, answer=answer)


def _hostile_loads() -> Iterator[Load]:
    """Yield what would be dear to judge, as large as 16 kB let it be, and is refused or stripped."""

    def load(name: str, event: Any, policy: EffectivePolicy | None = None) -> Load:
        text = event if isinstance(event, str) else json.dumps(event, separators=(",", ":"))
        return Load(f"hostile: {name}", text[:_LARGE], from_client=True, passed=ToClient, policy=policy)

    members = {f"{n:x}": 1 for n in range(1_700)}
    audit = replace(full_policy(), mode=Mode.AUDIT)
    for name, policy in (("", None), (", audited", audit)):
        yield load(f"unknown fields{name}", {"type": "session.update", "session": members}, policy)
        inside = {"type": "session.update", "session": {"audio": {"input": members}}}
        yield load(f"unknown fields inside{name}", inside, policy)
    few = {f"{n:x}": {"a": [1]} for n in range(60)}
    yield load("unknown fields, few", {"type": "session.update", "session": {**few, "output_modalities": 7}})
    listed = replace(full_policy(), tools=ToolRules(client=(ClientTool("f", None, "sha256:0"),)))
    tools = [{"type": "function", "name": "f", "parameters": {"a": n}} for n in range(120)]
    yield load("functions to hash", {"type": "session.update", "session": {"tools": tools, "type": 7}}, listed)
    yield load("functions, many", {"type": "session.update", "session": {"tools": [{}] * 2_500}})
    yield load("numbers", {"type": "x", "a": [1] * 5_900})
    yield load("long numbers", {"type": "x", "a": [0.1] * 3_900})
    yield load("objects", {"type": "x", "a": [{}] * 2_900})
    yield load("nested lists", '{"type":"x","a":[' + ",".join(["[" * 30 + "]" * 30] * 180) + "]}")
    yield load("too many values", {"type": "x", "a": [1] * 7_900})
    yield load("escapes", '{"type":"x","a":"' + "\\u0041" * 2_600 + '"}')
    separators = "=\ufe0f\u034f" * 1_300
    update = {"type": "session.update", "session": {"instructions": separators, "output_modalities": 7}}
    yield load("separators", json.dumps(update, ensure_ascii=False))


def _server_loads() -> Iterator[Load]:
    def load(name: str, event: dict[str, Any]) -> Load:
        return Load(name, json.dumps({"event_id": "e", **event}), from_client=False, passed=ToClient)

    yield Load("transcript delta", transcript_delta(), from_client=False, passed=ToClient, typical=True)
    words = "and then we walked along the shore and talked " * 330
    ids = {"item_id": "item_1", "response_id": "r"}
    yield load("whole transcript, 15 kB", {"type": "response.output_audio_transcript.done", **ids, "transcript": words})
    spoken = [{"type": "output_audio", "transcript": words}]
    said = {"type": "message", "id": "item_1", "role": "assistant", "content": spoken}
    yield load("response.done, 15 kB", {"type": "response.done", "response": {"id": "r", "output": [said]}})
    tools = [*full_policy().tools.admin, *_brought(100)]
    echo = {"type": "realtime", "instructions": _INSTRUCTIONS, "tools": tools}
    yield load("session.updated, 15 kB", {"type": "session.updated", "session": echo})
    error = {"message": "Invalid value for item. " * 40, "code": "x"}
    yield load("error, 1 kB", {"type": "error", "error": error})
    lines = ["so many words of which nobody knows what they mean " * 18] * 16
    yield load("unknown event, 15 kB", {"type": "response.something.new", "lines": lines})


def judge_of(load: Load, events: EventFilter) -> Callable[[str], list[Action]]:
    """Choose the way in."""
    return events.client_event if load.from_client else lambda text: events.server_event(text, _NOW)


def measure(load: Load, count: int) -> Cost:
    """Judge `count` events of a kind.

    Raises ValueError if an event is not passed on: refusing is cheaper than what is to be measured.
    """
    events = open_filter(load.policy or full_policy())
    judge = judge_of(load, events)
    wall, cpu = [], []
    for _ in range(count):
        cpu_began, began = time.thread_time(), time.perf_counter()
        actions = judge(load.text)
        wall.append((time.perf_counter() - began) * 1e6)
        cpu.append((time.thread_time() - cpu_began) * 1e6)
        if not any(isinstance(action, load.passed) for action in actions):
            raise ValueError(f"{load.name} is not passed on: {actions}")
        if load.answer:
            for action in actions:
                if isinstance(action, ToService):
                    events.server_event(load.answer, _NOW)
    return _cost(wall, cpu)


def yardstick(count: int) -> Cost:
    """Do the same work of some 50 us so many times: how far its figures lie apart is the machine's doing."""
    wall, cpu = [], []
    for _ in range(count):
        cpu_began, began = time.thread_time(), time.perf_counter()
        sum(range(2_000))
        wall.append((time.perf_counter() - began) * 1e6)
        cpu.append((time.thread_time() - cpu_began) * 1e6)
    return _cost(wall, cpu)


def _cost(wall: list[float], cpu: list[float]) -> Cost:
    return Cost(
        min(wall),
        statistics.median(wall),
        statistics.quantiles(wall, n=100)[98],
        statistics.median(cpu),
        statistics.quantiles(cpu, n=100)[98],
    )


def main() -> int:
    """Measure and print; the exit status says whether every budget was kept.

    The budgets are of processor time: what others do on a shared machine is no cost of the policy.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks.policy", description="What a policy costs.")
    parser.add_argument("--count", type=int, default=5_000, help="events of each kind (5000)")
    count = parser.parse_args().count
    machine = describe()
    print(f"{machine['cpu']}, {machine['python']}; microseconds an event")
    print(f"{'event':<36}{'best':>10}{'median':>10}{'p99':>10}{'CPU median':>12}{'CPU p99':>10}")
    _print("the same work, for comparison", yardstick(count))
    kept = True
    for load in loads():
        cost = measure(load, count)
        within = cost.cpu_p99 < _BUDGET_US and (not load.typical or cost.cpu_median < _TYPICAL_BUDGET_US)
        kept = kept and within
        _print(load.name, cost, "" if within else "  over budget")
    return 0 if kept else 1


def _print(name: str, cost: Cost, remark: str = "") -> None:
    """One line of the table."""
    wall = f"{cost.best:>10.1f}{cost.median:>10.1f}{cost.p99:>10.1f}"
    print(f"{name:<36}{wall}{cost.cpu_median:>12.1f}{cost.cpu_p99:>10.1f}{remark}")


if __name__ == "__main__":
    sys.exit(main())
