"""What the administrator decided for one session, as one value, and the session configurations composed from it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from relay.core.dialect import param_to_preview, session_to_ga, session_to_preview, session_to_preview_service
from relay.core.events import EventError
from relay.core.session_fields import DEFAULT_TRANSCRIPTION_NAME, JudgedSession, judge_session, redact_session

if TYPE_CHECKING:  # lifecycle imports this module
    from relay.core.lifecycle import Dialect
    from relay.errors import ErrorCode


class ClientInstructions(StrEnum):
    """What becomes of instructions that a client sends."""

    OVERRIDE = "override"


@dataclass(frozen=True, slots=True)
class EffectivePolicy:
    """The policy one session runs under.

    `revision` is the SHA-256 of the policy's canonical form: the text in force can be proved without showing it.
    `deployment` is what the service calls the model; `transcription_deployment` None removes transcription.
    """

    name: str
    revision: str
    instructions: str = field(repr=False)
    deployment: str
    transcription_deployment: str | None
    client_instructions: ClientInstructions = ClientInstructions.OVERRIDE


class ConfigRefusal(Exception):  # noqa: N818 - a refusal that a door turns into 400
    """A client's session configuration that cannot be used; `param` is the path as the client's dialect names it."""

    def __init__(self, code: ErrorCode, param: str | None) -> None:
        super().__init__(f"{code.value} ({param})")
        self.code = code
        self.param = param


def policy_from_instructions(
    text: str, deployment: str, transcription_deployment: str | None = None
) -> EffectivePolicy:
    """The policy of a configuration that consists of one instruction text.

    White space around it is dropped: the service's echo is compared exactly, and may not keep it.
    """
    text = text.strip()
    canonical = {
        "client_instructions": ClientInstructions.OVERRIDE.value,
        "deployment": deployment,
        "instructions": text,
        "transcription_deployment": transcription_deployment,
    }
    form = json.dumps(canonical, ensure_ascii=True, sort_keys=True, separators=(",", ":"))
    return EffectivePolicy(
        name="default",
        revision=hashlib.sha256(form.encode()).hexdigest(),
        instructions=text,
        deployment=deployment,
        transcription_deployment=transcription_deployment,
    )


def compose_service_session(
    policy: EffectivePolicy,
    client_session: dict[str, Any] | None,
    client_dialect: Dialect,
    service_dialect: Dialect,
) -> dict[str, Any]:
    """The complete session to mint at the service, in its dialect: the policy's, and what the client may choose.

    `client_session` is what the client sent with its mint or its offer. Raises ConfigRefusal.
    """
    judged = _judged(policy, client_session, client_dialect)
    session = {
        "type": "realtime",
        "model": policy.deployment,
        "instructions": policy.instructions,
        **judged.fields,
    }
    return session_to_preview_service(session) if service_dialect.value == "preview" else session


def describe_session(
    policy: EffectivePolicy,
    client_session: dict[str, Any] | None,
    dialect: Dialect,
    session_id: str,
    model: str,
    expires_at: int,
) -> dict[str, Any]:
    """The session of a mint answer, in the door's dialect: defaults and the client's choices, nothing of the policy.

    Raises ConfigRefusal.
    """
    judged = _judged(policy, client_session, dialect)
    session = _merged(_default_session(), judged.fields)
    shown = redact_session(
        {**session, "expires_at": expires_at},
        session_id=session_id,
        model=model,
        transcription_name=judged.transcription_name or DEFAULT_TRANSCRIPTION_NAME,
    )
    return session_to_preview(shown) if dialect.value == "preview" else shown


def transcription_name(policy: EffectivePolicy, client_session: dict[str, Any] | None, dialect: Dialect) -> str:
    """What the client calls its transcription model, to be shown in echoes. Raises ConfigRefusal."""
    return _judged(policy, client_session, dialect).transcription_name or DEFAULT_TRANSCRIPTION_NAME


def _judged(policy: EffectivePolicy, client_session: dict[str, Any] | None, dialect: Dialect) -> JudgedSession:
    session: Any = {} if client_session is None else client_session
    preview = dialect.value == "preview"
    if preview and isinstance(session, dict):
        session = session_to_ga(session)
    try:
        return judge_session(session, policy)
    except EventError as error:
        raise ConfigRefusal(error.code, _door_param(error.param, preview=preview)) from None


def _door_param(param: str | None, *, preview: bool) -> str | None:
    """A GA path as a door names it: a preview mint has no `session` around its fields."""
    if param is None or not preview:
        return param
    return param_to_preview(param).removeprefix("session.")


def _default_session() -> dict[str, Any]:
    """What the service does for a session that asks for nothing (Azure GA, recorded)."""
    return {
        "output_modalities": ["audio"],
        "max_output_tokens": "inf",
        "include": None,
        "tools": [],
        "audio": {
            "input": {
                "format": {"type": "audio/pcm", "rate": 24000},
                "transcription": None,
                "noise_reduction": None,
                "turn_detection": {
                    "type": "server_vad",
                    "threshold": 0.5,
                    "prefix_padding_ms": 300,
                    "silence_duration_ms": 200,
                    "idle_timeout_ms": None,
                    "create_response": True,
                    "interrupt_response": True,
                },
            },
            "output": {"format": {"type": "audio/pcm", "rate": 24000}, "speed": 1.0},
        },
    }


def _merged(session: dict[str, Any], choices: dict[str, Any]) -> dict[str, Any]:
    merged = dict(session)
    for name, value in choices.items():
        if name in ("audio", "input", "output"):
            merged[name] = _merged(merged.get(name, {}), value)
        else:
            merged[name] = value
    return merged
