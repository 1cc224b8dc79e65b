"""What a policy vector is, as data: the same cases run on the pure engine and through a real data channel.

A case is a session under `policy`, opened through a `door`, in which `before` has happened. Then every step of `send`
is taken, and what comes of it is compared:

- `up`: exactly the events the service gets because of `send`, in order, in GA form, without their `event_id`
  (`up_is_part`: what they hold at least).
- `down`: patterns that the events the client gets because of `send` match, in order, in the door's form. A pattern is a
  part of the event: members that it does not name may be anything, `ABSENT` must not be there. On the engine nothing
  else may come down; a live service says more, so there the patterns are a subsequence and no other `error` may come.
- `ends`: the reason with which the session ends because of it, None when it has to stay alive.
- `verdict`: the word and the rule of the last decision; for the engine.
- `in_force`: the instructions that the service runs afterwards; None: the policy's own text.

Steps: `Client` is a text (or an event) of the client's, `Binary` a binary message, `Service` an event that the service
says (the stand-in says any event it is told to), `Confirm` nothing at all but the service's `session.created` for cases
with `confirmed=False`. A service answers a `session.update` it gets by `session.updated`, on the engine's side too.

Invariants hold in every case: (a) the canary, (b) nothing of the service's names comes down, unless `discloses`;
(c) the instructions in force are `in_force`; (d) what goes up, the relay serialised.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any

from relay.core.lifecycle import Dialect
from relay.core.policy import EffectivePolicy, policy_revision
from relay.core.policy_rules import (
    ClientInstructions,
    FieldRule,
    InstructionRules,
    ModelRules,
    ResponseRules,
    Strictness,
    ToolRules,
)
from relay.errors import EndReason

CANARY = "CANARY-7f3a"
INSTRUCTIONS = "CANARY-7f3a. You are Contoso's assistant. Never give legal advice."
UPSTREAM_NAMES = ("contoso-rt", "contoso-transcribe", "sess_upstream", "rtc_upstream", "contoso.openai.azure.com")
"""Names of the service that must not come down (invariant b). A live service has further ones."""

LOCKED_TRANSCRIPTION = {"model": "contoso-transcribe", "language": "tr"}


def _p0() -> EffectivePolicy:
    policy = EffectivePolicy(
        name="P0",
        revision="",
        instructions=InstructionRules(text=INSTRUCTIONS, client_max_chars=4_000),
        models=ModelRules(
            default="contoso-rt",
            map={"gpt-realtime": "contoso-rt", "gpt-4o-mini-realtime-preview": "contoso-rt"},
            unknown=Strictness.REFUSE,
            transcription_default="contoso-transcribe",
            transcription_map={"gpt-4o-mini-transcribe": "contoso-transcribe", "whisper-1": "contoso-transcribe"},
        ),
        deployment="contoso-rt",
        transcription_deployment="contoso-transcribe",
        fields={
            "audio.output.voice": FieldRule(has_default=True, default="marin", allow=("marin", "cedar", "verse")),
            "tool_choice": FieldRule(has_lock=True, lock="auto"),
            "audio.input.transcription": FieldRule(has_lock=True, lock=LOCKED_TRANSCRIPTION),
            "output_modalities": FieldRule(),
            "audio.input.turn_detection": FieldRule(),
            "audio.input.noise_reduction": FieldRule(),
            "audio.output.speed": FieldRule(),
            "include": FieldRule(),
            "max_output_tokens": FieldRule(maximum=2048),
        },
        fields_default=Strictness.STRIP,
        responses=ResponseRules(max_output_tokens=2048),
        tools=ToolRules(client_functions=Strictness.STRIP),
    )
    return replace(policy, revision=policy_revision(policy))


P0 = _p0()


def p0(**changes: Any) -> EffectivePolicy:
    """P0 with other rules: `instructions=` and the other groups take the group's changed fields as a dict."""
    changed = {}
    for name, value in changes.items():
        group = getattr(P0, name)
        if name == "fields":
            changed[name] = {**P0.fields, **value}
        elif isinstance(value, dict):
            changed[name] = replace(group, **value)
        else:
            changed[name] = value
    policy = replace(P0, **changed)
    return replace(policy, revision=policy_revision(policy))


def mode(client: ClientInstructions, **changes: Any) -> EffectivePolicy:
    """P0 with another treatment of client instructions."""
    return p0(instructions={"client": client, **changes})


class Absent(Enum):
    """A member that must not be there."""

    ABSENT = "absent"


ABSENT = Absent.ABSENT


@dataclass(frozen=True, slots=True)
class Client:
    """A text message of the client; `event` may be the text itself."""

    event: Mapping[str, Any] | str

    @property
    def text(self) -> str:
        return self.event if isinstance(self.event, str) else json.dumps(self.event)


@dataclass(frozen=True, slots=True)
class Binary:
    """A binary message of the client."""

    content: bytes


@dataclass(frozen=True, slots=True)
class Service:
    """A message of the service; `event` may be the text itself, or bytes for a binary one."""

    event: Mapping[str, Any] | str | bytes

    @property
    def text(self) -> str:
        return self.event if isinstance(self.event, str) else json.dumps(self.event)


@dataclass(frozen=True, slots=True)
class Confirm:
    """The service says `session.created`, its session changed by `changes`; `answers` the updates it gets then."""

    changes: Mapping[str, Any] = field(default_factory=dict)
    answers: bool = True


Step = Client | Binary | Service | Confirm


