"""Strangers throw everything at both media ports while two clients talk, one over UDP, one over TCP: nobody notices."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
from dataclasses import dataclass, field

import pytest
from support.active_tcp import active_tcp
from support.client import Client
from support.resources import settled
from support.service import CLIENT_KEY
from support.sessions import watched

from relay.core.rtp import DatagramKind, DropCause, classify
from relay.rtc.path import Transport

pytestmark = pytest.mark.usefixtures("forwarder")

ROUNDS = 3
FLOOD = 600
# How many datagrams are sent before the relay, in the same loop, may read.
BURST = 12
EVERY_KIND = {DatagramKind.STUN, DatagramKind.DTLS, DatagramKind.RTP, DatagramKind.RTCP}
HELD_CONNECTIONS = 40


@dataclass
class Scene:
    """Two sessions under way, what the first's client has sent to the relay, and where the relay listens."""

    watch: object
    udp: Client
    tcp: Client
    sniffed: list[bytes]
    source: random.Random = field(default_factory=lambda: random.Random(11))

    @property
    def endpoint(self):
        return self.watch.world.relay.registry._host._plane.endpoint

    @property
    def udp_address(self):
        return ("127.0.0.1", self.endpoint.port)

    @property
    def tcp_address(self):
        return ("127.0.0.1", self.watch.world.relay.media_addresses[0].tcp_port)

    def paths(self):
        return [agent.selected for agent in self.endpoint._by_ufrag.values()]

    async def undisturbed(self) -> None:
        """Both sessions still carry sound and events; none of what was thrown was kept."""
        for client in (self.udp, self.tcp):
            heard, answers = len(client.levels), len(client.events)
            client.send({"type": "session.update", "session": {"type": "realtime", "output_modalities": ["text"]}})
            await client.until(lambda c=client, n=answers: [e for e in c.events[n:] if e["type"] == "session.updated"])
            await client.until(lambda c=client, n=heard: len(c.levels) > n + 5)
        assert self.watch.records == []
        assert len(self.endpoint._by_ufrag) == 2
        assert [len(inlet._paths) for inlet in self.endpoint._inlets] == [1]
        for counters in self.watch.world.relay.registry.live.counters().values():
            assert counters.downstream.packets_lost == 0


@contextlib.asynccontextmanager
async def scene():
    async with (
        watched() as watch,
        active_tcp() as bridge,
        Client(watch.world.url, CLIENT_KEY) as udp,
        Client(watch.world.url, CLIENT_KEY) as tcp,
    ):
        sniffed: list[bytes] = []
        endpoint = watch.world.relay.registry._host._plane.endpoint
        take, (inlet,) = endpoint.on_datagram, endpoint._inlets
        # Until enough was overheard no packet goes past the endpoint.
        inlet.socket.direct = lambda *_: None
        endpoint.on_datagram = lambda datagram, path: (
            (path.transport is Transport.UDP and sniffed.append(datagram)) or take(datagram, path)
        )
        await udp.connect()
        status, answer = await tcp.post_offer(await tcp.offer(), await tcp.mint())
        assert status == 201
        await tcp.accept(bridge.through(answer))
        for client in (udp, tcp):
            await client.event("session.created")
        await udp.until(lambda: {classify(each) for each in sniffed} >= EVERY_KIND)
        del endpoint.on_datagram, inlet.socket.direct
        for path in list(inlet._paths.values()):
            inlet._keep(path)
        yield Scene(watch, udp, tcp, sniffed)
        for client in (udp, tcp):
            assert await client.hang_up() == 200
            await client.closed.wait()


def thrown(scene: Scene) -> list[bytes]:
    """Random, empty, truncated, huge and bent datagrams, and the client's own but its checks."""
    source, sniffed = scene.source, scene.sniffed
    overheard = [each for each in sniffed if classify(each) is not DatagramKind.STUN]
    kinds = [
        lambda: source.randbytes(source.randrange(1, 1500)),
        lambda: b"",
        lambda: (one := source.choice(sniffed))[: source.randrange(len(one))],
        lambda: source.randbytes(source.choice((1501, 9000, 60_000))),
        lambda: bent(source, source.choice(overheard)),
        lambda: bytes([source.choice((0, 22, 128, 200))]) + source.randbytes(60),
    ]
    return [source.choice(kinds)() for _ in range(FLOOD)] + overheard


def bent(source: random.Random, datagram: bytes) -> bytes:
    at = source.randrange(len(datagram))
    return datagram[:at] + bytes([datagram[at] ^ 1 << source.randrange(8)]) + datagram[at + 1 :]


async def throw(scene: Scene, datagrams: list[bytes], send) -> None:
    for at in range(0, len(datagrams), BURST):
        for datagram in datagrams[at : at + BURST]:
            send(datagram)
        await asyncio.sleep(0)


