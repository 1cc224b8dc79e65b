"""One host's line into the network: what happens to packets on it, each way. Time is an argument; no socket here."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any

from network.nat import Napt, OneToOne
from network.packet import TCP, UDP, Packet, fragments, too_big

_OVERTAKEN_SECONDS = (0.025, 0.06)
_PROTOCOLS = {"udp": UDP, "tcp": TCP}
ROUTER4, ROUTER6 = "192.0.2.1", "2001:db8:ffff::1"


class TooBig(StrEnum):
    """What becomes of a packet above the line's MTU."""

    DROP = "drop"
    """Nobody is told: the black hole that breaks path MTU discovery."""
    ICMP = "icmp"
    """As a router should: the sender is told, or IPv4 without DF is split."""


@dataclass(frozen=True, slots=True)
class Rule:
    """A firewall's line. What is not given matches all; `host` and `port` are those of either end; first match wins."""

    allow: bool
    protocol: str | None = None
    host: str | None = None
    port: int | None = None

    def matches(self, packet: Packet) -> bool:
        """Whether it speaks about this packet."""
        if self.protocol is not None and packet.protocol != _PROTOCOLS[self.protocol]:
            return False
        ends = ((packet.source, packet.source_port), (packet.target, packet.target_port))
        return any(self.host in (None, host) and self.port in (None, port) for host, port in ends)


@dataclass(slots=True)
class Conditions:
    """One direction of a line. Seconds, probabilities from 0 to 1, bytes of a whole IP packet."""

    delay: float = 0.0
    jitter: float = 0.0
    """A packet takes `delay` ± `jitter`, evenly spread; order is kept."""
    loss: float = 0.0
    reorder: float = 0.0
    """How many packets are overtaken: 25 to 60 ms later than they should be."""
    mtu: int = 65_535
    too_big: TooBig = TooBig.DROP

    def change(self, wanted: dict[str, Any]) -> None:
        """Set fields by name; raises KeyError on an unknown one."""
        known = {each.name: each for each in fields(self)}
        for name, value in wanted.items():
            setattr(self, known[name].name, TooBig(value) if name == "too_big" else value)


@dataclass(slots=True)
class Flow:
    """One RTP stream seen at a point of a line, by its sequence numbers."""

    peer: str
    packets: int = 0
    duplicates: int = 0
    late: int = 0
    """Came after one with a higher sequence number."""
    longest_pause: float = 0.0
    """The longest time without a packet between two, in seconds."""
    first: int = -1
    highest: int = -1
    last_at: float = 0.0
    seen: set[int] = field(default_factory=set)
    ports: set[int] = field(default_factory=set)

    def add(self, sequence_number: int, port: int, now: float) -> None:
        """Count one packet; `port` is the peer's."""
        self.ports.add(port)
        if self.first < 0:
            self.first = self.highest = sequence_number
        if self.last_at:
            self.longest_pause = max(self.longest_pause, now - self.last_at)
        # Extended as RFC 3550 appendix A.1 does: the nearest to the highest so far.
        extended = self.highest + (sequence_number - self.highest + 0x8000) % 0x10000 - 0x8000
        self.packets += 1
        self.last_at = now
        self.late += extended < self.highest
        self.duplicates += extended in self.seen
        self.seen.add(extended)
        self.highest = max(self.highest, extended)
        self.first = min(self.first, extended)

    def renewed(self) -> Flow:
        """Count anew; a pause that has begun goes on."""
        return Flow(self.peer, last_at=self.last_at)

    def report(self, now: float) -> dict[str, Any]:
        """Plain values: the `peer` and its `ports`, numbers of packets (`longest_gap` too), pauses in seconds."""
        expected = self.highest - self.first + 1
        present = sorted(self.seen)
        gap = max((after - before - 1 for before, after in itertools.pairwise(present)), default=0)
        return {
            "peer": self.peer,
            "ports": sorted(self.ports),
            "packets": self.packets,
            "expected": expected,
            "missing": expected - len(self.seen),
            "duplicates": self.duplicates,
            "late": self.late,
            "longest_gap": gap,
            "longest_pause": max(self.longest_pause, now - self.last_at),
        }


