"""Which conversation items a client may put before the model, rebuilt from what is allowed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from relay.core.events import EventError
from relay.core.field_checks import Check, Unfit, choice, text, wrong_type, wrong_value
from relay.core.verdicts import Rule
from relay.errors import ErrorCode

if TYPE_CHECKING:
    from relay.core.conversation import Conversation

_LONGEST_ID = 64
_MOST_PARTS = 100
_LONGEST = 262_144

_text = text(_LONGEST)
_base64 = text(_LONGEST, r"[A-Za-z0-9+/]*={0,2}")
_image = text(_LONGEST, r"data:image/(?:png|jpeg|webp|gif);base64,[A-Za-z0-9+/]+={0,2}")
_detail = choice("auto", "low", "high")


def judge_item(item: Any, path: str, conversation: Conversation) -> dict[str, Any]:
    """One item of `conversation.item.create`: a user's message, or the output of a call that awaits it.

    Forged history (assistant, function_call, mcp_…) and instructions (system, developer) are refused: EventError.
    """
    rebuilt = _judge(item, path)
    if rebuilt["type"] == "function_call_output" and not conversation.awaits_output(rebuilt["call_id"]):
        raise wrong_value(f"{path}.call_id", Rule.ITEM_CALL)
    return rebuilt


def judge_input(items: Any, path: str, conversation: Conversation) -> list[dict[str, Any]]:
    """The `input` of a response: items as above, and references to items that the client knows. Raises EventError."""
    if not isinstance(items, list):
        raise wrong_type(path)
    if len(items) > _MOST_PARTS:
        raise wrong_value(path, Rule.RESPONSE_INPUT)
    return [_judge_input(item, f"{path}[{index}]", conversation) for index, item in enumerate(items)]


def judge_known_item(item_id: Any, path: str, conversation: Conversation) -> str:
    """The id of an item that this client was shown. An id that exists and one that does not are refused alike."""
    if not isinstance(item_id, str):
        raise wrong_type(path)
    if not conversation.knows_item(item_id):
        raise EventError(ErrorCode.ITEM_NOT_FOUND, path, Rule.ITEM_KNOWN)
    return item_id


def judge_id(value: Any, path: str) -> str:
    """An id that the client chose or repeats; at most 64 characters."""
    if not isinstance(value, str):
        raise wrong_type(path)
    if not 0 < len(value) <= _LONGEST_ID:
        raise wrong_value(path)
    return value


def _judge_input(item: Any, path: str, conversation: Conversation) -> dict[str, Any]:
    match item:
        case {"type": "item_reference"}:
            return {"type": "item_reference", "id": judge_known_item(item.get("id"), f"{path}.id", conversation)}
    rebuilt = _judge(item, path)
    if rebuilt["type"] == "function_call_output" and not conversation.knows_call(rebuilt["call_id"]):
        raise wrong_value(f"{path}.call_id", Rule.ITEM_CALL)
    return rebuilt


def _judge(item: Any, path: str) -> dict[str, Any]:
    if not isinstance(item, dict):
        raise wrong_type(path)
    match item.get("type"):
        case "message":
            rebuilt = _message(item, path)
        case "function_call_output":
            rebuilt = _call_output(item, path)
        case str():
            raise EventError(ErrorCode.POLICY_VIOLATION, f"{path}.type", Rule.ITEM_TYPE)
        case _:
            raise wrong_type(f"{path}.type")
    if item.get("id") is not None:
        rebuilt["id"] = judge_id(item["id"], f"{path}.id")
    return rebuilt


def _message(item: dict[str, Any], path: str) -> dict[str, Any]:
    if item.get("role") != "user":
        raise EventError(ErrorCode.POLICY_VIOLATION, f"{path}.role", Rule.ITEM_ROLE)
    content = item.get("content")
    if not isinstance(content, list):
        raise wrong_type(path)
    if len(content) > _MOST_PARTS:
        raise wrong_value(f"{path}.content", Rule.ITEM_CONTENT)
    parts = [_part(part, f"{path}.content[{index}]") for index, part in enumerate(content)]
    return {"type": "message", "role": "user", "content": parts}


def _call_output(item: dict[str, Any], path: str) -> dict[str, Any]:
    call_id = judge_id(item.get("call_id"), f"{path}.call_id")
    output = _exactly(_text, item.get("output"), f"{path}.output")
    return {"type": "function_call_output", "call_id": call_id, "output": output}


def _part(part: Any, path: str) -> dict[str, Any]:
    if not isinstance(part, dict):
        raise wrong_type(path)
    match part.get("type"):
        case "input_text":
            return {"type": "input_text", "text": _exactly(_text, part.get("text"), f"{path}.text")}
        case "input_audio":
            rebuilt = {"type": "input_audio", "audio": _exactly(_base64, part.get("audio"), f"{path}.audio")}
            if part.get("transcript") is not None:
                rebuilt["transcript"] = _exactly(_text, part["transcript"], f"{path}.transcript")
            return rebuilt
        case "input_image":
            return _image_part(part, path)
    raise EventError(ErrorCode.POLICY_VIOLATION, f"{path}.type", Rule.ITEM_CONTENT)


def _image_part(part: dict[str, Any], path: str) -> dict[str, Any]:
    """An image by its bytes; a link would have the service fetch it."""
    try:
        rebuilt = {"type": "input_image", "image_url": _image(part.get("image_url"), f"{path}.image_url")}
    except Unfit:
        raise EventError(ErrorCode.POLICY_VIOLATION, f"{path}.image_url", Rule.ITEM_CONTENT) from None
    if part.get("detail") is not None:
        rebuilt["detail"] = _exactly(_detail, part["detail"], f"{path}.detail")
    return rebuilt


def _exactly(check: Check, value: Any, path: str) -> Any:
    try:
        return check(value, path)
    except Unfit:
        raise wrong_value(path, Rule.ITEM_CONTENT) from None
