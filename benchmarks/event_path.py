"""What forwarding one event costs, from datagram to datagram: two real legs and the real filter between two peers.

The legs run in this process, whose CPU time is measured; both peers of every session run in a second one.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import cProfile
import gc
import itertools
import json
import os
import pstats
import sys
import time
from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

from aiortc import RTCCertificate, RTCSctpTransport

import benchmarks.peer
from benchmarks.events import client_event, open_filter, transcript_delta
from benchmarks.machine import Cores, describe, usage
from benchmarks.peer import HOST, Peer, Remote
from benchmarks.rounds import percentile
from benchmarks.wire import Wire
from relay.core.lifecycle import LegName, SessionLimits
from relay.core.rtp import DropCause
from relay.core.sdp import RemoteDescription, parse_answer, parse_offer
from relay.core.sdp_build import LocalCandidate, LocalTransport, build_answer, build_service_offer
from relay.rtc.bridge import Bridge
from relay.rtc.dtls import SharedCertificate, fingerprint_of
from relay.rtc.leg import Leg
from relay.rtc.packet import VIEW
from relay.rtc.udp import UdpSocket

_SETTLE_SECONDS = 0.5
_DRAIN_TRIES = 40
_LINE_BYTES = 1 << 24
_SLICE_SECONDS = 0.1
_FEWEST_EVENTS = 10
_ACK_SECONDS = 0.2
_FIRST_BYTE_OF_DTLS = range(20, 64)


# --- the peers' process ----------------------------------------------------------------------------------------------


class _Acknowledging(RTCSctpTransport):
    """aiortc's association, acknowledging as browsers and Pion do: every second packet, or 200 ms after one."""

    _unacknowledged = 0

    async def _send_sack(self) -> None:
        self._unacknowledged += 1
        if self._unacknowledged > 1 or self._sack_misordered or self._sack_duplicates:
            await self._acknowledge()
        else:
            self._sack_needed = False
            later = asyncio.get_running_loop()
            later.call_later(_ACK_SECONDS, lambda: later.create_task(self._acknowledge()))

    async def _acknowledge(self) -> None:
        if self._unacknowledged:
            self._unacknowledged = 0
            with contextlib.suppress(ConnectionError):
                await super()._send_sack()


@dataclass(slots=True)
class _Ends:
    client: Peer
    service: Peer


class _PeersProcess:
    """Both peers of every session; does what the legs' process asks, one command after the other."""

    def __init__(self, sessions: int, rate: float, *, upward: bool) -> None:
        certificate = RTCCertificate.generateCertificate()
        wire = Wire()
        self._ends = [
            _Ends(Peer(wire, certificate, controlling=True), Peer(wire, certificate, controlling=False))
            for _ in range(sessions)
        ]
        for each in self._ends:
            each.client.on_text = each.service.on_text = self._hear
        self._rate = rate
        self._upward = upward
        self._sent = self._heard = 0
        self._connecting: list[asyncio.Task[None]] = []
        self._pacing: asyncio.Task[None] | None = None

    async def offer(self) -> dict[str, Any]:
        """Describe the clients."""
        return {"offers": [each.client.offer() for each in self._ends]}

    async def answer(self, offers: list[str], ports: list[int]) -> dict[str, Any]:
        """Answer the legs' offers as the service, and connect."""
        answers = []
        for each, offer, port in zip(self._ends, offers, ports, strict=True):
            remote = Remote.parse(offer)
            answers.append(each.service.answer(remote))
            self._connect(each.service, remote, port)
        return {"answers": answers}

    async def connect(self, answers: list[str], ports: list[int]) -> dict[str, Any]:
        """Connect the clients."""
        for each, answer, port in zip(self._ends, answers, ports, strict=True):
            self._connect(each.client, Remote.parse(answer), port)
        return {}

    async def opened(self) -> dict[str, Any]:
        """Wait for every channel."""
        await asyncio.gather(*self._connecting)
        await asyncio.gather(*(peer.opened.wait() for each in self._ends for peer in (each.client, each.service)))
        return {}

    async def start(self) -> dict[str, Any]:
        """Begin to send."""
        self._pacing = asyncio.create_task(self._pace())
        return {}

    async def stop(self) -> dict[str, Any]:
        """Send no more."""
        if self._pacing is not None:
            self._pacing.cancel()
            await asyncio.gather(self._pacing, return_exceptions=True)
        return {}

    async def count(self) -> dict[str, Any]:
        """Tell what was sent and what arrived."""
        return {"sent": self._sent, "heard": self._heard}

    def _connect(self, peer: Peer, remote: Remote, port: int) -> None:
        # Without ICE: the address is known.
        peer.reach((HOST, port))
        self._connecting.append(asyncio.create_task(peer.connect(remote)))

    def _hear(self, _text: str) -> None:
        self._heard += 1

    async def _pace(self) -> None:
        text = client_event() if self._upward else transcript_delta()
        loop = asyncio.get_running_loop()
        due = loop.time()
        for each in itertools.cycle(self._ends):
            due += 1 / self._rate
            if (wait := due - loop.time()) > 0:
                await asyncio.sleep(wait)
            channel = (each.client if self._upward else each.service).channel
            if channel is not None:
                channel.send(text)
                self._sent += 1


