"""What real clients send, unasked and in their own order (clients seen at work), as steps of a session.

`says` is what the service says in between: an id of an item or a call that the client then speaks of.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from relay.core.lifecycle import Dialect
from relay.core.policy import EffectivePolicy
from relay.core.policy_rules import Strictness
from vectors.case import P0, Client, Service, Step, called, p0, shown_item


@dataclass(frozen=True, slots=True)
class Habit:
    """One client from its first event on; `updates` is how many `session.updated` it waits for."""

    number: str
    name: str
    steps: tuple[Step, ...]
    updates: int
    door: Dialect = Dialect.GA
    policy: EffectivePolicy = P0
    webrtc_filter: bool = False
    early: bool = True  # its first events may come before the service has spoken


def sends(kind: str, event_id: str | None = None, **fields: Any) -> Client:
    named = {} if event_id is None else {"event_id": event_id}
    return Client({"type": kind, **named, **fields})


def says(text: str) -> dict[str, Any]:
    return {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}


TOOL = {
    "type": "function",
    "name": "get_weather",
    "description": "The weather somewhere.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
AGT_SESSION = {
    "type": "realtime",
    "model": "gpt-realtime",
    "instructions": "You are a helpful assistant.",
    "output_modalities": ["audio"],
    "audio": {
        "input": {
            "format": {"type": "audio/pcm", "rate": 24000},
            "transcription": {"model": "gpt-4o-mini-transcribe"},
            "turn_detection": {"type": "semantic_vad"},
            "noise_reduction": None,
        },
        "output": {"format": {"type": "audio/pcm", "rate": 24000}, "voice": "ash", "speed": 1},
    },
    "tool_choice": "auto",
    "tools": [TOOL],
    "prompt": None,
}
TRANSCRIBED = Service(
    {
        "type": "conversation.item.input_audio_transcription.completed",
        "event_id": "up_t",
        "item_id": "item_user",
        "content_index": 0,
        "transcript": "Hello.",
    }
)

AGT = (
    sends("session.update", session=AGT_SESSION),
    sends("session.update", session={"type": "realtime", "tracing": "auto"}),
    sends("session.update", session={**AGT_SESSION, "instructions": "You are another agent.", "tools": []}),
    sends("conversation.item.create", "agents_create_1", item=says("Hello")),
    sends("response.create", "agents_response_1"),
    TRANSCRIBED,
    sends("conversation.item.retrieve", item_id="item_user"),
    shown_item("item_answer"),
    sends("response.cancel"),
    sends("output_audio_buffer.clear"),
    sends("conversation.item.truncate", item_id="item_answer", content_index=0, audio_end_ms=812),
    called("call_1", "get_weather"),
    sends("conversation.item.create", item={"type": "function_call_output", "call_id": "call_1", "output": "sunny"}),
    sends("response.create", "agents_response_2"),
    sends("conversation.item.delete", "agents_delete_1", item_id="item_answer"),
)

TAN = (
    sends(
        "session.update",
        session={
            "type": "realtime",
            "instructions": "Be kind.",
            "output_modalities": ["audio"],
            "audio": {
                "input": {
                    "transcription": {"model": "whisper-1"},
                    "turn_detection": {"type": "semantic_vad", "eagerness": "medium"},
                },
                "output": {"voice": "alloy"},
            },
            "tools": [TOOL],
            "max_output_tokens": 4096,
        },
    ),
    sends("conversation.item.create", item=says("Hello")),
    sends("response.create"),
    sends("response.cancel"),
    called("call_2", "get_weather"),
    sends("conversation.item.create", item={"type": "function_call_output", "call_id": "call_2", "output": "{}"}),
    sends("response.create"),
)

NPM = (
    sends(
        "session.update",
        session={
            "type": "realtime",
            "instructions": "Talk like a friend.",
            "output_modalities": ["audio"],
            "include": ["item.input_audio_transcription.logprobs"],
            "parallel_tool_calls": True,
            "truncation": "auto",
        },
    ),
    sends("conversation.item.create", "event_abc", item={**says("Say hello."), "status": "completed"}),
    sends("response.create", "event_def", response={"output_modalities": ["text"], "metadata": {"topic": "greeting"}}),
    sends("input_audio_buffer.clear"),
)

GA_PAGE = (
    sends("conversation.item.create", item=says("hello there! Can you give me some vacation options?")),
    sends("response.create"),
)

SEED = (
    sends("session.update", session={"instructions": "You are a helpful AI assistant responding in natural language."}),
)

PCT = (
    sends(
        "session.update",
        session={
            "modalities": ["audio", "text"],
            "instructions": "Speak slowly.",
            "voice": "verse",
            "input_audio_transcription": {"model": "whisper-1"},
            "turn_detection": {"type": "server_vad", "threshold": 0.5, "prefix_padding_ms": 300},
            "tools": [TOOL],
            "tool_choice": "auto",
            "temperature": 0.8,
            "max_response_output_tokens": "inf",
        },
    ),
    sends("conversation.item.create", item=says("Hello")),
    sends("response.create", response={"modalities": ["audio", "text"], "temperature": 0.7}),
    called("call_3", "get_weather"),
    sends("conversation.item.create", item={"type": "function_call_output", "call_id": "call_3", "output": "{}"}),
    sends("response.create"),
)

WITH_TOOLS = p0(tools={"client_functions": Strictness.ALLOW})

HABITS = (
    Habit("V250", "seed_page", SEED, 1, Dialect.PREVIEW),
    Habit("V251", "openai_agents", AGT, 3),
    Habit("V251", "openai_agents_with_tools", AGT, 3, policy=WITH_TOOLS),
    Habit("V252", "openai_node", NPM, 1),
    Habit("V253", "tanstack", TAN, 1),
    Habit("V254", "microsofts_ga_page", GA_PAGE, 0, webrtc_filter=True),
    Habit("V255", "preview_components", PCT, 1, Dialect.PREVIEW, early=False),
    Habit("V255", "preview_components_with_tools", PCT, 1, Dialect.PREVIEW, WITH_TOOLS, early=False),
)
