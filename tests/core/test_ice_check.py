"""The controlling agent against a peer of a few lines, in a time of the test's own."""

from __future__ import annotations

import hmac
import random
from binascii import crc32
from dataclasses import replace
from itertools import pairwise

import pytest

from relay.core.ice_check import MAX_REFLEXIVE, ControllingAgent
from relay.core.ice_check_pairs import CheckTimes, IceParameters, PairState, Way, WayKind, pair_priority
from relay.core.rtp import DropCause
from relay.core.sdp import Candidate
from relay.core.stun import (
    StunError,
    binding_error,
    binding_request,
    binding_success,
    is_authentic,
    parse_binding_request,
    parse_binding_response,
)

LOCAL = IceParameters("u" * 16, "p" * 32)
REMOTE = IceParameters("0a1b/realtime-host-1", "s" * 24)
LITE = replace(REMOTE, lite=True)
TIMES = CheckTimes()
A, B, C = ("192.0.2.1", 3478), ("192.0.2.2", 3478), ("192.0.2.3", 3478)
SIX = ("2001:db8::1", 3478)
UDP4, UDP6 = Way(1, WayKind.UDP, 4), Way(2, WayKind.UDP, 6)
RELAY = Way(9, WayKind.RELAY, 4)


def tcp(address, number=5):
    return Way(number, WayKind.TCP, 4, address)


def candidate(address, transport="udp", priority=100):
    return Candidate("1", transport, priority, *address, "host", "passive" if transport == "tcp" else None)


class Wire:
    """Keeps what the agent sends, and answers as its peer when told to."""

    def __init__(self, *candidates, remote=REMOTE, times=TIMES):
        self.sent = []
        self.now = 0.0
        self.remote = remote
        self.agent = ControllingAgent(LOCAL, remote, candidates, self._send, random.Random(1), 0.0, times)

    def _send(self, way, datagram, address):
        self.sent.append((round(self.now, 3), way, datagram, address))

    def add(self, *ways):
        for way in ways:
            self.agent.add_way(way, self.now)
        return self

    def only(self, *kinds):
        self.agent.expect(kinds, self.now)

    def run(self, until):
        """Let time pass, waking the agent when it wants and not before."""
        while (at := self.agent.next_at) is not None and at <= until:
            assert at >= self.now or at == 0.0, "an agent that is not woken for anything"
            self.now = max(at, self.now)
            before = (len(self.sent), self.agent.next_at, self.agent.lost)
            self.agent.on_timer(self.now)
            assert before != (len(self.sent), self.agent.next_at, self.agent.lost), "woken and did nothing"
        self.now = until

    def checks(self, address=None):
        """When, on which way, and whether nominating: every check, or those to one address."""
        found = []
        for at, way, datagram, where in self.sent:
            request = parse_binding_request(datagram)
            if request is not None and address in {None, where}:
                assert is_authentic(datagram, request, REMOTE.pwd.encode())
                found.append((at, way, where, request.use_candidate))
        return found

    def last_request(self, address):
        return next(each for each in reversed(self.sent) if each[3] == address and parse_binding_request(each[2]))

    def answer(self, address, *, source=None, way=None, key=REMOTE.pwd, error=None):
        """Answer the last check to an address."""
        _, number, datagram, _ = self.last_request(address)
        transaction = datagram[8:20]
        if error is None:
            reply = binding_success(transaction, ("198.51.100.9", 4444), key.encode())
        else:
            reply = binding_error(transaction, error, key.encode())
        return self.agent.on_stun(way or number, reply, source or address, self.now)

    def check_back(self, address, way=UDP4, pwd=LOCAL.pwd, name=None, **changes):
        """Check us, as a controlled peer does: the request is built as ours and turned into the other role."""
        name = name or f"{LOCAL.ufrag}:{REMOTE.ufrag}"
        built = binding_request(b"t" * 12, name, pwd.encode(), priority=77, tie_breaker=1, use_candidate=False)
        if not changes.get("controlling"):
            at = built.index(b"\x80\x2a\x00\x08")
            body = built[20:at] + b"\x80\x29" + built[at + 2 : -32]
            built = sign(built[:2], body, pwd)
        return self.agent.on_stun(way.number, built, address, self.now)


def sign(kind, body, pwd):
    head = b"\x21\x12\xa4\x42" + b"t" * 12
    mac = hmac.digest(pwd.encode(), kind + (len(body) + 24).to_bytes(2, "big") + head + body, "sha1")
    body += b"\x00\x08\x00\x14" + mac
    whole = kind + (len(body) + 8).to_bytes(2, "big") + head + body
    return whole + b"\x80\x28\x00\x04" + (crc32(whole) ^ 0x5354554E).to_bytes(4, "big")


