"""One client event judged: what of it goes to the service. Values in, a verdict out (policy: the bypass matrix)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from relay.core.events import EventError
from relay.core.field_checks import wrong_type, wrong_value
from relay.core.item_rules import ItemJudge, is_history, judge_audio, judge_id, judge_known_item
from relay.core.response_rules import judge_response
from relay.core.session_rules import judge_session
from relay.core.verdicts import Rule, Verdict
from relay.errors import ErrorCode

if TYPE_CHECKING:
    from relay.core.policy import EffectivePolicy
    from relay.core.session_past import SessionPast

_LONGEST_EVENT_ID = 512
_MOST_INDEX = 10_000
_MOST_AUDIO_MS = 10_000_000


@dataclass(slots=True)  # not frozen: one is made for every event, and nobody keeps it
class Outcome:
    """What a client event becomes.

    `event` is the rebuilt GA event without an id; None when none of the client's own is left to send. Of a
    `session.update` two things go apart, as updates of the relay's own: `instructions`, the client's text to be
    combined with the policy's, and `functions`, to be put behind the administrator's tools. `refused` is answered with
    an error although the rest is done. `transcription_name` is what the client now calls its transcription model;
    `call_id` the function call that this event answers, `approval_id` the approval; `out_of_band` tells that it starts
    a response outside the conversation.
    """

    verdict: Verdict
    rule: Rule
    event: dict[str, Any] | None
    instructions: str | None = None
    functions: list[dict[str, Any]] | None = None
    refused: EventError | None = None
    transcription_name: str | None = None
    call_id: str | None = None
    approval_id: str | None = None
    out_of_band: bool = False


def client_event_id(event: dict[str, Any]) -> str | None:
    """The client's own id, None when it is no string or longer than the protocol's 512 characters."""
    event_id = event.get("event_id")
    return event_id if isinstance(event_id, str) and len(event_id) <= _LONGEST_EVENT_ID else None


def judge_client_event(event: dict[str, Any], policy: EffectivePolicy, past: SessionPast) -> Outcome:
    """Judge an event of a known type, GA form. Changes nothing. Raises EventError when it is refused."""
    name = event["type"]
    if policy.events.client is not None and name not in policy.events.client:
        raise EventError(ErrorCode.POLICY_VIOLATION, "type", Rule.CLIENT_TYPES)
    match name:
        case "session.update":
            return _session_update(event, policy, past)
        case "response.create":
            return _response_create(event, policy, past)
        case "conversation.item.create":
            return _item_create(event, policy, past)
        case "input_audio_buffer.append":
            if not policy.events.input_audio_append:
                # It would pass by the media path, its gate and its counters.
                raise EventError(ErrorCode.POLICY_VIOLATION, "type", Rule.INPUT_AUDIO)
            return _outcome(event, {"audio": judge_audio(event.get("audio"), "audio")})
    return _outcome(event, _plain_fields(event, policy, past))


def _plain_fields(event: dict[str, Any], policy: EffectivePolicy, past: SessionPast) -> dict[str, Any]:
    """The fields of an event that has only ids and positions."""
    match event["type"]:
        case "conversation.item.retrieve":
            _allow(Rule.ITEM_RETRIEVE, allowed=policy.items.retrieve)
            return {"item_id": judge_known_item(event.get("item_id"), "item_id", past.items)}
        case "conversation.item.delete":
            _allow(Rule.ITEM_DELETE, allowed=policy.items.delete)
            return {"item_id": judge_known_item(event.get("item_id"), "item_id", past.items)}
        case "conversation.item.truncate":
            _allow(Rule.ITEM_TRUNCATE, allowed=policy.items.truncate)
            return {
                "item_id": judge_known_item(event.get("item_id"), "item_id", past.items),
                "content_index": _count(event.get("content_index"), "content_index", _MOST_INDEX),
                "audio_end_ms": _count(event.get("audio_end_ms"), "audio_end_ms", _MOST_AUDIO_MS),
            }
        case "response.cancel":
            response_id = event.get("response_id")
            return {} if response_id is None else {"response_id": judge_id(response_id, "response_id")}
        case "input_audio_buffer.commit" | "input_audio_buffer.clear" | "output_audio_buffer.clear":
            return {}
    raise EventError(ErrorCode.UNKNOWN_EVENT, "type", Rule.TYPE)


def _allow(rule: Rule, *, allowed: bool) -> None:
    if not allowed:
        raise EventError(ErrorCode.POLICY_VIOLATION, "type", rule)


def _session_update(event: dict[str, Any], policy: EffectivePolicy, past: SessionPast) -> Outcome:
    judged = judge_session(event.get("session"), policy, audio_started=past.responses.audio_started)
    update = {"type": "session.update", "session": {"type": "realtime", **judged.fields}} if judged.fields else None
    return Outcome(
        judged.verdict,
        judged.rule,
        update,
        instructions=judged.instructions,
        functions=judged.functions,
        refused=judged.refused,
        transcription_name=judged.transcription_name,
    )


def _response_create(event: dict[str, Any], policy: EffectivePolicy, past: SessionPast) -> Outcome:
    response = event.get("response")
    if response is None:
        return _outcome(event, {})
    judged = judge_response(response, policy, past)
    sent: dict[str, Any] = {"type": "response.create"}
    if judged.fields:
        sent["response"] = judged.fields
    out_of_band = judged.fields.get("conversation") == "none"
    return Outcome(judged.verdict, judged.rule, sent, out_of_band=out_of_band)


def _item_create(event: dict[str, Any], policy: EffectivePolicy, past: SessionPast) -> Outcome:
    judge = ItemJudge(policy.items, past.items, mcp_approvals=policy.tools.mcp_approvals)
    item = judge.item(event.get("item"), "item")
    fields: dict[str, Any] = {"item": item}
    previous = event.get("previous_item_id")
    if previous == "root":
        if policy.items.insert_first:
            fields["previous_item_id"] = "root"
    elif previous is not None:
        try:
            fields["previous_item_id"] = judge_known_item(previous, "previous_item_id", past.items, as_place=True)
        except EventError as error:
            raise EventError(error.code, error.param, Rule.ITEM_POSITION) from None
    rule = Rule.ITEM_POSITION if previous == "root" else Rule.FIELDS
    passed = Rule.ITEM_HISTORY if is_history(item) else Rule.ALLOWED
    return _outcome(event, fields, rule, passed)


def _count(value: Any, path: str, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise wrong_type(path)
    if not 0 <= value <= most:
        raise wrong_value(path)
    return value


def _outcome(
    event: dict[str, Any], fields: dict[str, Any], rule: Rule = Rule.FIELDS, passed: Rule = Rule.ALLOWED
) -> Outcome:
    """Forward under `passed` when the rebuilt event says all that the client's did, else a strip under `rule`."""
    rebuilt = {"type": event["type"], **fields}
    said = {name: value for name, value in event.items() if name != "event_id"} if "event_id" in event else event
    whole = said == rebuilt
    item = fields.get("item", {})
    return Outcome(
        Verdict.FORWARD if whole else Verdict.STRIP,
        passed if whole else rule,
        rebuilt,
        call_id=item.get("call_id"),
        approval_id=item.get("approval_request_id"),
    )
