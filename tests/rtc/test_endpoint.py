"""The public UDP port against strangers, forgers and neighbours; checks are made by aioice, not by us."""

from __future__ import annotations

import asyncio
import random
import socket
from types import SimpleNamespace

import pytest
from aioice import stun
from support.checks import CLIENT_HELLO, RTCP, RTP, Taken, check

from relay.core.rtp import DropCause
from relay.rtc.endpoint import Endpoint
from relay.rtc.ice_lite import MAX_PATHS, IceLiteAgent, SeenChecks
from relay.rtc.outpost import Outpost
from relay.rtc.packet import READ_BYTES, load
from relay.rtc.path import Path, Transport

pytestmark = pytest.mark.usefixtures("forwarder")

HERE = ("127.0.0.1", 40_000)
THERE = ("127.0.0.1", 40_001)


class Clock:
    """Monotonic seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
async def endpoint(clock):
    port = Endpoint(("127.0.0.1",), 0, clock)
    yield port
    port.close()


class Wire:
    """Answers of the endpoint, kept instead of sent."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.sent: list[tuple[bytes, object]] = []
        endpoint._inlets[0].socket.sender = lambda address: (
            lambda datagram: self.sent.append((bytes(datagram), address)) or True
        )

    def last(self, key: str) -> stun.Message:
        """The last answer, whose integrity aioice checks with the key."""
        message = stun.parse_message(self.sent[-1][0])
        message.check_message_integrity(key.encode())
        return message


def arrive(endpoint: Endpoint, datagram: bytes, address: tuple[str, int]) -> None:
    """A datagram as the socket hands it over."""
    endpoint._inlets[0]._on_read(load(datagram[:READ_BYTES]), address)


def held(endpoint: Endpoint) -> set[tuple[str, int]]:
    """The addresses that are somebody's."""
    return set(endpoint._inlets[0]._paths)


def agent_of(endpoint: Endpoint) -> tuple[IceLiteAgent, Taken]:
    taken = Taken()
    return endpoint.add_agent(taken.inlets, "peer"), taken


async def test_a_check_is_answered_with_the_address_it_came_from(endpoint):
    agent, _ = agent_of(endpoint)
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.bind(("127.0.0.1", 0))
        peer.setblocking(False)
        peer.sendto(check(agent, nominate=True), ("127.0.0.1", endpoint.port))
        answer = stun.parse_message(await asyncio.wait_for(loop.sock_recv(peer, 2048), 5))
        assert answer.message_class is stun.Class.RESPONSE
        assert answer.attributes["XOR-MAPPED-ADDRESS"] == peer.getsockname()
        await asyncio.wait_for(agent.connected(), 5)
        assert agent.selected.address == peer.getsockname()
        assert agent.send(b"\x80hello")
        assert await asyncio.wait_for(loop.sock_recv(peer, 2048), 5) == b"\x80hello"


async def test_strangers_reach_nobody_and_get_no_answer(endpoint):
    wire = Wire(endpoint)
    agent, taken = agent_of(endpoint)
    arrive(endpoint, check(agent), HERE)
    answers = len(wire.sent)
    expected = [
        (b"", DropCause.EMPTY),
        (b"\x80" + bytes(1500), DropCause.OVERSIZED),
        (CLIENT_HELLO, DropCause.STRANGER),
        (RTP, DropCause.STRANGER),
        (RTCP, DropCause.STRANGER),
        (b"\xff" * 20, DropCause.STRANGER),
        (b"\x00\x01" + bytes(18), DropCause.STUN_MALFORMED),
        (b"\x00", DropCause.STUN_MALFORMED),
        (check(agent, username="nobody:peer"), DropCause.STUN_UNKNOWN_SESSION),
        (check(agent, key="another password, wrong"), DropCause.STUN_NOT_AUTHENTIC),
        (check(agent, username=f"{agent.credentials.ufrag}:stranger"), DropCause.STUN_NOT_AUTHENTIC),
    ]
    for datagram, cause in expected:
        before = endpoint.dropped[cause]
        arrive(endpoint, datagram, THERE)
        assert endpoint.dropped[cause] == before + 1, cause
    assert (len(taken), len(wire.sent)) == (0, answers)
    assert agent.selected.address == HERE


