"""One public port and two workers: real sockets, and between the processes messages that a test can hold up."""

from __future__ import annotations

import logging
import random
import sys

import pytest
from aioice import stun
from support.checks import CLIENT_HELLO, RTCP, RTP, Taken, check
from support.outposts import Peer, Relay, heard, turns, until

from relay.core.rtp import DropCause
from relay.rtc import front, outpost

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes share a UDP port on Linux")

HOSTS = [("127.0.0.1",), ("0.0.0.0",), ("::1",), ("::",), ("::1", "127.0.0.1"), ("0.0.0.0", "::")]


def be_stuck_by_turns(relay: Relay, order: random.Random) -> None:
    for worker in relay.workers:
        if order.random() < 0.3:
            worker.stuck = True
        elif worker.stuck:
            worker.unstick()


@pytest.mark.parametrize("hosts", HOSTS, ids=" ".join)
async def test_the_first_check_comes_through_the_main_process_and_what_follows_does_not(hosts):
    relay = Relay(*hosts)
    one, two = relay.workers
    try:
        for host in hosts:
            for worker in (one, two):
                agent, taken = worker.agent()
                peer = Peer(relay, host)
                await heard()
                await peer.proves(agent, nominate=True)
                handed = len(worker.given)
                peer.send(CLIENT_HELLO, RTP, RTCP)
                await until(lambda taken=taken: len(taken) == 3)
                await peer.proves(agent)
                assert agent.selected.address == peer.address
                assert agent.send(b"\x80answer")
                assert await peer.read() == b"\x80answer"
                assert len(worker.given) == handed
                peer.socket.close()
        assert [len(each.given) for each in (one, two)] == [len(hosts), len(hosts)]
        assert (dict(relay.endpoint.dropped), dict(one.outpost.dropped), one.strays) == ({}, {}, [])
        assert one.outpost.unconnected == 0
    finally:
        relay.close()


@pytest.mark.parametrize("hosts", [("127.0.0.1",), ("0.0.0.0",), ("::1",)], ids=" ".join)
async def test_no_datagram_of_the_race_is_lost_whatever_comes_between(hosts):
    """Twenty browsers that do not wait for answers, workers that are stuck by turns, strangers all the while."""
    relay = Relay(*hosts)
    order = random.Random(5)
    agents, of_agents = zip(*(relay.workers[number % 2].agent() for number in range(20)), strict=True)
    peers = [Peer(relay, hosts[0]) for _ in agents]
    await heard()
    for step in range(40):
        be_stuck_by_turns(relay, order)
        for number, (peer, agent) in enumerate(zip(peers[: step + 1], agents, strict=False)):
            if step == number or order.random() < 0.1:
                peer.send(check(agent))
            peer.send(RTP + b"%d" % step, CLIENT_HELLO + b"%d" % step)
        stranger = Peer(relay, hosts[0])
        stranger.send(CLIENT_HELLO)
        stranger.socket.close()
        await turns(order.randrange(8))
    for worker in relay.workers:
        worker.unstick()
    sent = [40 - number for number in range(20)]
    await until(lambda: [len(taken.rtp) for taken in of_agents] == sent)
    await until(lambda: [len(taken.dtls) for taken in of_agents] == sent)
    await until(lambda: relay.endpoint.dropped == {DropCause.STRANGER: 40})
    assert [(dict(worker.outpost.dropped), worker.strays) for worker in relay.workers] == [({}, [])] * 2
    # Once no worker is stuck, all media goes past the main process.
    handed = [len(worker.given) for worker in relay.workers]
    for peer in peers:
        peer.send(RTP)
    await until(lambda: sum(len(taken.rtp) for taken in of_agents) == sum(sent) + 20)
    assert [len(worker.given) for worker in relay.workers] == handed
    for peer in peers:
        peer.socket.close()
    relay.close()


async def test_a_rebound_browser_finds_its_worker(relay, peer):
    agent, taken = relay.workers[1].agent()
    await heard()
    await peer.proves(agent, nominate=True)
    behind_another_port = Peer(relay)
    await behind_another_port.proves(agent, nominate=True)
    assert agent.selected.address == behind_another_port.address
    behind_another_port.send(RTP)
    peer.send(RTP)
    await until(lambda: len(taken) == 2)
    assert (len(relay.workers[0].given), len(relay.workers[1].given)) == (0, 2)
    behind_another_port.socket.close()


async def test_after_an_ice_restart_both_names_lead_to_the_worker_until_one_is_retired(relay, peer):
    agent, _ = relay.workers[0].agent()
    await heard()
    await peer.proves(agent, nominate=True)
    before = agent.credentials
    agent.restart("other")
    await heard()
    # On the address it has, and on another.
    await peer.proves(agent)
    elsewhere = Peer(relay)
    await elsewhere.proves(agent, of=before)
    await elsewhere.proves(agent, nominate=True)
    await heard()
    third = Peer(relay)
    third.send(check(agent, of=before))
    await until(lambda: relay.endpoint.dropped[DropCause.STUN_UNKNOWN_SESSION] == 1)
    for each in (elsewhere, third):
        each.socket.close()


