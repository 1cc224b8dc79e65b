"""One client event judged: what of it goes to the service. Values in, a verdict out (policy: the bypass matrix)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from relay.core.events import EventError
from relay.core.field_checks import Unfit, wrong_type, wrong_value
from relay.core.item_rules import judge_id, judge_input, judge_item, judge_known_item
from relay.core.session_fields import judge_session, max_output_tokens, output_modalities
from relay.core.verdicts import Rule, Verdict
from relay.errors import ErrorCode

if TYPE_CHECKING:
    from relay.core.conversation import Conversation
    from relay.core.policy import EffectivePolicy

_LONGEST_EVENT_ID = 512
_MOST_INDEX = 10_000
_MOST_AUDIO_MS = 10_000_000
_METADATA_PAIRS = 16
_METADATA_KEY = 64
_METADATA_VALUE = 512
_RESERVED_PREFIX = "relay_"
_OVERRIDES = frozenset({"instructions", "prompt", "tools", "tool_choice", "audio", "model"})


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a client event becomes.

    `event` is the rebuilt GA event without an id; None when nothing is left to send (a `session.update` that the relay
    answers itself). `transcription_name` is what the client now calls its transcription model; `call_id` the function
    call that this event answers; `out_of_band` tells that it starts a response outside the conversation.
    """

    verdict: Verdict
    rule: Rule
    event: dict[str, Any] | None
    transcription_name: str | None = None
    call_id: str | None = None
    out_of_band: bool = False


def client_event_id(event: dict[str, Any]) -> str | None:
    """The client's own id, None when it is no string or longer than the protocol's 512 characters."""
    event_id = event.get("event_id")
    return event_id if isinstance(event_id, str) and len(event_id) <= _LONGEST_EVENT_ID else None


def judge_client_event(event: dict[str, Any], policy: EffectivePolicy, conversation: Conversation) -> Outcome:
    """Judge an event of a known type, GA form. Raises EventError when it is refused."""
    match event["type"]:
        case "session.update":
            return _session_update(event, policy, conversation)
        case "response.create":
            return _response_create(event, conversation)
        case "conversation.item.create":
            return _item_create(event, conversation)
        case "input_audio_buffer.append":
            # It would pass by the media path, its gate and its counters.
            raise EventError(ErrorCode.POLICY_VIOLATION, "type", Rule.INPUT_AUDIO)
    return _outcome(event, _plain_fields(event, conversation))


def _plain_fields(event: dict[str, Any], conversation: Conversation) -> dict[str, Any]:
    """The fields of an event that has only ids and positions."""
    match event["type"]:
        case "conversation.item.retrieve" | "conversation.item.delete":
            return {"item_id": judge_known_item(event.get("item_id"), "item_id", conversation)}
        case "conversation.item.truncate":
            return {
                "item_id": judge_known_item(event.get("item_id"), "item_id", conversation),
                "content_index": _count(event.get("content_index"), "content_index", _MOST_INDEX),
                "audio_end_ms": _count(event.get("audio_end_ms"), "audio_end_ms", _MOST_AUDIO_MS),
            }
        case "response.cancel":
            response_id = event.get("response_id")
            return {} if response_id is None else {"response_id": judge_id(response_id, "response_id")}
        case "input_audio_buffer.commit" | "input_audio_buffer.clear" | "output_audio_buffer.clear":
            return {}
    raise EventError(ErrorCode.UNKNOWN_EVENT, "type", Rule.TYPE)


def _session_update(event: dict[str, Any], policy: EffectivePolicy, conversation: Conversation) -> Outcome:
    judged = judge_session(event.get("session"), policy, audio_started=conversation.audio_started)
    match judged.rule:
        case Rule.ALLOWED:
            verdict = Verdict.FORWARD
        case Rule.SESSION_TRANSCRIPTION if judged.transcription_name is not None:
            verdict = Verdict.REWRITE
        case _:
            verdict = Verdict.STRIP
    update = None
    if judged.fields:
        update = {"type": "session.update", "session": {"type": "realtime", **judged.fields}}
    return Outcome(verdict, judged.rule, update, judged.transcription_name)