async def test_datagrams_of_strangers():
    async with scene() as here:
        before = here.paths()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            stranger.setblocking(False)
            stranger.bind(("127.0.0.2", 0))
            for _ in range(ROUNDS):
                hostile = thrown(here)
                dropped = here.endpoint.dropped.total() + len(hostile)
                await throw(here, hostile, lambda datagram: stranger.sendto(datagram, here.udp_address))
                assert not await settled(lambda end=dropped: here.endpoint.dropped.total() < end)
            assert here.paths() == before
            await here.undisturbed()
            # Not one of them was answered.
            with contextlib.suppress(BlockingIOError):
                assert not stranger.recv(2048)
        causes = set(here.endpoint.dropped)
        assert causes >= {DropCause.EMPTY, DropCause.OVERSIZED, DropCause.STRANGER, DropCause.STUN_MALFORMED}
        assert DropCause.INTERNAL not in causes


async def test_datagrams_from_the_clients_own_address():
    """As if forged by somebody on its path: the session drops them by its own keys and counters."""
    async with scene() as here:
        before = here.paths()
        ice = here.udp.peer.getSenders()[0].transport.transport._connection
        sender = next(protocol.transport for protocol in ice._protocols if protocol.transport is not None)
        # A flood ends the attacked session by its packet rate, as it should: what is meant here is content.
        hostile = [each for each in thrown(here) if each][: FLOOD // 2]
        hostile += [each for each in here.sniffed if classify(each) is DatagramKind.RTP][:50]
        for at in range(0, len(hostile), 4):
            for datagram in hostile[at : at + 4]:
                sender.sendto(datagram, here.udp_address)
            await asyncio.sleep(0.02)
        assert here.paths() == before
        await here.undisturbed()
        assert DropCause.INTERNAL not in here.endpoint.dropped


async def test_bytes_of_strangers_on_tcp():
    async with scene() as here:
        before = here.paths()
        source = here.source
        streams = [
            b"",
            bytes(2),
            b"\xff\xff" + bytes(3000),
            b"\x05\xdc" + bytes(700),
            b"GET / HTTP/1.1\r\n\r\n",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(509),
            *(source.randbytes(source.randrange(1, 6000)) for _ in range(40)),
            *(b"".join(framed(each) for each in here.sniffed[at : at + 9]) for at in range(0, 180, 9)),
            *(framed(bent(source, each)) * 20 for each in here.sniffed[:20]),
            *(framed(b"\x80") * 2000 for _ in range(5)),
        ]
        streams = [each for each in streams if not replays_a_check(each, here)]
        listening = here.tcp_address
        held = []
        for _ in range(ROUNDS):
            held += [await plugged(listening, stream) for stream in streams]
        held += [await plugged(listening, b"\x00") for _ in range(HELD_CONNECTIONS)]
        assert here.paths() == before
        await here.undisturbed()
        causes = here.endpoint.dropped
        assert causes[DropCause.TCP_FRAMING] > 0
        assert causes[DropCause.TCP_UNPROVEN] > 0
        assert causes[DropCause.TCP_LIMIT] > 0
        assert DropCause.INTERNAL not in causes
        for each in held:
            each.close()


def framed(datagram: bytes) -> bytes:
    return len(datagram).to_bytes(2, "big") + datagram


def replays_a_check(stream: bytes, here: Scene) -> bool:
    return any(each in stream for each in here.sniffed if classify(each) is DatagramKind.STUN)


async def plugged(address: tuple[str, int], stream: bytes) -> socket.socket:
    """Connect and send as much as is taken before the other end closes."""
    loop = asyncio.get_running_loop()
    plug = socket.socket()
    plug.setblocking(False)
    await asyncio.wait_for(loop.sock_connect(plug, address), 5)
    with contextlib.suppress(ConnectionError, TimeoutError):
        await asyncio.wait_for(loop.sock_sendall(plug, stream), 1)
    return plug


async def test_a_checks_replay_proves_no_address():
    """A check is signed but not bound to an address: who overheard one could ask for a session's sound with it."""
    async with scene() as here:
        before = here.paths()
        checks = [each for each in here.sniffed if classify(each) is DatagramKind.STUN]
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            stranger.setblocking(False)
            stranger.bind(("127.0.0.2", 0))
            for datagram in checks:
                stranger.sendto(datagram, here.udp_address)
            plug = await plugged(here.tcp_address, b"".join(framed(each) for each in checks[:7]))
            await here.undisturbed()
            assert here.paths() == before
            with contextlib.suppress(BlockingIOError):
                assert not stranger.recv(2048)
            plug.close()
