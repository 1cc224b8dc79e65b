"""The responses of one session that are asked for or under way, and whether any sound came of them. Bounded."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

_MOST = 1024


class ResponsesRunning:
    """Counts responses outside the conversation, which run in parallel, by their ids at the service."""

    def __init__(self) -> None:
        self.audio_started = False
        self._asked = 0
        # id → whether it is outside the conversation
        self._running: OrderedDict[str, bool] = OrderedDict()

    @property
    def out_of_band(self) -> int:
        """How many outside the conversation were asked for and are not over."""
        return self._asked + sum(self._running.values())

    @property
    def ids(self) -> frozenset[str]:
        """The responses that run."""
        return frozenset(self._running)

    def ask_out_of_band(self) -> None:
        """The client asked for one outside the conversation."""
        self._asked += 1

    def refused_out_of_band(self) -> None:
        """The service refused to make one."""
        self._asked = max(0, self._asked - 1)

    def follow(self, event_type: str, event: dict[str, Any]) -> None:
        """Take what a server event (GA name) tells of them."""
        match event_type:
            case (
                "output_audio_buffer.started" | "response.output_audio.delta" | "response.output_audio_transcript.delta"
            ):
                self.audio_started = True
            case "response.created":
                self._created(event.get("response"))
            case "response.done":
                self._done(event.get("response"))

    def _created(self, response: Any) -> None:
        match response:
            case {"id": str(response_id)} if response_id not in self._running:
                outside = self._asked > 0 and response.get("conversation_id") is None
                if outside:
                    self._asked -= 1
                self._running[response_id] = outside
                if len(self._running) > _MOST:
                    self._running.popitem(last=False)

    def _done(self, response: Any) -> None:
        match response:
            case {"id": str(response_id)} if response_id in self._running:
                del self._running[response_id]
            case dict() if response.get("conversation_id") is None:
                self.refused_out_of_band()  # over before anything told that it began