def _response_create(event: dict[str, Any], conversation: Conversation) -> Outcome:
    response = event.get("response")
    if response is None:
        return _outcome(event, {})
    if not isinstance(response, dict):
        raise wrong_type("response")
    rebuilt = _response_fields(response, conversation)
    out_of_band = rebuilt.get("conversation") == "none"
    if out_of_band and not conversation.begin_out_of_band():
        raise EventError(ErrorCode.RATE_LIMIT_EXCEEDED, "response.conversation", Rule.RESPONSE_OUT_OF_BAND)
    sent: dict[str, Any] = {"type": "response.create"}
    if rebuilt:
        sent["response"] = rebuilt
    if rebuilt == response:
        return Outcome(Verdict.FORWARD, Rule.ALLOWED, sent, out_of_band=out_of_band)
    overrides = not _OVERRIDES.isdisjoint(response)
    rule = Rule.RESPONSE_OVERRIDES if overrides else Rule.RESPONSE_FIELDS
    return Outcome(Verdict.STRIP, rule, sent, out_of_band=out_of_band)


def _response_fields(response: dict[str, Any], conversation: Conversation) -> dict[str, Any]:
    rebuilt: dict[str, Any] = {}
    target = response.get("conversation")
    if target is not None:
        if not isinstance(target, str):
            raise wrong_type("response.conversation")
        if target not in ("auto", "none"):
            raise wrong_value("response.conversation", Rule.RESPONSE_FIELDS)
        rebuilt["conversation"] = target
    if response.get("input") is not None:
        rebuilt["input"] = judge_input(response["input"], "response.input", conversation)
    if response.get("metadata") is not None:
        rebuilt["metadata"] = _metadata(response["metadata"])
    for name, check in (("output_modalities", output_modalities), ("max_output_tokens", max_output_tokens)):
        if response.get(name) is not None:
            try:
                rebuilt[name] = check(response[name], f"response.{name}")
            except Unfit:
                continue
    return rebuilt


def _metadata(metadata: Any) -> dict[str, str]:
    if not isinstance(metadata, dict):
        raise wrong_type("response.metadata")
    fits = len(metadata) <= _METADATA_PAIRS and all(
        isinstance(value, str)
        and len(key) <= _METADATA_KEY
        and len(value) <= _METADATA_VALUE
        and not key.startswith(_RESERVED_PREFIX)
        for key, value in metadata.items()
    )
    if not fits:
        raise wrong_value("response.metadata", Rule.RESPONSE_FIELDS)
    return metadata


def _item_create(event: dict[str, Any], conversation: Conversation) -> Outcome:
    item = judge_item(event.get("item"), "item", conversation)
    fields: dict[str, Any] = {"item": item}
    previous = event.get("previous_item_id")
    if previous is not None and previous != "root":
        try:
            fields["previous_item_id"] = judge_known_item(previous, "previous_item_id", conversation)
        except EventError as error:
            raise EventError(error.code, error.param, Rule.ITEM_POSITION) from None
    rule = Rule.ITEM_POSITION if previous == "root" else Rule.FIELDS
    return _outcome(event, fields, rule, item.get("call_id"))


def _count(value: Any, path: str, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise wrong_type(path)
    if not 0 <= value <= most:
        raise wrong_value(path)
    return value


def _outcome(
    event: dict[str, Any], fields: dict[str, Any], rule: Rule = Rule.FIELDS, call_id: str | None = None
) -> Outcome:
    """Forward when the rebuilt event says all that the client's did, else a strip under `rule`."""
    rebuilt = {"type": event["type"], **fields}
    whole = {name: value for name, value in event.items() if name != "event_id"} == rebuilt
    return Outcome(
        Verdict.FORWARD if whole else Verdict.STRIP, Rule.ALLOWED if whole else rule, rebuilt, call_id=call_id
    )
