"""What has happened in one session, as far as a client's next event is judged by it."""

from __future__ import annotations

from dataclasses import dataclass, field

from relay.core.known_items import KnownItems
from relay.core.responses_running import ResponsesRunning


@dataclass(frozen=True, slots=True)
class SessionPast:
    """The items that the client may speak of, and the responses that are under way."""

    items: KnownItems = field(default_factory=KnownItems)
    responses: ResponsesRunning = field(default_factory=ResponsesRunning)