# --- checks ----------------------------------------------------------------------------------------------------------


def test_the_first_check_goes_at_once_and_new_ones_are_paced():
    wire = Wire(candidate(A, priority=1), candidate(B, priority=3), candidate(C, priority=2)).add(UDP4)
    wire.run(0.05)
    assert wire.checks() == [(0.0, 1, B, False), (0.02, 1, C, False), (0.04, 1, A, False)]


def test_an_unanswered_check_is_repeated_slower_and_slower_and_then_given_up():
    wire = Wire(candidate(A)).add(UDP4)
    wire.only()
    wire.run(11.0)
    assert [at for at, *_ in wire.checks()] == [0.0, 0.1, 0.3, 0.7, 1.5, 3.1, 4.7, 6.3, 7.9, 9.5]
    assert len({datagram for _, _, datagram, _ in wire.sent}) == 1  # RFC 8489 section 6.2.1: the same transaction
    assert not wire.agent.failed
    wire.run(11.2)
    assert wire.agent.failed
    assert wire.agent.next_at is None
    assert wire.agent.unanswered == ["udp 192.0.2.1 port 3478"]
    assert pytest.approx(11.1) == TIMES.check_seconds


def test_only_what_a_way_reaches_is_paired():
    wire = Wire(candidate(A), candidate(SIX), candidate(B, "tcp"), candidate(C, "tcp")).add(UDP4, UDP6, tcp(B), RELAY)
    wire.run(2)
    assert {(way, where) for _, way, where, _ in wire.checks()} == {(1, A), (2, SIX), (5, B), (9, A)}


def test_over_tcp_nothing_is_repeated():
    wire = Wire(candidate(B, "tcp")).add(tcp(B))
    wire.only()
    wire.run(11.0)
    assert len(wire.checks()) == 1
    wire.run(11.2)
    assert wire.agent.failed


def test_pair_priorities_are_those_of_rfc_8445():
    assert pair_priority(3, 2) == (2 << 32) + 2 * 3 + 1
    assert pair_priority(2, 3) == (2 << 32) + 2 * 3
    assert UDP4.reflexive_priority == 110 << 24 | 65535 << 8 | 255


# --- nomination ------------------------------------------------------------------------------------------------------


def test_a_full_peer_is_nominated_by_a_check_of_its_own():
    wire = Wire(candidate(A)).add(UDP4)
    wire.run(0.03)
    assert wire.answer(A) is None
    assert wire.agent.selected.address == A
    assert wire.checks() == [(0.0, 1, A, False), (0.03, 1, A, True)]


def test_a_nomination_that_is_lost_is_repeated():
    wire = Wire(candidate(A)).add(UDP4)
    wire.answer(A)
    wire.run(0.5)
    wire.answer(A)
    wire.run(3.9)
    assert [at for at, *_, nominating in wire.checks() if nominating] == [0.0, 0.1, 0.3]


def test_a_lite_peer_is_nominated_by_the_first_check_of_the_best_pair_alone():
    wire = Wire(candidate(A), candidate(B, priority=300), remote=LITE).add(UDP4)
    wire.run(0.05)
    assert wire.checks() == [(0.0, 1, B, True), (0.02, 1, A, False)]
    wire.answer(B)
    assert wire.agent.selected.address == B
    assert len(wire.checks()) == 2


def test_a_lite_peer_hears_of_it_when_another_pair_is_taken():
    wire = Wire(candidate(A), candidate(B, priority=300), remote=LITE).add(UDP4)
    wire.run(0.05)
    wire.answer(A)
    assert wire.agent.selected.address == A
    assert wire.checks()[-1] == (0.05, 1, A, True)


def test_once_a_pair_is_taken_nothing_else_is_checked():
    wire = Wire(candidate(A), candidate(B), candidate(C)).add(UDP4)
    wire.run(0.03)
    wire.answer(A)
    assert set(wire.agent._asked.values()) == {wire.agent.selected}
    wire.add(UDP6, RELAY)
    assert wire.check_back(C) is None
    wire.run(0.05)
    wire.answer(A)
    wire.run(3.9)
    assert wire.checks(C) == []
    assert wire.agent._pairs == [wire.agent.selected]
    assert wire.agent._asked == {}


