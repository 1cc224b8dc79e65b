"""The media gate of a session: no packet passes from one leg to the other before the policy is confirmed in force."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from relay.core.lifecycle import LegName
from relay.core.rtp import DropCause
from relay.rtc.leg import Leg
from relay.rtc.packet import VIEW, load

_OTHER = {LegName.DOWNSTREAM: LegName.UPSTREAM, LegName.UPSTREAM: LegName.DOWNSTREAM}


class MediaGate:
    """One gate for both directions. While it is shut packets are authenticated and counted, and not forwarded.

    `legs` are those there are; whoever changes them calls `follow`. `on_first_audio` hears of the first packet that
    each leg's peer sent and that went through.

    Until the service's first word, which opens the gate or does not, the newest packet of each leg is kept. It goes
    through then, or the first sound would wait for the next one.
    """

    def __init__(self, legs: Mapping[LegName, Leg], on_first_audio: Callable[[LegName], None]) -> None:
        self._legs = legs
        self._on_first_audio = on_first_audio
        self._is_open = False
        self._keeps = True
        self._kept: dict[LegName, bytes] = {}

    @property
    def flowing(self) -> bool:
        """Whether packets go from one leg to the other."""
        return self._is_open and len(self._legs) == len(LegName)

    def follow(self) -> None:
        """Say to each leg where its packets go."""
        for leg in self._legs.values():
            to = self._legs.get(_OTHER[leg.name])
            if self._keeps:
                leg.stream.forward = self._keeping(leg)
            elif not self._is_open:
                leg.stream.forward = _dropping(leg, DropCause.GATE_CLOSED)
            elif to is None:
                leg.stream.forward = _dropping(leg, DropCause.OTHER_LEG_NOT_READY)
            else:
                leg.stream.forward = self._first_packet(leg, to.stream.send)

    def open(self) -> None:
        """Forward from now on, what was kept first."""
        self._is_open, self._keeps = True, False
        kept, self._kept = self._kept, {}
        self.follow()
        for name, packet in kept.items():
            self._legs[name].stream.forward(load(packet))

    def shut(self) -> None:
        """Forward nothing from now on, and keep nothing."""
        self._is_open = self._keeps = False
        for leg in self._legs.values():
            self._give_up(leg)
        self.follow()

    def keep_no_more(self) -> None:
        """The service has spoken: what came before goes through now or never."""
        if self._keeps:
            self.shut()

    def leave(self, leg: Leg) -> None:
        """A leg is no longer one of the legs: nothing of its peer's is forwarded."""
        self._give_up(leg)
        leg.stream.forward = _dropping(leg, DropCause.GATE_CLOSED)

    def _keeping(self, leg: Leg) -> Callable[[int], None]:
        def keep(size: int) -> None:
            self._give_up(leg)
            self._kept[leg.name] = bytes(VIEW[:size])

        return keep

    def _give_up(self, leg: Leg) -> None:
        if self._kept.pop(leg.name, None) is not None:
            leg.dropped[DropCause.GATE_CLOSED] += 1

    def _first_packet(self, leg: Leg, send: Callable[[int], None]) -> Callable[[int], None]:
        def forward(size: int) -> None:
            # From the second packet on there is nothing between the two streams.
            leg.stream.forward = send
            send(size)
            self._on_first_audio(leg.name)

        return forward


def _dropping(leg: Leg, cause: DropCause) -> Callable[[int], None]:
    dropped = leg.stream.dropped

    def drop(size: int) -> None:
        del size
        dropped[cause] += 1

    return drop
