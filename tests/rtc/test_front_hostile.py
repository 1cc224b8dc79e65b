"""One public port and two workers: strangers, floods and a bad worker take nothing from anybody else's session."""

from __future__ import annotations

import asyncio
import sys

import pytest
from support.checks import RTP, check
from support.outposts import Peer, heard, turns, until

from relay.core.rtp import MAX_DATAGRAM, DropCause
from relay.rtc import front, outpost

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes share a UDP port on Linux")

THERE = ("127.0.0.9", 40_000)


@pytest.mark.parametrize("has_sockets", [True, False])
async def test_a_living_session_keeps_its_address_from_other_workers(relay, peer, has_sockets, request):
    """A forged source is the same datagram to the kernel: here the peer's own socket sends it."""
    if not has_sockets:
        request.getfixturevalue("no_sockets")
    one, two = relay.workers
    (holder, of_holder), (thief, of_thief) = one.agent(), two.agent()
    await heard()
    await peer.proves(holder)
    relay.clock.now += 14.9
    peer.send(check(thief), RTP)
    await until(lambda: len(of_holder) == 1)
    assert one.outpost.dropped[DropCause.ADDRESS_TAKEN] == 1
    assert (two.given, thief.selected, len(of_thief)) == ([], None, 0)
    # Silent for 15 s it may lose it, but only to a check that is authentic.
    relay.clock.now += 0.2
    peer.send(check(thief, key="another password, wrong"))
    await until(lambda: two.outpost.dropped[DropCause.STUN_NOT_AUTHENTIC] == 1)
    assert (holder.selected.address, thief.selected) == (peer.address, None)
    await peer.proves(holder)
    relay.clock.now += 15.1
    await peer.proves(thief)
    await until(lambda: holder.selected is None)
    peer.send(RTP)
    await until(lambda: len(of_thief) == 1)
    assert len(of_holder) == 1
    assert one.outpost._lines._by_place == {}
    await peer.proves(thief)


async def test_two_sessions_of_one_worker_keep_the_same_rule(relay, peer):
    worker = relay.workers[0]
    (holder, _), (later, taken) = worker.agent(), worker.agent()
    await heard()
    await peer.proves(holder)
    peer.send(check(later))
    await until(lambda: worker.outpost.dropped[DropCause.ADDRESS_TAKEN] == 1)
    relay.clock.now += 15.1
    await peer.proves(later)
    peer.send(RTP)
    await until(lambda: len(taken) == 1)
    later.close()
    await heard()
    assert relay.front._held == {}


async def test_who_knows_no_session_costs_workers_nothing(relay, peer):
    worker = relay.workers[0]
    agent, _ = worker.agent()
    await heard()
    await peer.proves(agent)
    stranger = Peer(relay)
    for number in range(200):
        stranger.send(check(agent, username=f"{number:016}:peer"), RTP, b"\x00" * 20, b"", bytes(MAX_DATAGRAM + 1))
        await asyncio.sleep(0)
    await until(lambda: relay.endpoint.dropped.total() == 1000)
    assert relay.endpoint.dropped[DropCause.STUN_UNKNOWN_SESSION] == 200
    assert len(worker.given) == 1
    # From a living session's address they end in its worker; from a silent one's they come back, at a bounded rate.
    for number in range(10):
        peer.send(check(agent, username=f"{number:016}:peer"))
    await until(lambda: worker.outpost.dropped[DropCause.ADDRESS_TAKEN] == 10)
    assert worker.strays == []
    relay.clock.now += 15.1
    most = int(outpost.STRAYS_A_SECOND)
    for number in range(most + 10):
        peer.send(check(agent, username=f"{number:016}:peer"))
        await asyncio.sleep(0)
    await until(lambda: worker.outpost.dropped[DropCause.RATE] == 10)
    await until(lambda: relay.endpoint.dropped[DropCause.STUN_UNKNOWN_SESSION] == 200 + most)
    assert len(worker.given) == 1
    stranger.socket.close()


async def test_who_floods_one_sessions_name_costs_its_neighbours_nothing(relay, peer, monkeypatch):
    monkeypatch.setattr(front, "HANDED_A_SECOND", 20.0)
    worker = relay.workers[0]
    (flooded, _), (neighbour, _) = worker.agent(), worker.agent()
    await heard()
    flood = Peer(relay)
    for _ in range(30):
        flood.send(check(flooded, key="another password, wrong"), RTP)
    await until(lambda: relay.endpoint.dropped[DropCause.RATE] == 40)
    assert len(worker.given) == 20
    await peer.proves(neighbour)
    # A second later the session itself gets through again.
    relay.clock.now += 1.0
    late = Peer(relay)
    await late.proves(flooded)
    for each in (flood, late):
        each.socket.close()