def test_udp_gets_a_head_start_before_tcp_that_works():
    wire = Wire(candidate(A), candidate(B, "tcp", 2**32 - 1)).add(UDP4, tcp(B))
    wire.run(0.05)
    wire.answer(B)
    assert wire.agent.selected is None
    wire.run(0.1)
    wire.answer(A)
    assert wire.agent.selected.way.kind is WayKind.UDP


def test_the_head_start_ends():
    wire = Wire(candidate(A), candidate(B, "tcp")).add(UDP4, tcp(B))
    wire.run(0.05)
    wire.answer(B)
    wire.run(0.149)
    assert wire.agent.selected is None
    wire.run(0.15)
    assert wire.agent.selected.way.kind is WayKind.TCP


def test_tcp_that_comes_later_is_taken_at_once():
    wire = Wire(candidate(A), candidate(B, "tcp")).add(UDP4)
    wire.run(0.4)
    wire.add(tcp(B))
    wire.answer(B)
    assert wire.agent.selected.way.kind is WayKind.TCP


def test_a_relay_waits_a_second_for_better_ways():
    wire = Wire(candidate(A)).add(UDP4, RELAY)
    wire.run(3)
    assert next(at for at, way, *_ in wire.checks() if way == 9) == 1.0


def test_a_relay_waits_for_nothing_when_nothing_better_is_left():
    wire = Wire(candidate(A)).add(RELAY)
    wire.only(WayKind.TCP)
    wire.run(0.4)
    assert wire.checks() == []
    wire.only()
    wire.run(0.4)
    assert wire.checks() == [(0.4, 9, A, False)]
    other = Wire(candidate(A)).add(RELAY, UDP4)
    other.only()
    other.agent.remove_way(UDP4.number, 0.0)
    other.run(0.05)
    assert [way for _, way, *_ in other.checks()] == [1, 9]


def test_an_agent_without_pairs_fails_once_no_way_is_expected():
    wire = Wire(candidate(A))
    assert not wire.agent.failed
    wire.only(WayKind.TCP)
    assert not wire.agent.failed
    wire.only()
    assert wire.agent.failed


# --- responses -------------------------------------------------------------------------------------------------------


def test_answers_of_others_are_not_taken():
    wire = Wire(candidate(A), candidate(B)).add(UDP4, UDP6)
    wire.run(0.05)
    assert wire.answer(A, key="x" * 24) is DropCause.STUN_NOT_AUTHENTIC
    assert wire.answer(A, source=C) is DropCause.STRANGER
    assert wire.answer(A, way=2) is DropCause.STRANGER
    assert wire.agent.selected is None
    assert wire.answer(A) is None
    assert wire.agent.selected.address == A


def test_a_second_answer_is_nothing_to_speak_of():
    wire = Wire(candidate(A)).add(UDP4)
    first = wire.last_request(A)[2][8:20]
    wire.answer(A)
    again = binding_success(first, A, REMOTE.pwd.encode())
    assert wire.agent.on_stun(1, again, A, 0.0) is None


@pytest.mark.parametrize("error", [StunError.ROLE_CONFLICT, StunError.UNKNOWN_ATTRIBUTE])
def test_an_authentic_error_ends_a_pair(error):
    wire = Wire(candidate(A)).add(UDP4)
    wire.only()
    assert wire.answer(A, error=error, key="x" * 24) is DropCause.STUN_NOT_AUTHENTIC
    assert not wire.agent.failed
    assert wire.answer(A, error=error) is None
    assert wire.agent.failed


def test_what_is_no_stun_is_malformed_and_a_keepalive_is_not():
    wire = Wire(candidate(A)).add(UDP4)
    assert wire.agent.on_stun(1, b"\x00" * 40, A, 0.0) is DropCause.STUN_MALFORMED
    assert wire.agent.on_stun(1, b"\x00\x11\x00\x00\x21\x12\xa4\x42" + bytes(12), A, 0.0) is None