async def test_what_a_closed_session_had_is_the_main_processs_again(relay, peer):
    worker = relay.workers[0]
    agent, taken = worker.agent()
    await heard()
    await peer.proves(agent)
    agent.close()
    await heard()
    relay.clock.now += front.GIVEN_SECONDS
    handed = len(worker.given)
    peer.send(check(agent), RTP)
    await until(lambda: relay.endpoint.dropped[DropCause.STRANGER] == 1)
    assert relay.endpoint.dropped[DropCause.STUN_UNKNOWN_SESSION] == 1
    assert (len(worker.given), len(taken)) == (handed, 0)
    assert (relay.front._by_ufrag, relay.front._held, relay.front._given) == ({}, {}, {})
    assert worker.outpost._lines._by_place == {}
    # The address may be anybody's now.
    other, _ = relay.workers[1].agent()
    await heard()
    await peer.proves(other)


async def test_a_lost_worker_takes_only_its_own_with_it(relay, peer):
    one, two = relay.workers
    (gone, _), (stays, taken) = one.agent(), two.agent()
    neighbour = Peer(relay)
    await heard()
    await peer.proves(gone)
    await neighbour.proves(stays)
    one.die()
    relay.front.lose(one)
    handed = len(one.given)
    peer.send(RTP, check(gone))
    await until(lambda: relay.endpoint.dropped[DropCause.STUN_UNKNOWN_SESSION] == 1)
    assert relay.endpoint.dropped[DropCause.STRANGER] == 1
    neighbour.send(RTP)
    await until(lambda: len(taken) == 1)
    await neighbour.proves(stays)
    assert len(one.given) == handed
    known = [*relay.front._held.values(), *relay.front._by_ufrag.values()]
    assert [each.taker for each in known] == [two, two]
    neighbour.socket.close()


async def test_without_a_socket_of_its_own_a_path_goes_through_the_main_process(relay, peer, no_sockets, caplog):
    caplog.set_level(logging.WARNING)
    worker = relay.workers[0]
    agent, taken = worker.agent()
    await heard()
    await peer.proves(agent, nominate=True)
    relay.clock.now += 10 * front.GIVEN_SECONDS
    peer.send(CLIENT_HELLO, RTP, RTCP)
    await until(lambda: len(taken) == 3)
    assert agent.send(RTP)
    assert await peer.read() == RTP
    rebound = Peer(relay)
    await rebound.proves(agent)
    assert worker.outpost.unconnected == 2
    assert [record.getMessage() for record in caplog.records] == [
        "no socket for a session, its media goes through the main process: Too many open files"
    ]
    assert dict(relay.endpoint.dropped) == {}
    agent.close()
    await heard()
    assert relay.front._held == {}
    rebound.socket.close()


async def test_what_was_queued_before_the_socket_was_connected_is_given_back(relay, peer):
    """The kernel's rules leave no such datagram (test_shared_port.py), so it is put there."""
    worker = relay.workers[0]
    (agent, taken), (other, of_other) = worker.agent(), relay.workers[1].agent()
    neighbour = Peer(relay)
    await heard()
    await peer.proves(agent)
    await neighbour.proves(other)
    line = worker.outpost._lines._by_place[0, peer.address]
    for datagram in (RTP, check(other)):
        outpost.VIEW[: len(datagram)] = datagram
        line._on_read(len(datagram), (f"::ffff:{neighbour.address[0]}", neighbour.address[1], 0, 0))
    await until(lambda: len(of_other) == 1)
    assert stun.parse_message(await neighbour.read()).message_class is stun.Class.RESPONSE
    assert len(taken) == 0
    neighbour.socket.close()


async def test_the_main_processs_own_agents_share_the_port_and_the_rule(relay, peer):
    taken = Taken()
    own = relay.endpoint.add_agent(taken.inlets, "peer")
    theirs, of_theirs = relay.workers[0].agent()
    other = Peer(relay)
    await heard()
    await peer.proves(own)
    await other.proves(theirs)
    peer.send(RTP, check(theirs))
    other.send(RTP)
    await until(lambda: relay.endpoint.dropped[DropCause.ADDRESS_TAKEN] == 1)
    await until(lambda: (len(taken), len(of_theirs)) == (1, 1))
    # What a worker's session holds is not the main process's, even if its check gets there.
    relay.clock.now += 15.1
    other.send(check(own))
    await until(lambda: relay.endpoint.dropped[DropCause.ADDRESS_TAKEN] == 2)
    assert theirs.selected.address == other.address
    # Once the check is over the address is a session's like any other.
    own.close()
    later, _ = relay.workers[1].agent()
    await heard()
    await peer.proves(later)
    other.socket.close()


async def test_a_worker_that_claims_too_late_gives_up_and_the_next_check_decides(relay, peer):
    worker = relay.workers[0]
    agent, _ = worker.agent()
    await heard()
    worker.stuck = True
    peer.send(check(agent))
    await until(lambda: len(worker.given) == 1)
    await turns()
    relay.clock.now += front.GIVEN_SECONDS
    worker.unstick()
    await until(lambda: agent.selected is None and not worker.outpost._lines._by_place)
    assert relay.front._held == {}
    await until(lambda: peer.socket.recv(2048))
    await peer.proves(agent)
    assert relay.holders() == {(0, peer.address): worker}


async def test_a_check_for_a_session_that_was_forgotten_under_way_is_counted_once(relay, peer):
    worker = relay.workers[0]
    agent, _ = worker.agent()
    await heard()
    worker.stuck = True
    peer.send(check(agent), RTP)
    await until(lambda: len(worker.given) == 2)
    await turns()
    agent.close()
    worker.unstick()
    await until(lambda: relay.endpoint.dropped[DropCause.STUN_UNKNOWN_SESSION] == 1)
    await turns()
    assert worker.outpost.dropped == {DropCause.STRANGER: 1}
    assert len(worker.given) == 2