async def test_random_datagrams_are_counted_and_nothing_more(endpoint):
    wire = Wire(endpoint)
    agent_of(endpoint)
    source = random.Random(7)
    for _ in range(5000):
        arrive(endpoint, source.randbytes(source.randrange(0, 1700)), THERE)
    assert sum(endpoint.dropped.values()) == 5000
    assert wire.sent == []


async def test_strangers_do_not_stop_the_socket(endpoint):
    """Over the real socket: the empty datagram ends a session of stock aiortc."""
    agent, taken = agent_of(endpoint)
    loop = asyncio.get_running_loop()
    source = random.Random(8)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.bind(("127.0.0.1", 0))
        peer.setblocking(False)
        for datagram in (b"", b"\x00", bytes(9000), source.randbytes(1200), CLIENT_HELLO):
            peer.sendto(datagram, ("127.0.0.1", endpoint.port))
        peer.sendto(check(agent), ("127.0.0.1", endpoint.port))
        answer = stun.parse_message(await asyncio.wait_for(loop.sock_recv(peer, 2048), 5))
        assert answer.message_class is stun.Class.RESPONSE
        assert (endpoint.dropped[DropCause.EMPTY], endpoint.dropped[DropCause.OVERSIZED]) == (1, 1)
        assert len(taken) == 0


async def test_after_a_check_each_kind_has_its_inlet(endpoint):
    Wire(endpoint)
    agent, taken = agent_of(endpoint)
    arrive(endpoint, CLIENT_HELLO, HERE)
    assert taken.dtls == []
    arrive(endpoint, check(agent), HERE)
    for datagram in (CLIENT_HELLO, RTP, RTCP, b"\xff" * 20):
        arrive(endpoint, datagram, HERE)
    assert (taken.dtls, taken.rtp, taken.rtcp) == ([CLIENT_HELLO], [RTP], [RTCP])
    assert endpoint.dropped == {DropCause.STRANGER: 1, DropCause.UNRECOGNISED: 1}


async def test_a_living_session_keeps_its_address(endpoint, clock):
    wire = Wire(endpoint)
    (one, of_one), (two, of_two) = agent_of(endpoint), agent_of(endpoint)
    arrive(endpoint, check(one), HERE)
    clock.now += 14.9
    arrive(endpoint, check(two), HERE)
    assert endpoint.dropped[DropCause.ADDRESS_TAKEN] == 1
    assert (two.selected, len(wire.sent)) == (None, 1)
    arrive(endpoint, RTP, HERE)
    assert (len(of_one), len(of_two)) == (1, 0)
    # Silent for 15 s it has lost it.
    clock.now += 0.2
    arrive(endpoint, check(two), HERE)
    arrive(endpoint, RTP, HERE)
    assert (len(of_one), len(of_two)) == (1, 1)
    assert one.selected is None
    assert two.selected.address == HERE
    assert not one.send(RTP)


async def test_a_session_proves_a_bounded_number_of_addresses(endpoint, clock):
    Wire(endpoint)
    agent, taken = agent_of(endpoint)
    addresses = [("127.0.0.1", 41_000 + number) for number in range(MAX_PATHS + 5)]
    arrive(endpoint, check(agent, nominate=True), addresses[0])
    for address in addresses[1:]:
        clock.now += 0.1
        arrive(endpoint, check(agent), address)
    assert endpoint.dropped[DropCause.ADDRESS_LIMIT] == 5
    assert len(held(endpoint)) == len(agent._paths) == MAX_PATHS
    # The oldest go; the selected one stays whatever its age.
    assert agent.selected.address == addresses[0]
    for address in addresses:
        arrive(endpoint, RTP, address)
    assert len(taken.rtp) == MAX_PATHS
    agent.close()
    assert (held(endpoint), endpoint._by_ufrag) == (set(), {})
    arrive(endpoint, check(agent), HERE)
    assert endpoint.dropped[DropCause.STUN_UNKNOWN_SESSION] == 1


