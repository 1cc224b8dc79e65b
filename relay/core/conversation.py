"""What one session's client has been shown, as far as its later events are judged by it. Bounded."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, TypeVar

_MOST_ITEMS = 4096
_MOST_CALLS = 1024

_Value = TypeVar("_Value", None, bool)


class Conversation:
    """The items, function calls and side responses that a client may speak of; the oldest are forgotten."""

    def __init__(self) -> None:
        self.audio_started = False
        self._items: OrderedDict[str, None] = OrderedDict()
        self._calls: OrderedDict[str, bool] = OrderedDict()
        self._approvals: OrderedDict[str, bool] = OrderedDict()
        self._hidden: OrderedDict[str, None] = OrderedDict()
        self._responses: OrderedDict[str, None] = OrderedDict()
        self.out_of_band = 0

    def knows_item(self, item_id: str) -> bool:
        """Whether the client was shown this item, or made it."""
        return item_id in self._items

    def add_item(self, item_id: str) -> None:
        """The client was shown this item, or made it."""
        _remember(self._items, item_id, None, _MOST_ITEMS)

    def knows_call(self, call_id: str) -> bool:
        """Whether the model made this function call."""
        return call_id in self._calls

    def awaits_output(self, call_id: str) -> bool:
        """Whether the model made this function call and it is not answered."""
        return self._calls.get(call_id, False)

    def mark_call(self, call_id: str, *, awaiting: bool) -> None:
        """The call is answered, or the service refused the answer."""
        if call_id in self._calls:
            self._calls[call_id] = awaiting

    def awaits_approval(self, request_id: str) -> bool:
        """Whether the client was shown this request of an MCP server, and has not answered it."""
        return self._approvals.get(request_id, False)

    def approval_answered(self, request_id: str) -> None:
        """The client gave its word on a request."""
        if request_id in self._approvals:
            self._approvals[request_id] = False

    def hide_item(self, item_id: str) -> None:
        """The client is not shown this item, nor what is told of it later."""
        _remember(self._hidden, item_id, None, _MOST_CALLS)

    def hides(self, item_id: object) -> bool:
        """Whether an item is kept from the client."""
        return isinstance(item_id, str) and item_id in self._hidden

    def begin_out_of_band(self) -> None:
        """Count one response outside the conversation (they run in parallel)."""
        self.out_of_band += 1

    def end_out_of_band(self) -> None:
        """A response outside the conversation is over, or was refused."""
        self.out_of_band = max(0, self.out_of_band - 1)

    def follow(self, event_type: str, event: dict[str, Any]) -> None:
        """Take from a server event (GA name) what does not depend on the client's seeing it."""
        match event_type:
            case (
                "output_audio_buffer.started" | "response.output_audio.delta" | "response.output_audio_transcript.delta"
            ):
                self.audio_started = True
            case "response.created":
                response_id = _id(event.get("response"))
                if response_id is not None:
                    _remember(self._responses, response_id, None, _MOST_CALLS)
            case "response.done":
                self._response_done(event.get("response"))

    def shown(self, event: dict[str, Any]) -> None:
        """Take the ids from a server event that goes to the client."""
        if isinstance(item_id := event.get("item_id"), str):
            if event["type"] == "conversation.item.deleted":
                self._items.pop(item_id, None)
            else:
                self.add_item(item_id)
        self._item_shown(event.get("item"))
        response = event.get("response")
        output = response.get("output") if isinstance(response, dict) else None
        for item in output if isinstance(output, list) else ():
            self._item_shown(item)
        if event["type"] == "response.function_call_arguments.done":
            self._call_shown(event.get("call_id"))

    def _item_shown(self, item: Any) -> None:
        item_id = _id(item)
        if item_id is None:
            return
        self.add_item(item_id)
        match item.get("type"):
            case "function_call":
                self._call_shown(item.get("call_id"))
            case "mcp_approval_request":
                if item_id not in self._approvals:
                    _remember(self._approvals, item_id, True, _MOST_CALLS)  # noqa: FBT003 - a value, not a flag

    def _call_shown(self, call_id: Any) -> None:
        if isinstance(call_id, str) and call_id not in self._calls:
            _remember(self._calls, call_id, True, _MOST_CALLS)  # noqa: FBT003 - a value, not a flag

    def _response_done(self, response: Any) -> None:
        response_id = _id(response)
        if response_id is not None:
            self._responses.pop(response_id, None)
        if not self._responses:
            self.out_of_band = 0  # whatever was counted, nothing runs
        elif isinstance(response, dict) and response.get("conversation_id") is None:
            self.end_out_of_band()


def _id(thing: Any) -> str | None:
    value = thing.get("id") if isinstance(thing, dict) else None
    return value if isinstance(value, str) else None


def _remember(memory: OrderedDict[str, _Value], key: str, value: _Value, most: int) -> None:
    memory[key] = value
    memory.move_to_end(key)
    if len(memory) > most:
        memory.popitem(last=False)