async def _peers(sessions: int, rate: float, *, delayed: bool, upward: bool) -> None:
    """Answer one line of standard input after the other."""
    if delayed:
        setattr(benchmarks.peer, "RTCSctpTransport", _Acknowledging)  # noqa: B010 - the type checker knows it as fixed
    process = _PeersProcess(sessions, rate, upward=upward)
    reader = asyncio.StreamReader(limit=_LINE_BYTES)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        command: dict[str, Any] = json.loads(line)
        print(json.dumps(await getattr(process, command.pop("do"))(**command)), flush=True)


# --- the legs' process -----------------------------------------------------------------------------------------------


class _Listener:
    """What a session would be told."""

    def __getattr__(self, _name: str) -> Any:
        return lambda *_: None


class _Texts:
    """Events that the legs took, counted at next to no cost."""

    def __init__(self) -> None:
        self.taken = 0

    def before(self, bridge: Bridge) -> Any:
        """Stand between the legs and their bridge."""
        take = bridge.on_text

        def on_text(leg: LegName, text: str) -> None:
            self.taken += 1
            take(leg, text)

        setattr(bridge, "on_text", on_text)  # noqa: B010 - the type checker knows it as fixed
        return bridge


class _Wire:
    """A leg's own socket."""

    def __init__(self, leg: Leg) -> None:
        self.leg = leg
        self.socket = UdpSocket(HOST, 0, self._on_read, Counter[DropCause]())

    def attach(self, remote: RemoteDescription, description: str) -> None:
        address = Remote.parse(description).address
        if address is None:
            raise ConnectionError("a peer without address")
        self.leg.attach(self.socket.connect(address), remote)

    def _on_read(self, size: int, _address: object) -> None:
        if VIEW[0] in _FIRST_BYTE_OF_DTLS:
            self.leg.inlets.dtls(bytes(VIEW[:size]))


def _local(leg: Leg, certificate: RTCCertificate, setup: str, port: int) -> LocalTransport:
    return LocalTransport(
        "u" * 16, "p" * 32, fingerprint_of(certificate), setup, leg.stream.ssrc, 1,
        candidates=(LocalCandidate("udp", HOST, port),), ice_lite=True,
    )  # fmt: skip


class _Sessions:
    """All sessions of the run, and the process of their peers."""

    def __init__(self, process: asyncio.subprocess.Process, limits: SessionLimits) -> None:
        self.process = process
        self.texts = _Texts()
        self.bridges: list[Bridge] = []
        self.wires: list[tuple[_Wire, _Wire]] = []
        self._limits = limits

    async def ask(self, do: str, **more: Any) -> dict[str, Any]:
        """Give the peers a command."""
        stdin, stdout = self.process.stdin, self.process.stdout
        if stdin is None or stdout is None:
            raise ConnectionError("the peers are not there")
        stdin.write(json.dumps({"do": do, **more}).encode() + b"\n")
        line = await stdout.readline()
        if not line:
            raise ConnectionError("the peers are gone")
        answer: dict[str, Any] = json.loads(line)
        return answer

    async def open(self) -> None:
        """Connect everything."""
        shared = SharedCertificate()
        certificate = shared.current()
        offers: list[str] = (await self.ask("offer"))["offers"]
        service_offers, answers = [], []
        for offer in offers:
            bridge = self.texts.before(Bridge(open_filter(), self._limits, _Listener()))
            down, up = (_Wire(Leg(name, 1, certificate, self._limits, bridge)) for name in LegName)
            if down.leg.name is not LegName.DOWNSTREAM:
                down, up = up, down
            self.bridges.append(bridge)
            self.wires.append((down, up))
            remote = parse_offer(offer)
            down.attach(remote, offer)
            answers.append(build_answer(remote, _local(down.leg, certificate, "passive", down.socket.port)))
            service_offers.append(build_service_offer(_local(up.leg, certificate, "actpass", up.socket.port)))
        service_ports = [up.socket.port for _, up in self.wires]
        answered = (await self.ask("answer", offers=service_offers, ports=service_ports))["answers"]
        for (_, up), answer in zip(self.wires, answered, strict=True):
            up.attach(parse_answer(answer), answer)
        securing = [
            asyncio.create_task(leg.secure(role, label))
            for down, up in self.wires
            for leg, role, label in ((down.leg, "server", None), (up.leg, "client", "oai-events"))
        ]
        await self.ask("connect", answers=answers, ports=[down.socket.port for down, _ in self.wires])
        if not all(await asyncio.gather(*securing)):
            raise ConnectionError("a handshake failed")
        await self.ask("opened")
        for bridge, (down, up) in zip(self.bridges, self.wires, strict=True):
            await asyncio.gather(down.leg.channel_opened(), up.leg.channel_opened())
            bridge.join(down.leg, up.leg)

    async def close(self) -> None:
        """Close the legs, then the peers' process."""
        await asyncio.gather(*(wire.leg.close() for pair in self.wires for wire in pair))
        for wire in itertools.chain(*self.wires):
            wire.socket.close()
        self.process.kill()
        await self.process.wait()