async def test_the_peer_nominates(endpoint):
    wire = Wire(endpoint)
    agent, _ = agent_of(endpoint)
    arrive(endpoint, check(agent), HERE)
    assert agent.selected.address == HERE
    arrive(endpoint, check(agent, nominate=True), THERE)
    assert agent.selected.address == THERE
    arrive(endpoint, check(agent), HERE)
    assert agent.selected.address == THERE
    agent.send(RTP)
    assert wire.sent[-1] == (RTP, THERE)


async def test_a_role_conflict_is_answered_and_proves_nothing(endpoint):
    wire = Wire(endpoint)
    agent, _ = agent_of(endpoint)
    arrive(endpoint, check(agent, **{"ICE-CONTROLLED": 1}), HERE)
    answer = wire.last(agent.credentials.pwd)
    assert (answer.message_class, answer.attributes["ERROR-CODE"][0]) == (stun.Class.ERROR, 487)
    assert (agent.selected, held(endpoint), agent.last_check) == (None, set(), 0.0)


async def test_answers_are_signed_and_no_larger_than_twice_the_check(endpoint):
    """Nobody is made a reflector: only the holder of the password is answered, and not with much."""
    wire = Wire(endpoint)
    agent, _ = agent_of(endpoint)
    asked = check(agent)
    arrive(endpoint, asked, HERE)
    assert wire.last(agent.credentials.pwd).attributes["XOR-MAPPED-ADDRESS"] == HERE
    assert len(wire.sent[-1][0]) <= 2 * len(asked)


async def test_a_taken_port_is_an_error_and_a_closed_one_is_free():
    first = Endpoint(("127.0.0.1",), 0)
    port = first.port
    with pytest.raises(OSError, match="in use"):
        Endpoint(("127.0.0.1",), port)
    first.close()
    Endpoint(("127.0.0.1",), port).close()


async def test_both_families_share_the_port_and_answer_on_their_own_socket(clock):
    endpoint = Endpoint(("127.0.0.1", "::1"), 0, clock)
    agent, _ = agent_of(endpoint)
    loop = asyncio.get_running_loop()
    try:
        for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
            with socket.socket(family, socket.SOCK_DGRAM) as peer:
                peer.bind((host, 0))
                peer.setblocking(False)
                peer.sendto(check(agent, nominate=True), (host, endpoint.port))
                answer = stun.parse_message(await asyncio.wait_for(loop.sock_recv(peer, 2048), 5))
                assert answer.attributes["XOR-MAPPED-ADDRESS"] == peer.getsockname()[:2]
                assert agent.selected.address == peer.getsockname()
    finally:
        endpoint.close()


async def test_after_a_restart_both_credentials_serve_until_the_peer_nominates_under_the_new(endpoint):
    wire = Wire(endpoint)
    agent, _ = agent_of(endpoint)
    old = agent.credentials
    arrive(endpoint, check(agent, nominate=True), HERE)
    new = agent.restart("again")
    assert new.ufrag != old.ufrag
    assert new.pwd != old.pwd
    arrive(endpoint, check(agent, of=old, nominate=True), HERE)
    wire.last(old.pwd)
    arrive(endpoint, check(agent, of=new), THERE)
    wire.last(new.pwd)
    # The ufrag of one with the password of the other, and the peer's old name, open nothing.
    for forged in (check(agent, key=old.pwd), check(agent, username=f"{new.ufrag}:peer")):
        arrive(endpoint, forged, THERE)
    assert endpoint.dropped[DropCause.STUN_NOT_AUTHENTIC] == 2
    assert agent.selected.address == HERE
    arrive(endpoint, check(agent, nominate=True), THERE)
    assert agent.selected.address == THERE
    arrive(endpoint, check(agent, of=old), HERE)
    assert endpoint.dropped[DropCause.STUN_UNKNOWN_SESSION] == 1
    assert set(endpoint._by_ufrag) == {new.ufrag}


async def test_many_restarts_leave_two_credentials_at_most(endpoint):
    agent, _ = agent_of(endpoint)
    for number in range(20):
        agent.restart(f"peer{number}")
    assert len(endpoint._by_ufrag) == 2
    agent.close()
    assert endpoint._by_ufrag == {}