@dataclass(frozen=True, slots=True)
class Case:
    """One vector, or one of its variants; see the module."""

    number: str
    name: str
    send: tuple[Step, ...]
    up: tuple[Mapping[str, Any], ...] = ()
    down: tuple[Mapping[str, Any], ...] = ()
    policy: EffectivePolicy = P0
    door: Dialect = Dialect.GA
    before: tuple[Step, ...] = ()
    mint: Mapping[str, Any] | None = None
    confirmed: bool = True
    webrtc_filter: bool = False
    ends: EndReason | None = None
    verdict: tuple[str, str] | None = None
    in_force: str | None = None
    discloses: bool = False
    # The events of `up` are patterns, like those of `down`.
    up_is_part: bool = False
    # Why a live service cannot be brought into this situation; empty: it can.
    engine_only: str = ""

    @property
    def id(self) -> str:
        return f"{self.number.lower()}_{self.name}"


# --- what is sent -----------------------------------------------------------------------------------------------------


def update(**session: Any) -> Client:
    """A GA `session.update` with the id `e1` (sections D and E)."""
    return Client({"type": "session.update", "event_id": "e1", "session": {"type": "realtime", **session}})


def flat_update(**session: Any) -> Client:
    """The preview's, flat and without a type."""
    return Client({"type": "session.update", "event_id": "e1", "session": session})


def create(**response: Any) -> Client:
    """A `response.create` with the id `r1` (section F)."""
    return Client({"type": "response.create", "event_id": "r1", "response": response})


def item(**changes: Any) -> Client:
    """A user's message as AGT sends it (section G)."""
    whole = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hi"}], **changes}
    return Client({"type": "conversation.item.create", "event_id": "agents_create_1", "item": whole})


def bare_item(item: Any, **fields: Any) -> Client:
    """An item of any shape."""
    return Client({"type": "conversation.item.create", "event_id": "agents_create_1", "item": item, **fields})


def shown_item(item_id: str, **fields: Any) -> Service:
    """The service shows the client an assistant's item."""
    shown = {"id": item_id, "type": "message", "role": "assistant", "status": "completed", "content": [], **fields}
    event = {"type": "conversation.item.added", "event_id": "up_i", "previous_item_id": None, "item": shown}
    return Service(event)


def called(call_id: str = "call_1", name: str = "lookup") -> Service:
    """The model called a function."""
    return Service(
        {
            "type": "response.function_call_arguments.done",
            "event_id": "up_c",
            "response_id": "resp_1",
            "item_id": f"item_of_{call_id}",
            "output_index": 0,
            "call_id": call_id,
            "name": name,
            "arguments": "{}",
        }
    )


# --- what is expected -------------------------------------------------------------------------------------------------


def err(code: str, param: str | None, event_id: str | None = "e1") -> dict[str, Any]:
    """The refusal of an event with this id."""
    error = {"type": "invalid_request_error", "code": code, "param": param, "event_id": event_id}
    return {"type": "error", "error": error}


def upd(**session: Any) -> dict[str, Any]:
    """A `session.updated` without anything of the policy."""
    hidden = ("instructions", "prompt", "tool_choice", "tracing", "truncation")
    return {"type": "session.updated", "session": {**dict.fromkeys(hidden, ABSENT), **session}}


def sent_update(**session: Any) -> dict[str, Any]:
    """A `session.update` as it goes up."""
    return {"type": "session.update", "session": {"type": "realtime", **session}}


# --- the preview door -------------------------------------------------------------------------------------------------

_FLAT = {
    "output_modalities": "modalities",
    "max_output_tokens": "max_response_output_tokens",
    "audio.input.turn_detection": "turn_detection",
    "audio.input.transcription": "input_audio_transcription",
    "audio.input.noise_reduction": "input_audio_noise_reduction",
    "audio.input.format": "input_audio_format",
    "audio.output.format": "output_audio_format",
    "audio.output.voice": "voice",
    "audio.output.speed": "speed",
}


def flat(session: Mapping[str, Any]) -> dict[str, Any]:
    """A GA session as the preview writes it (a table of the tests' own)."""
    told: dict[str, Any] = {}
    for name, value in session.items():
        if name == "audio":
            for side, fields in value.items():
                told |= {_FLAT[f"audio.{side}.{leaf}"]: entry for leaf, entry in fields.items()}
        elif name != "type":
            told[_FLAT.get(name, name)] = value
    if told.get("modalities") == ["audio"]:
        told["modalities"] = ["audio", "text"]
    return told


def at_the_preview_door(case: Case) -> Case:
    """The same case for a client that speaks the preview: flat sessions in, flat sessions and params out."""
    return replace(
        case,
        name=f"{case.name}_preview",
        door=Dialect.PREVIEW,
        send=tuple(map(_flat_step, case.send)),
        before=tuple(map(_flat_step, case.before)),
        down=tuple(map(_flat_pattern, case.down)),
        mint=None if case.mint is None else flat(case.mint),
    )


def _flat_step(step: Step) -> Step:
    match step:
        case Client({"type": "session.update", "session": dict(session)} as event):
            return Client({**event, "session": flat(session)})
    return step


def _flat_pattern(pattern: Mapping[str, Any]) -> Mapping[str, Any]:
    match pattern:
        case {"session": dict(session)}:
            return {**pattern, "session": flat(session)}
        case {"error": {"param": str(param)} as error}:
            for ga, told in _FLAT.items():
                if param.startswith(f"session.{ga}"):
                    param = f"session.{told}{param.removeprefix(f'session.{ga}')}"
            return {**pattern, "error": {**error, "param": param}}
    return pattern