@dataclass(frozen=True, slots=True)
class PathCost:
    """Events forwarded, CPU microseconds each in the middle slice and in the cheapest tenth, kilobytes a session."""

    events: int
    median_us: float
    quiet_us: float
    rss_kb_per_session: float


async def measure_path(
    sessions: int, rate: float, seconds: float, *, delayed: bool, upward: bool, profile: bool = False
) -> PathCost:
    """Forward `rate` events a second over all `sessions`, measured in slices: other work disturbs some of them less.

    Raises ConnectionError when peers or legs do not come up, or events are lost.
    """
    cores = Cores.choose()
    os.sched_setaffinity(0, {cores.relay})
    arguments = ["--peers", "--sessions", str(sessions), "--rate", str(rate)]
    arguments += ["--delayed"] * delayed + ["--upward"] * upward
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.event_path", *arguments,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=_LINE_BYTES,
    )  # fmt: skip
    os.sched_setaffinity(process.pid, {cores.load})
    made = _Sessions(process, replace(SessionLimits(), events_per_second=100_000))
    try:
        gc.collect()
        empty = usage(os.getpid()).rss_kb
        await made.open()
        full = usage(os.getpid()).rss_kb
        await made.ask("start")
        await asyncio.sleep(_SETTLE_SECONDS)
        profiler = cProfile.Profile() if profile else contextlib.nullcontext()
        costs, events = [], 0
        with profiler:
            for _ in range(max(10, round(seconds / _SLICE_SECONDS))):
                before, used = made.texts.taken, time.process_time()
                await asyncio.sleep(_SLICE_SECONDS)
                used = time.process_time() - used
                if (judged := made.texts.taken - before) > _FEWEST_EVENTS:
                    events += judged
                    costs.append(used / judged * 1e6)
        await made.ask("stop")
        for _ in range(_DRAIN_TRIES):
            counts = await made.ask("count")
            if counts["sent"] == counts["heard"]:
                break
            await asyncio.sleep(_SETTLE_SECONDS)
        else:
            raise ConnectionError(f"events are lost: {counts}")
        if isinstance(profiler, cProfile.Profile):
            pstats.Stats(profiler).sort_stats("tottime").print_stats(45)
    finally:
        await made.close()
    costs.sort()
    return PathCost(events, percentile(costs, 50), percentile(costs, 10), (full - empty) / sessions)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.event_path", description="What one event costs.")
    parser.add_argument("--sessions", type=int, default=20)
    parser.add_argument("--rate", type=float, default=400.0, help="events a second, over all sessions (400)")
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--profile", action="store_true", help="print what the time goes to; the figures are then high")
    parser.add_argument("--upward", action="store_true", help="client events instead of transcript deltas")
    parser.add_argument("--delayed", action="store_true", help="peers acknowledge every second packet, as browsers do")
    parser.add_argument("--peers", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peers:
        asyncio.run(_peers(options.sessions, options.rate, delayed=options.delayed, upward=options.upward))
        return 0
    machine = describe()
    print(f"{machine['cpu']}, {machine['python']}")
    cost = asyncio.run(
        measure_path(
            options.sessions, options.rate, options.seconds,
            delayed=options.delayed, upward=options.upward, profile=options.profile,
        )
    )  # fmt: skip
    print(f"{cost.events} events, {cost.rss_kb_per_session:.0f} kB a session")
    print(f"{'in the middle slice':<32}{cost.median_us:>8.1f} us")
    print(f"{'in the cheapest tenth':<32}{cost.quiet_us:>8.1f} us")
    return 0


if __name__ == "__main__":
    sys.exit(main())
