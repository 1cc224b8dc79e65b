"""The rules one session runs under, as values: what policy documents resolve to, and what the engine reads.

Every default is the safe one; a policy made of one instruction text has them all. Paths of session fields are GA paths
without `session.` (`audio.output.voice`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from relay.core.allowance import Allowance

RESPONSE_FIELDS = frozenset(
    {
        "metadata",
        "output_modalities",
        "max_output_tokens",
        "conversation",
        "input",
        "parallel_tool_calls",
        "reasoning",
    }
)
"""Every field of `response.create` that a policy can give to a client, the overrides apart."""


class Mode(StrEnum):
    """Whether verdicts are carried out, only written down, or not even that."""

    ENFORCE = "enforce"
    AUDIT = "audit"
    DISABLED = "disabled"


class ClientInstructions(StrEnum):
    """What becomes of instructions that a client sends."""

    OVERRIDE = "override"
    APPEND = "append"
    PREPEND = "prepend"
    DENY = "deny"
    PASSTHROUGH = "passthrough"


class Strictness(StrEnum):
    """What becomes of something that is not allowed: dropped in silence, or refused with an error."""

    ALLOW = "allow"
    STRIP = "strip"
    REFUSE = "refuse"


class OnDrift(StrEnum):
    """What to do when the service runs other instructions than the policy's."""

    LOG = "log"
    REASSERT = "reassert"
    END = "end"


class OnCanary(StrEnum):
    """What to do when the model recites its instructions."""

    LOG = "log"
    CUT = "cut"
    END = "end"


class OnSinkFailure(StrEnum):
    """What to do when the decision log cannot be written."""

    FAIL_CLOSED = "fail_closed"
    FAIL_OPEN = "fail_open"


@dataclass(frozen=True, slots=True)
class FieldRule:
    """How one session field is decided.

    `lock`: the value in force whatever a client sends. `default`: the value unless a client sends an allowed one.
    `allow`: the values a client may choose from (None: any well-formed one). `minimum`, `maximum`: a number outside is
    moved to the bound. `otherwise`: what becomes of a value that is not allowed (ALLOW: forwarded as it is).
    """

    has_lock: bool = False
    lock: Any = None
    has_default: bool = False
    default: Any = None
    allow: tuple[Any, ...] | None = None
    minimum: float | None = None
    maximum: float | None = None
    otherwise: Strictness = Strictness.STRIP


@dataclass(frozen=True, slots=True)
class InstructionRules:
    """The administrator's `text`, variables filled; `client` says what becomes of a client's, if not too long."""

    text: str = field(default="", repr=False)
    client: ClientInstructions = ClientInstructions.OVERRIDE
    client_max_chars: int = 4_000
    on_drift: OnDrift = OnDrift.REASSERT


@dataclass(frozen=True, slots=True)
class ModelRules:
    """Client names to deployments. `default` serves a client that names none, and any name when `unknown` is ALLOW."""

    default: str = ""
    map: dict[str, str] = field(default_factory=dict)
    unknown: Strictness = Strictness.ALLOW
    transcription_default: str | None = None
    transcription_map: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ResidencyRules:
    """Where at the service a session may be; None: anywhere. What is not told of a place is not in a list."""

    regions: frozenset[str] | None = None
    deployments: frozenset[str] | None = None

    @property
    def limited(self) -> bool:
        """Whether there is any place where it may not be."""
        return self.regions is not None or self.deployments is not None

    def allows(self, region: str | None, deployment: str) -> bool:
        """Whether it may be served in this region, by the deployment of this name there."""
        return (self.regions is None or region in self.regions) and (
            self.deployments is None or deployment in self.deployments
        )


@dataclass(frozen=True, slots=True)
class ResponseRules:
    """`overrides`: instructions, prompt, tools, tool_choice, voice of one response. `fields`: what else may be set."""

    overrides: Strictness = Strictness.STRIP
    fields: frozenset[str] = frozenset({"metadata", "output_modalities", "max_output_tokens", "conversation", "input"})
    out_of_band: bool = True
    max_in_flight: int = 2
    max_output_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class ItemRules:
    """What a client may do with items.

    `allow`: kinds it may create (`user.input_text`, `user.input_audio`, `user.input_image`, `function_call_output`;
    `assistant.output_text` is history import). What is done to existing items is done to those this client was shown.
    """

    allow: frozenset[str] = frozenset(
        {"user.input_text", "user.input_audio", "user.input_image", "function_call_output"}
    )
    history_import: bool = False
    retrieve: bool = True
    delete: bool = True
    truncate: bool = True
    insert_first: bool = False
    remote_images: bool = False
    max_text_chars: int = 100_000
    max_content_parts: int = 64


@dataclass(frozen=True, slots=True)
class ClientTool:
    """A function a client may bring: by name, with the administrator's definition, or by the hash of its schema."""

    name: str
    definition: dict[str, Any] | None = None
    schema_hash: str | None = None


@dataclass(frozen=True, slots=True)
class ToolRules:
    """Which tools there are.

    `admin`: always there, sent to the service, hidden from echoes. `client_functions`: ALLOW any, STRIP all but
    `client`, REFUSE the same with an error. MCP servers and connectors are never a client's to bring.
    """

    admin: tuple[dict[str, Any], ...] = ()
    client: tuple[ClientTool, ...] = ()
    client_functions: Strictness = Strictness.ALLOW
    max_tools: int = 128
    mcp_approvals: bool = False


@dataclass(frozen=True, slots=True)
class EventRules:
    """Client types beyond these are refused, server types beyond these withheld; None means all known ones.

    `hide_fields` are further session fields hidden in echoes; `pass_unknown` lets unknown server types through after a
    scan for policy text.
    """

    client: frozenset[str] | None = None
    server: frozenset[str] | None = None
    hide_fields: frozenset[str] = frozenset()
    rate_limits: bool = False
    input_audio_append: bool = False
    pass_unknown: bool = False
    max_event_bytes: int = 262_144
    max_depth: int = 32


@dataclass(frozen=True, slots=True)
class LimitRules:
    """None: no limit by the policy. Two of them end a session, with a notice `warn_seconds` before.

    `allowance` is what users and tenants may use together, beside what the settings allow.
    """

    session_seconds: int | None = None
    idle_seconds: int | None = None
    warn_seconds: int = 60
    events_per_second: int | None = None
    allowance: Allowance = field(default_factory=Allowance)


@dataclass(frozen=True, slots=True)
class CanaryRules:
    """Words that must not be heard or read from the model.

    `overlap_words`: a run of that many words of the instructions counts as one (0: off).
    """

    words: tuple[str, ...] = field(default=(), repr=False)
    overlap_words: int = 0
    action: OnCanary = OnCanary.LOG
