"""What a client may say about one response: nothing that outlives the policy for the time of an answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from relay.core.events import EventError
from relay.core.field_checks import Unfit, wrong_type, wrong_value
from relay.core.instruction_text import combine, is_too_long
from relay.core.item_rules import ItemJudge
from relay.core.policy_rules import ClientInstructions, Strictness
from relay.core.session_rules import judge_value
from relay.core.tool_rules import all_tools, judge_tools
from relay.core.verdicts import Rule, Verdict
from relay.errors import ErrorCode

if TYPE_CHECKING:
    from relay.core.policy import EffectivePolicy
    from relay.core.session_past import SessionPast

_METADATA_PAIRS = 16
_METADATA_KEY = 64
_METADATA_VALUE = 512
RESERVED_PREFIX = "relay_"
"""Metadata under such names is the relay's own."""

_OVERRIDES = ("instructions", "prompt", "tools", "tool_choice", "audio", "model")
_MERGING = (ClientInstructions.APPEND, ClientInstructions.PREPEND)


@dataclass(frozen=True, slots=True)
class JudgedResponse:
    """The rebuilt `response`, and what touched it."""

    fields: dict[str, Any]
    verdict: Verdict = Verdict.FORWARD
    rule: Rule = Rule.ALLOWED


def judge_response(response: Any, policy: EffectivePolicy, past: SessionPast) -> JudgedResponse:
    """Judge the `response` of a `response.create`. Raises EventError when it is refused."""
    if not isinstance(response, dict):
        raise wrong_type("response")
    rebuilt = {
        **_overrides(response, policy),
        **_context(response, policy, past),
        **_plain(response, policy),
    }
    if rebuilt == response:
        return JudgedResponse(rebuilt)
    overrides = [name for name in _OVERRIDES if name in response and rebuilt.get(name) != response[name]]
    if not overrides:
        replaced = rebuilt.keys() == response.keys()
        return JudgedResponse(rebuilt, Verdict.REWRITE if replaced else Verdict.STRIP, Rule.RESPONSE_FIELDS)
    merged = overrides == ["instructions"] and "instructions" in rebuilt
    return JudgedResponse(rebuilt, Verdict.REWRITE if merged else Verdict.STRIP, Rule.RESPONSE_OVERRIDES)


def _overrides(response: dict[str, Any], policy: EffectivePolicy) -> dict[str, Any]:
    """What would stand in for the session's own values. `prompt` and `model` are never a client's to choose."""
    asked = [name for name in _OVERRIDES if response.get(name) is not None]
    if not asked:
        return {}
    if policy.responses.overrides is Strictness.REFUSE:
        raise EventError(ErrorCode.POLICY_VIOLATION, f"response.{asked[0]}", Rule.RESPONSE_OVERRIDES)
    rebuilt: dict[str, Any] = {}
    if "instructions" in asked and (text := _instructions(response["instructions"], policy)) is not None:
        rebuilt["instructions"] = text
    if policy.responses.overrides is not Strictness.ALLOW:
        return rebuilt
    if "tools" in asked:
        tools = judge_tools(response["tools"], "response.tools", policy.tools)
        if tools.functions or not response["tools"]:
            rebuilt["tools"] = all_tools(policy.tools, tools.functions)
    if "tool_choice" in asked:
        _take(rebuilt, "tool_choice", response["tool_choice"], policy)
    match response.get("audio"):
        case {"output": {"voice": voice}}:
            _take_voice(rebuilt, voice, policy)
    return rebuilt


def _instructions(value: Any, policy: EffectivePolicy) -> str | None:
    """The text for one response, which replaces the session's at the service (OpenAI, documented); None to leave it.

    So a merged one holds the policy again, and one under `passthrough` needs an explicit `overrides: allow`.
    """
    if not isinstance(value, str):
        raise wrong_type("response.instructions")
    rules = policy.instructions
    if rules.client is ClientInstructions.DENY:
        raise EventError(ErrorCode.POLICY_VIOLATION, "response.instructions", Rule.RESPONSE_OVERRIDES)
    allowed = rules.client is ClientInstructions.PASSTHROUGH and policy.responses.overrides is Strictness.ALLOW
    if not value.strip() or not (allowed or rules.client in _MERGING):
        return None
    if is_too_long(value, rules):
        raise EventError(ErrorCode.POLICY_VIOLATION, "response.instructions", Rule.RESPONSE_OVERRIDES)
    return combine(rules, value)


