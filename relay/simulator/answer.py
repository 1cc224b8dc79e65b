"""What the "model" answers: the speech repeated, a text about the text, or a function call."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from relay.simulator.audio import Samples, chirp
from relay.simulator.conversation import Item, text_of
from relay.simulator.listener import seconds_of

_EXAMPLES: dict[str, Any] = {
    "string": "example",
    "number": 1.5,
    "integer": 1,
    "boolean": True,
    "array": [],
    "object": {},
}


@dataclass(frozen=True, slots=True)
class Speech:
    """Said aloud, with its transcript."""

    transcript: str
    samples: Samples


@dataclass(frozen=True, slots=True)
class Text:
    """A written answer."""

    text: str


@dataclass(frozen=True, slots=True)
class FunctionCall:
    """`arguments` is a JSON text."""

    name: str
    arguments: str


Answer = Speech | Text | FunctionCall


def compose(
    *,
    last: Item | None,
    user_text: str | None,
    speech: Samples | None,
    tools: list[dict[str, Any]],
    tool_choice: Any,
    aloud: bool,
) -> Answer:
    """`speech` is the turn just heard, to be repeated; `user_text` the newest user message's text."""
    if called := _called_function(user_text, last, tools, tool_choice):
        return called
    words = _words(last, user_text, speech)
    if not aloud:
        return Text(words)
    return Speech(words, chirp() if speech is None else speech)


def _words(last: Item | None, user_text: str | None, speech: Samples | None) -> str:
    if speech is not None:
        return f"You spoke for {seconds_of(speech)} seconds, and this is what I heard."
    if last is not None and last["type"] == "function_call_output":
        return f"The function answered: {last['output'][:200]}"
    if user_text:
        return f"You wrote: {user_text[:200]}"
    return "Hello, I am the stand-in and I repeat what I hear."


def _called_function(
    user_text: str | None, last: Item | None, tools: list[dict[str, Any]], tool_choice: Any
) -> FunctionCall | None:
    if tool_choice == "none" or (last is not None and last["type"] == "function_call_output"):
        return None
    functions = {tool["name"]: tool for tool in tools if tool["type"] == "function"}
    if isinstance(tool_choice, dict) and tool_choice.get("name") in functions:
        return _call(functions[tool_choice["name"]])
    asked = re.search(r"\bcall ([\w-]+)", user_text or "", re.IGNORECASE)
    if asked and asked[1] in functions:
        return _call(functions[asked[1]])
    return None


def _call(tool: dict[str, Any]) -> FunctionCall:
    properties = tool.get("parameters", {}).get("properties", {})
    arguments = {name: _example(schema) for name, schema in properties.items()}
    return FunctionCall(tool["name"], json.dumps(arguments))


def _example(schema: Any) -> Any:
    if not isinstance(schema, dict):
        return None
    if schema.get("enum"):
        return schema["enum"][0]
    return _EXAMPLES.get(str(schema.get("type")))


def transcript_of(speech: Samples) -> str:
    """Count seconds: the stand-in's transcriber seconds; it understands nothing."""
    return f"({seconds_of(speech)} seconds of speech)"


def input_text(items: list[Item]) -> str | None:
    """Return the text of the newest user message of an out-of-band `input`."""
    users = [item for item in items if item["type"] == "message" and item["role"] == "user"]
    return text_of(users[-1]) if users else None