@dataclass(slots=True)
class Way:
    """One direction: `out` is what the host sends, `into` what is sent to it."""

    name: str
    chance: random.Random
    conditions: Conditions = field(default_factory=Conditions)
    counts: Counter[str] = field(default_factory=Counter)
    """`<kind>` for what came in; `lost:`, `filtered:`, `too_big:`, `blackout:`, `nat:` before it for what stayed."""
    flows: dict[tuple[int, str], Flow] = field(default_factory=dict)
    last_due: float = 0.0

    def note(self, packet: Packet, peer: str, port: int, now: float) -> None:
        """See an RTP packet at the host's end of the line."""
        found = packet.rtp
        if found is not None:
            self.flows.setdefault((found[0], peer), Flow(peer)).add(found[1], port, now)

    def report(self, now: float) -> dict[str, Any]:
        """Plain values."""
        return {
            "counts": dict(self.counts),
            "flows": [flow.report(now) for flow in self.flows.values() if flow.packets],
        }

    def due(self, now: float) -> float | None:
        """When a packet put in now comes out; None: it is lost."""
        now_set = self.conditions
        if self.chance.random() < now_set.loss:
            return None
        due = now + max(0.0, now_set.delay + self.chance.uniform(-now_set.jitter, now_set.jitter))
        if self.chance.random() < now_set.reorder:
            return due + self.chance.uniform(*_OVERTAKEN_SECONDS)
        self.last_due = max(due, self.last_due)
        return self.last_due


class Line:
    """A host's only way to the others. `addresses` are those under which the others know it."""

    def __init__(self, name: str, addresses: tuple[str, ...], nat: OneToOne | Napt | None, seed: int) -> None:
        self.name = name
        self.addresses = addresses
        self.nat = nat
        self.rules: tuple[Rule, ...] = ()
        self.dark_until = 0.0
        self.out = Way("out", random.Random(f"{seed}/{name}/out"))
        self.into = Way("into", random.Random(f"{seed}/{name}/into"))

    def leaving(self, packet: Packet, now: float) -> tuple[list[tuple[float, Packet]], Packet | None]:
        """What of a packet of the host's comes out at the far end and when, and an answer for the host."""
        way = self.out
        way.note(packet, packet.target, packet.target_port, now)
        kept, answer = self._pass(packet, way, now)
        passed = []
        for due, piece in kept:
            if self.nat is None or piece.version != 4 or self.nat.out(piece):
                passed.append((due, piece))
            else:
                way.counts[f"nat:{piece.kind}"] += 1
        return passed, answer

    def arriving(self, packet: Packet, now: float) -> tuple[list[tuple[float, Packet]], Packet | None]:
        """What of a packet for the host reaches it and when, and an answer for the sender."""
        way = self.into
        if self.nat is not None and packet.version == 4 and not self.nat.into(packet):
            way.counts[packet.kind] += 1
            way.counts[f"nat:{packet.kind}"] += 1
            return [], None
        return self._pass(packet, way, now)

    def delivered(self, packet: Packet, now: float) -> None:
        """Note that a packet was handed to the host."""
        self.into.note(packet, packet.source, packet.source_port, now)

    def reset(self) -> None:
        """Forget counts and flows, not conditions."""
        for way in (self.out, self.into):
            way.counts.clear()
            way.flows = {key: flow.renewed() for key, flow in way.flows.items() if flow.packets}

    def _pass(self, packet: Packet, way: Way, now: float) -> tuple[list[tuple[float, Packet]], Packet | None]:
        kind = packet.kind
        way.counts[kind] += 1
        if now < self.dark_until:
            way.counts[f"blackout:{kind}"] += 1
            return [], None
        if not self._allowed(packet):
            way.counts[f"filtered:{kind}"] += 1
            return [], None
        pieces, answer = list(self._fitting(packet, way)), None
        if not pieces and way.conditions.too_big is TooBig.ICMP:
            answer = too_big(packet, way.conditions.mtu, ROUTER6 if packet.version == 6 else ROUTER4)
        kept = []
        for piece in pieces:
            due = way.due(now)
            if due is None:
                way.counts[f"lost:{kind}"] += 1
            else:
                kept.append((due, piece))
        return kept, answer

    def _allowed(self, packet: Packet) -> bool:
        return next((rule.allow for rule in self.rules if rule.matches(packet)), True)

    def _fitting(self, packet: Packet, way: Way) -> Iterator[Packet]:
        wanted = way.conditions
        if len(packet.data) <= wanted.mtu:
            yield packet
            return
        way.counts[f"too_big:{packet.kind}"] += 1
        if wanted.too_big is TooBig.ICMP and packet.may_fragment:
            yield from fragments(packet, wanted.mtu)
