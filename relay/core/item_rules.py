"""Which conversation items a client may put before the model, rebuilt from what the policy allows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from relay.core.events import EventError
from relay.core.field_checks import Check, Unfit, boolean, choice, text, wrong_type, wrong_value
from relay.core.verdicts import Rule
from relay.errors import ErrorCode

if TYPE_CHECKING:
    from relay.core.known_items import KnownItems
    from relay.core.policy_rules import ItemRules

_LONGEST_ID = 64
_TYPE_AND_TEXT = 2
_MOST_INPUT_ITEMS = 100
_LONGEST = 262_144

_base64 = text(_LONGEST, r"[A-Za-z0-9+/]*={0,2}")
_image = text(_LONGEST, r"data:image/(?:png|jpeg|webp|gif);base64,[A-Za-z0-9+/]+={0,2}")
_remote_image = text(2_048, r"https://[!-~]+")
_detail = choice("auto", "low", "high")

HISTORY = "assistant.output_text"
"""The kind of item that is history import, however it is allowed."""


@dataclass(frozen=True, slots=True)
class ItemJudge:
    """Judges items by one policy, within one conversation.

    Instructions (system, developer) and forged calls (function_call, mcp_…) are refused whatever the policy says: they
    would be other instructions, or results nobody computed.
    """

    rules: ItemRules
    items: KnownItems
    mcp_approvals: bool = False

    def item(self, item: Any, path: str) -> dict[str, Any]:
        """One item of `conversation.item.create`, rebuilt. Raises EventError."""
        rebuilt = self._judge(item, path)
        if rebuilt["type"] == "function_call_output" and not self.items.calls.awaits_output(rebuilt["call_id"]):
            raise wrong_value(f"{path}.call_id", Rule.ITEM_CALL)
        return rebuilt

    def input(self, items: Any, path: str) -> list[dict[str, Any]]:
        """The `input` of a response: items as above, and references to items that the client knows.

        Raises EventError.
        """
        if not isinstance(items, list):
            raise wrong_type(path)
        if len(items) > _MOST_INPUT_ITEMS:
            raise wrong_value(path, Rule.RESPONSE_INPUT)
        parts = sum(len(content) for item in items if isinstance(content := _content(item), list))
        if parts > self.rules.max_content_parts:
            raise wrong_value(path, Rule.RESPONSE_INPUT)
        return [self._input_item(item, f"{path}[{index}]") for index, item in enumerate(items)]

    def _input_item(self, item: Any, path: str) -> dict[str, Any]:
        match item:
            case {"type": "item_reference"}:
                known = judge_known_item(item.get("id"), f"{path}.id", self.items)
                return {"type": "item_reference", "id": known}
        rebuilt = self._judge(item, path)
        if rebuilt["type"] == "function_call_output" and not self.items.calls.knows(rebuilt["call_id"]):
            raise wrong_value(f"{path}.call_id", Rule.ITEM_CALL)
        return rebuilt

    def _judge(self, item: Any, path: str) -> dict[str, Any]:
        if not isinstance(item, dict):
            raise wrong_type(path)
        match item.get("type"):
            case "message":
                rebuilt = self._message(item, path)
            case "function_call_output" if "function_call_output" in self.rules.allow:
                rebuilt = self._call_output(item, path)
            case "mcp_approval_response":
                return self._approval(item, path)
            case str():
                raise EventError(ErrorCode.POLICY_VIOLATION, f"{path}.type", Rule.ITEM_TYPE)
            case _:
                raise wrong_type(f"{path}.type")
        if item.get("id") is not None:
            rebuilt["id"] = judge_id(item["id"], f"{path}.id")
        return rebuilt

    def _message(self, item: dict[str, Any], path: str) -> dict[str, Any]:
        role = item.get("role")
        imported = role == "assistant" and (self.rules.history_import or HISTORY in self.rules.allow)
        if role != "user" and not imported:
            raise EventError(ErrorCode.POLICY_VIOLATION, f"{path}.role", Rule.ITEM_ROLE)
        content = item.get("content")
        if not isinstance(content, list):
            raise wrong_type(path)
        if len(content) > self.rules.max_content_parts:
            raise wrong_value(f"{path}.content", Rule.ITEM_CONTENT)
        judge = self._history_part if imported else self._part
        # By far the most frequent part, a text and nothing else, needs no name for an error.
        longest = self.rules.max_text_chars if not imported and "user.input_text" in self.rules.allow else -1
        parts = []
        for index, part in enumerate(content):
            said = part.get("text") if isinstance(part, dict) and len(part) == _TYPE_AND_TEXT else None
            if isinstance(said, str) and len(said) <= longest and part.get("type") == "input_text":
                parts.append(part)
            else:
                parts.append(judge(part, f"{path}.content[{index}]"))
        return {"type": "message", "role": role, "content": parts}

    def _call_output(self, item: dict[str, Any], path: str) -> dict[str, Any]:
        call_id = judge_id(item.get("call_id"), f"{path}.call_id")
        output = self._text(item.get("output"), f"{path}.output")
        return {"type": "function_call_output", "call_id": call_id, "output": output}

    def _approval(self, item: dict[str, Any], path: str) -> dict[str, Any]:
        """A user's word on a call of an MCP server, for a request that this client was shown and has not answered."""
        if not self.mcp_approvals:
            raise EventError(ErrorCode.POLICY_VIOLATION, f"{path}.type", Rule.TOOLS_MCP)
        request = judge_id(item.get("approval_request_id"), f"{path}.approval_request_id")
        if not self.items.calls.awaits_approval(request):
            raise wrong_value(f"{path}.approval_request_id", Rule.TOOLS_MCP)
        approve = boolean(item.get("approve"), f"{path}.approve")
        rebuilt = {"type": "mcp_approval_response", "approval_request_id": request, "approve": approve}
        if item.get("id") is not None:
            rebuilt["id"] = judge_id(item["id"], f"{path}.id")
        if item.get("reason") is not None:
            rebuilt["reason"] = self._text(item["reason"], f"{path}.reason")
        return rebuilt

    def _part(self, part: Any, path: str) -> dict[str, Any]:
        if not isinstance(part, dict):
            raise wrong_type(path)
        kind = part.get("type")
        if f"user.{kind}" not in self.rules.allow:
            raise EventError(ErrorCode.POLICY_VIOLATION, f"{path}.type", Rule.ITEM_CONTENT)
        match kind:
            case "input_text":
                return {"type": "input_text", "text": self._text(part.get("text"), f"{path}.text")}
            case "input_audio":
                rebuilt = {"type": "input_audio", "audio": _exactly(_base64, part.get("audio"), f"{path}.audio")}
                if part.get("transcript") is not None:
                    rebuilt["transcript"] = self._text(part["transcript"], f"{path}.transcript")
                return rebuilt
            case "input_image":
                return self._image_part(part, path)
        raise EventError(ErrorCode.POLICY_VIOLATION, f"{path}.type", Rule.ITEM_CONTENT)

    def _history_part(self, part: Any, path: str) -> dict[str, Any]:
        """What the model is said to have answered before; text alone, sound would have to be the model's own."""
        if not isinstance(part, dict):
            raise wrong_type(path)
        if part.get("type") != "output_text":
            raise EventError(ErrorCode.POLICY_VIOLATION, f"{path}.type", Rule.ITEM_CONTENT)
        return {"type": "output_text", "text": self._text(part.get("text"), f"{path}.text")}

    def _image_part(self, part: dict[str, Any], path: str) -> dict[str, Any]:
        """An image by its bytes; a link would have the service fetch it, which the policy has to allow."""
        link = part.get("image_url")
        remote = self.rules.remote_images and isinstance(link, str) and link.startswith("https://")
        try:
            judged = (_remote_image if remote else _image)(link, f"{path}.image_url")
        except Unfit:
            raise EventError(ErrorCode.POLICY_VIOLATION, f"{path}.image_url", Rule.ITEM_CONTENT) from None
        rebuilt = {"type": "input_image", "image_url": judged}
        if part.get("detail") is not None:
            rebuilt["detail"] = _exactly(_detail, part["detail"], f"{path}.detail")
        return rebuilt

    def _text(self, value: Any, path: str) -> str:
        if not isinstance(value, str):
            raise wrong_type(path)
        if len(value) > self.rules.max_text_chars:
            raise wrong_value(path, Rule.ITEM_CONTENT)
        return value