async def test_media_on_a_newer_path_moves_ours(endpoint, clock):
    """A NAT gave the peer another port, and its browser checks from there without nominating again."""
    Wire(endpoint)
    agent, taken = agent_of(endpoint)
    arrive(endpoint, check(agent, nominate=True), HERE)
    arrive(endpoint, RTP, THERE)
    assert (agent.selected.address, endpoint.dropped[DropCause.STRANGER]) == (HERE, 1)
    clock.now += 2
    arrive(endpoint, check(agent), THERE)
    assert agent.selected.address == HERE
    arrive(endpoint, RTP, THERE)
    assert (agent.selected.address, taken.rtp) == (THERE, [RTP])
    # A straggler of the old path does not move it back.
    arrive(endpoint, RTP, HERE)
    assert agent.selected.address == THERE


async def test_a_connection_is_a_path_until_it_is_lost(endpoint):
    """What a TCP listener does with a connection of its own."""
    Wire(endpoint)
    agent, taken = agent_of(endpoint)
    sent, released = [], []
    connection = Path(
        Transport.TCP, THERE, lambda datagram: sent.append(datagram) or True, lambda _: None, released.append
    )
    arrive(endpoint, check(agent, nominate=True), HERE)
    endpoint.on_datagram(RTP, connection)
    assert taken.rtp == []
    endpoint.on_datagram(check(agent, nominate=True), connection)
    endpoint.on_datagram(RTP, connection)
    assert (agent.selected, taken.rtp, len(sent)) == (connection, [RTP], 1)
    endpoint.lost(connection)
    assert (agent.selected.address, released) == (HERE, [])
    endpoint.on_datagram(RTP, connection)
    assert taken.rtp == [RTP]
    again = Path(Transport.TCP, THERE, lambda _: True, lambda _: None, released.append)
    endpoint.on_datagram(check(agent), again)
    agent.close()
    assert released == [again]


async def test_a_check_seen_before_proves_no_other_path(endpoint):
    """Signed as it is, it may have been overheard; from the path it came on first, it is a retransmission."""
    wire = Wire(endpoint)
    agent, _ = agent_of(endpoint)
    overheard = check(agent, nominate=True)
    for _ in range(2):
        arrive(endpoint, overheard, HERE)
    arrive(endpoint, overheard, THERE)
    assert (agent.selected.address, held(endpoint), len(wire.sent)) == (HERE, {HERE}, 2)
    assert endpoint.dropped == {DropCause.STUN_REPLAYED: 1}
    arrive(endpoint, check(agent, nominate=True), THERE)
    assert agent.selected.address == THERE


def test_seen_checks_are_few_bits_and_rarely_taken_for_others():
    source = random.Random(5)
    seen = SeenChecks()
    hour = [source.randbytes(12) for _ in range(1440)]
    for each in hour:
        seen.add(each)
    assert all(each in seen for each in hour)
    assert sum(source.randbytes(12) in seen for _ in range(10_000)) < 50


async def test_nobody_has_port_0(endpoint):
    """Such a datagram can be made, and no answer can be sent: it proves nothing and goes to no other process."""
    agent, taken = agent_of(endpoint)
    asked = []
    endpoint._elsewhere = SimpleNamespace(
        take_check=lambda *given: asked.append(given) or True,
        take=lambda *given: asked.append(given) or True,
        yields=lambda path: True,
    )
    for datagram in (check(agent), check(agent, username="others:peer"), RTP):
        arrive(endpoint, datagram, ("192.0.2.1", 0))
    assert (agent.selected, held(endpoint), len(taken), asked) == (None, set(), 0, [])
    assert endpoint.dropped == {DropCause.STRANGER: 3}


async def test_a_worker_gives_nothing_from_port_0_back(endpoint):
    """One that names such an address is taken for a broken one, and ended (relay/workers/codec.py)."""
    given, (agent, _) = [], agent_of(endpoint)
    worker = Outpost(SimpleNamespace(stray=lambda *back: given.append(back)), ("127.0.0.1",), endpoint.port)
    worker.on_datagram_from_front(0, THERE, check(agent))
    worker.on_datagram_from_front(0, ("192.0.2.1", 0), check(agent))
    assert ([address for _, address, _ in given], worker.dropped) == ([THERE], {DropCause.STRANGER: 1})
    worker.close()
