"""The items, function calls and approvals of one session as its client may speak of them. Bounded."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, TypeVar

_MOST_ITEMS = 4096
_MOST_CALLS = 1024

_Value = TypeVar("_Value", None, bool)


class KnownCalls:
    """The function calls that a client may answer, and the requests of MCP servers that it may decide on."""

    def __init__(self) -> None:
        self._calls: OrderedDict[str, bool] = OrderedDict()
        self._approvals: OrderedDict[str, bool] = OrderedDict()

    def knows(self, call_id: str) -> bool:
        """Whether the client was shown this function call."""
        return call_id in self._calls

    def awaits_output(self, call_id: str) -> bool:
        """Whether the client was shown this function call and it is not answered."""
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

    def shown(self, item: dict[str, Any]) -> None:
        """The client was shown this item."""
        match item:
            case {"type": "function_call", "call_id": str(call_id)} if call_id not in self._calls:
                _remember(self._calls, call_id, True, _MOST_CALLS)  # noqa: FBT003 - a value, not a flag
            case {"type": "mcp_approval_request", "id": str(item_id)} if item_id not in self._approvals:
                _remember(self._approvals, item_id, True, _MOST_CALLS)  # noqa: FBT003 - a value, not a flag

    def forget(self, call_id: str) -> None:
        """The call is none of the client's business any more."""
        self._calls.pop(call_id, None)


class KnownItems:
    """What a client was shown, with the `calls` among them, what it made, and what is kept; the oldest are forgotten.

    An item that it made is its own once the service has told of it: until then its id may be one that was taken.
    """

    def __init__(self) -> None:
        self._items: OrderedDict[str, None] = OrderedDict()
        self._made: OrderedDict[str, None] = OrderedDict()
        self.calls = KnownCalls()
        self._hidden: OrderedDict[str, None] = OrderedDict()

    def knows(self, item_id: str, *, as_place: bool = False) -> bool:
        """Whether the client was shown this item; for a place in the conversation, also whether it may have made it."""
        return item_id in self._items or (as_place and item_id in self._made)

    def made(self, item_id: str) -> None:
        """The client sent an item of this id. Naming one does not make it its own: one that is hidden stays so."""
        if item_id not in self._hidden:
            _remember(self._made, item_id, None, _MOST_ITEMS)

    def told_of(self, item: Any) -> None:
        """The service has an item: if the client sent it, it is the client's from now on, shown or not."""
        item_id = _id(item)
        if item_id is not None and item_id in self._made and item_id not in self._hidden:
            del self._made[item_id]
            _remember(self._items, item_id, None, _MOST_ITEMS)

    def hide(self, item: Any) -> None:
        """The client is not shown this item, nor what is told of it later, nor what answers it if it is a call."""
        for hidden in (_id(item), item.get("call_id") if isinstance(item, dict) else None):
            if isinstance(hidden, str):
                _remember(self._hidden, hidden, None, 2 * _MOST_CALLS)
                self._items.pop(hidden, None)
                self._made.pop(hidden, None)
                self.calls.forget(hidden)

    def hides(self, item_or_call_id: object) -> bool:
        """Whether an item or a call is kept from the client."""
        return bool(self._hidden) and isinstance(item_or_call_id, str) and item_or_call_id in self._hidden

    def shown(self, event: dict[str, Any]) -> None:
        """Take the ids from a server event as the client gets it."""
        if isinstance(item_id := event.get("item_id"), str):
            if event["type"] == "conversation.item.deleted":
                self._items.pop(item_id, None)
            else:
                _remember(self._items, item_id, None, _MOST_ITEMS)
        self._item_shown(event.get("item"))
        response = event.get("response")
        output = response.get("output") if isinstance(response, dict) else None
        for item in output if isinstance(output, list) else ():
            self._item_shown(item)
        if event["type"] == "response.function_call_arguments.done":
            self.calls.shown({"type": "function_call", "call_id": event.get("call_id")})

    def _item_shown(self, item: Any) -> None:
        item_id = _id(item)
        if item_id is None:
            return
        _remember(self._items, item_id, None, _MOST_ITEMS)
        self.calls.shown(item)


def _id(thing: Any) -> str | None:
    value = thing.get("id") if isinstance(thing, dict) else None
    return value if isinstance(value, str) else None


def _remember(memory: OrderedDict[str, _Value], key: str, value: _Value, most: int) -> None:
    memory[key] = value
    memory.move_to_end(key)
    if len(memory) > most:
        memory.popitem(last=False)