def _content(item: Any) -> Any:
    return item.get("content") if isinstance(item, dict) else None


def is_history(item: dict[str, Any]) -> bool:
    """Whether a judged item is an answer that the client says the model gave."""
    return item.get("role") == "assistant"


def judge_known_item(item_id: Any, path: str, items: KnownItems, *, as_place: bool = False) -> str:
    """The id of an item that this client was shown. An id that exists and one that does not are refused alike.

    As a place for another item, one that it has just made will do.
    """
    if not isinstance(item_id, str):
        raise wrong_type(path)
    if not items.knows(item_id, as_place=as_place):
        raise EventError(ErrorCode.ITEM_NOT_FOUND, path, Rule.ITEM_KNOWN)
    return item_id


def judge_id(value: Any, path: str) -> str:
    """An id that the client chose or repeats; at most 64 characters."""
    if not isinstance(value, str):
        raise wrong_type(path)
    if not 0 < len(value) <= _LONGEST_ID:
        raise wrong_value(path)
    return value


def judge_audio(value: Any, path: str) -> str:
    """Base64 of sound. Raises EventError."""
    audio: str = _exactly(_base64, value, path)
    return audio


def _exactly(check: Check, value: Any, path: str) -> Any:
    try:
        return check(value, path)
    except Unfit:
        raise wrong_value(path, Rule.ITEM_CONTENT) from None