def test_random_datagrams_move_nothing():
    wire = Wire(candidate(A)).add(UDP4)
    source = random.Random(3)
    for _ in range(3000):
        datagram = bytearray(source.randbytes(source.randrange(20, 160) // 4 * 4))
        datagram[:8] = (
            source.choice([b"\0\1", b"\1\1", b"\1\x11"]) + bytes([0, len(datagram) - 20]) + b"\x21\x12\xa4\x42"
        )
        wire.agent.on_stun(1, bytes(datagram), A, 0.0)
    assert len(wire.sent) == 1
    assert wire.agent.selected is None


# --- the peer's own checks -------------------------------------------------------------------------------------------


def test_the_peers_checks_are_answered():
    wire = Wire(candidate(A)).add(UDP4)
    assert wire.check_back(A) is None
    _, way, datagram, where = wire.sent[-1]
    response = parse_binding_response(datagram)
    assert (way, where, response.error, response.mapped) == (1, A, 0, A)
    assert is_authentic(datagram, response, LOCAL.pwd.encode())


def test_a_check_from_an_unknown_address_is_checked_back_at_once():
    wire = Wire(candidate(A)).add(UDP4)
    wire.check_back(C)
    assert wire.checks(C) == [(0.0, 1, C, False)]
    wire.answer(C)
    assert wire.agent.selected.address == C


def test_a_check_makes_a_waiting_or_failed_pair_go_now():
    wire = Wire(candidate(A, priority=200), candidate(B)).add(UDP4)
    wire.check_back(B)
    assert wire.checks(B) == [(0.0, 1, B, False)]
    wire.run(20)
    assert {pair.state for pair in wire.agent._pairs} == {PairState.FAILED}
    wire.check_back(B)
    wire.answer(B)
    assert wire.agent.selected.address == B


def test_unknown_addresses_are_bounded():
    wire = Wire(candidate(A)).add(UDP4)
    causes = [wire.check_back(("198.51.100.1", port)) for port in range(1, MAX_REFLEXIVE + 3)]
    assert causes == [None] * MAX_REFLEXIVE + [DropCause.ADDRESS_LIMIT] * 2


def test_checks_that_are_not_the_peers_get_no_answer():
    wire = Wire(candidate(A)).add(UDP4)
    assert wire.check_back(C, pwd="x" * 32) is DropCause.STUN_NOT_AUTHENTIC
    assert wire.check_back(C, name=f"{LOCAL.ufrag}:other") is DropCause.STUN_UNKNOWN_SESSION
    assert wire.check_back(C, name=f"other:{REMOTE.ufrag}") is DropCause.STUN_UNKNOWN_SESSION
    assert len(wire.sent) == 1


def test_a_peer_that_wants_to_control_too_is_told_no():
    wire = Wire(candidate(A)).add(UDP4)
    assert wire.check_back(C, controlling=True) is None
    _, _, datagram, where = wire.sent[-1]
    response = parse_binding_response(datagram)
    assert (where, response.error) == (C, 487)
    assert not wire.agent.knows(1, C)


# --- consent ---------------------------------------------------------------------------------------------------------


def connected(**times):
    wire = Wire(candidate(A), times=CheckTimes(**times)).add(UDP4)
    wire.answer(A)
    wire.answer(A)
    return wire


def test_consent_is_asked_at_random_intervals_with_use_candidate_and_a_new_transaction():
    wire = connected()
    for _ in range(50):
        wire.run(wire.agent.next_at)
        wire.answer(A)
    asked = wire.checks()[2:]
    gaps = [b[0] - a[0] for a, b in pairwise(asked)]
    assert 3.99 < min(gaps) < 4.3
    assert 5.7 < max(gaps) < 6.01
    assert all(nominating for *_, nominating in asked)
    assert len({datagram for _, _, datagram, _ in wire.sent}) == len(wire.sent)
    assert len(wire.agent._asked) == 0


def test_without_an_answer_for_30_s_the_peer_is_lost():
    wire = connected()
    wire.run(29.9)
    assert not wire.agent.lost
    # RFC 7675 section 5.1: none is repeated.
    assert 5 <= len(wire.checks()) - 2 <= 7
    assert len(wire.agent._asked) <= 7
    wire.run(30.1)
    assert wire.agent.lost
    assert wire.agent.next_at is None


def test_only_an_authentic_success_from_the_right_place_is_consent():
    wire = connected()
    while wire.agent.next_at is not None:
        wire.run(wire.agent.next_at)
        wire.answer(A, key="x" * 24)
        wire.answer(A, source=B)
        wire.check_back(A)
    assert wire.now == pytest.approx(30)
    refused = connected()
    while refused.agent.next_at is not None:
        refused.run(refused.agent.next_at)
        refused.answer(A, error=StunError.UNKNOWN_ATTRIBUTE)
    assert refused.now == pytest.approx(30)


def test_a_late_answer_is_still_consent():
    wire = connected()
    wire.run(20)
    wire.answer(A)
    wire.run(49)
    assert not wire.agent.lost


def test_a_selected_way_that_breaks_is_the_end_and_another_is_not():
    wire = Wire(candidate(A), candidate(B, "tcp")).add(UDP4, tcp(B))
    wire.answer(A)
    wire.agent.remove_way(5, 0.0)
    assert not wire.agent.lost
    wire.agent.remove_way(1, 0.0)
    assert wire.agent.lost