async def test_given_addresses_are_bounded_and_expire(relay, monkeypatch):
    monkeypatch.setattr(front, "GIVEN_ADDRESSES", 3)
    worker = relay.workers[0]
    agent, _ = worker.agent()
    await heard()
    peers = [Peer(relay) for _ in range(5)]
    for each in peers:
        each.send(check(agent, key="another password, wrong"))
    await until(lambda: worker.outpost.dropped[DropCause.STUN_NOT_AUTHENTIC] == 5)
    assert [address for _, address in relay.front._given] == [each.address for each in peers[2:]]
    relay.clock.now += front.GIVEN_SECONDS
    peers[4].send(RTP)
    await until(lambda: relay.endpoint.dropped[DropCause.STRANGER] == 1)
    assert worker.outpost.dropped[DropCause.STRANGER] == 0
    for each in peers:
        each.socket.close()


async def test_a_hostile_worker_harms_nobody_elses_sessions(relay, peer):
    hostile, honest = relay.workers
    agent, taken = honest.agent()
    ufrag = agent.credentials.ufrag
    await heard()
    hostile.listen_for(ufrag)
    hostile.forget(ufrag)
    hostile.claimed(0, peer.address)
    await heard()
    await peer.proves(agent)
    await heard()
    hostile.claimed(0, peer.address)
    hostile.released(0, peer.address)
    hostile.send(0, peer.address, b"forged")
    hostile.send(7, THERE, b"to anywhere")
    hostile.send(0, ("a.name.example", 53), b"to be looked up")
    hostile.stray(7, THERE, RTP)
    hostile.stray(-1, THERE, RTP)
    hostile.stray(0, THERE, b"")
    await turns()
    assert relay.endpoint.dropped == {DropCause.STRANGER: 5, DropCause.EMPTY: 1}
    peer.send(RTP)
    await until(lambda: len(taken) == 1)
    await peer.proves(agent)
    assert relay.holders() == {(0, peer.address): honest}
    # Nor does it get an address between another worker's check and that one's claim.
    honest.stuck = True
    other = Peer(relay)
    other.send(check(agent))
    await until(lambda: len(honest.given) == 2)
    hostile.claimed(0, other.address)
    await turns()
    assert relay.holders() == {(0, peer.address): honest}
    honest.unstick()
    await other.proves(agent)
    await until(lambda: relay.holders().get((0, other.address)) is honest)
    assert hostile.given == []
    other.socket.close()


async def test_a_flood_that_names_one_session_pushes_out_no_address_of_another(relay, peer, monkeypatch):
    monkeypatch.setattr(front, "HANDED_A_SECOND", 10.0)
    monkeypatch.setattr(front, "GIVEN_ADDRESSES", 12)
    worker = relay.workers[0]
    (flooded, _), (neighbour, _) = worker.agent(), worker.agent()
    await heard()
    worker.stuck = True
    peer.send(check(neighbour))
    await until(lambda: len(worker.given) == 1)
    flood = [Peer(relay) for _ in range(30)]
    for each in flood:
        each.send(check(flooded, key="another password, wrong"))
    await until(lambda: relay.endpoint.dropped[DropCause.RATE] == 20)
    worker.unstick()
    await until(lambda: neighbour.selected)
    await heard()
    assert list(relay.front._held) == [(0, peer.address)]
    for each in flood:
        each.socket.close()


async def test_a_worker_that_holds_all_it_may_takes_nothing_from_another(relay, monkeypatch):
    monkeypatch.setattr(front, "HELD_ADDRESSES", 2)
    (greedy, _), (modest, _) = relay.workers[0].agent(), relay.workers[1].agent()
    await heard()
    peers = [Peer(relay) for _ in range(4)]
    for each in peers[:3]:
        await each.proves(greedy)
    await peers[3].proves(modest)
    await heard()
    assert [address for _, address in relay.front._held] == [each.address for each in (*peers[:2], peers[3])]
    # What is released, or lost with its worker, is free again.
    greedy.close()
    await heard()
    (again, _) = relay.workers[0].agent()
    await heard()
    await peers[0].proves(again)
    await heard()
    assert relay.front._held.keys() == {(0, peers[0].address), (0, peers[3].address)}
    for each in peers:
        each.socket.close()