def _context(response: dict[str, Any], policy: EffectivePolicy, past: SessionPast) -> dict[str, Any]:
    """What the response is made from, and whether it joins the conversation.

    Not stripped when it is not allowed: the model would answer to something else than was asked.
    """
    rules = policy.responses
    rebuilt: dict[str, Any] = {}
    target = response.get("conversation")
    if target is not None:
        if not isinstance(target, str):
            raise wrong_type("response.conversation")
        if target not in ("auto", "none"):
            raise wrong_value("response.conversation", Rule.RESPONSE_FIELDS)
        if target == "none":
            _check_out_of_band(policy, past)
        if "conversation" in rules.fields or target == "none":
            rebuilt["conversation"] = target
    if response.get("input") is not None:
        if "input" not in rules.fields:
            raise EventError(ErrorCode.POLICY_VIOLATION, "response.input", Rule.RESPONSE_INPUT)
        judge = ItemJudge(policy.items, past.items, mcp_approvals=policy.tools.mcp_approvals)
        rebuilt["input"] = judge.input(response["input"], "response.input")
    return rebuilt


def _check_out_of_band(policy: EffectivePolicy, past: SessionPast) -> None:
    rules = policy.responses
    if not rules.out_of_band or "conversation" not in rules.fields:
        raise EventError(ErrorCode.POLICY_VIOLATION, "response.conversation", Rule.RESPONSE_OUT_OF_BAND)
    if past.responses.out_of_band >= rules.max_in_flight:
        raise EventError(ErrorCode.RATE_LIMIT_EXCEEDED, "response.conversation", Rule.RESPONSE_OUT_OF_BAND)


def _plain(response: dict[str, Any], policy: EffectivePolicy) -> dict[str, Any]:
    """Fields of the answer's own form, within the session's rules for the same."""
    rebuilt: dict[str, Any] = {}
    allowed = policy.responses.fields
    if response.get("metadata") is not None:
        metadata = _metadata(response["metadata"])
        if "metadata" in allowed:
            rebuilt["metadata"] = metadata
    for name in ("output_modalities", "max_output_tokens", "parallel_tool_calls", "reasoning"):
        if response.get(name) is not None and name in allowed:
            _take(rebuilt, name, response[name], policy)
    most = policy.responses.max_output_tokens
    tokens = rebuilt.get("max_output_tokens")
    if most is not None and tokens is not None and (tokens == "inf" or tokens > most):
        rebuilt["max_output_tokens"] = most
    return rebuilt


def _take(rebuilt: dict[str, Any], name: str, value: Any, policy: EffectivePolicy) -> None:
    try:
        rebuilt[name] = judge_value(name, value, policy, f"response.{name}")
    except Unfit:
        return


def _take_voice(rebuilt: dict[str, Any], voice: Any, policy: EffectivePolicy) -> None:
    try:
        judged = judge_value("audio.output.voice", voice, policy, "response.audio.output.voice")
    except Unfit:
        return
    rebuilt["audio"] = {"output": {"voice": judged}}


def _metadata(metadata: Any) -> dict[str, str]:
    if not isinstance(metadata, dict):
        raise wrong_type("response.metadata")
    fits = len(metadata) <= _METADATA_PAIRS and all(
        isinstance(value, str)
        and len(key) <= _METADATA_KEY
        and len(value) <= _METADATA_VALUE
        and not key.startswith(RESERVED_PREFIX)
        for key, value in metadata.items()
    )
    if not fits:
        raise wrong_value("response.metadata", Rule.RESPONSE_FIELDS)
    return metadata
