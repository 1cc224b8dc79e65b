"""Data transfer of an association: two halves of each end over a network in simulated time, and each rule by itself."""

from __future__ import annotations

import heapq
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.core.sctp_inbox import SACK_SECONDS, WINDOW, Inbox, Message, MessageTooLargeError
from relay.core.sctp_outbox import Outbox
from relay.core.sctp_packet import (
    BEGINS,
    COMMON_HEADER,
    ENDS,
    LONGEST_SACK,
    MAX_PACKET,
    MAX_USER_DATA,
    MOST_GAPS,
    SACK_NOW,
    TSNS,
    WHOLE,
    Data,
    PeerBrokeRuleError,
    Sack,
    data_chunk,
    sack_chunk,
    transfer_chunks,
)

ROOM = MAX_PACKET - COMMON_HEADER
LARGEST = 1 << 20
TEXT = 51


class End:
    """One end: what the association of a leg does with both halves, with time as a number."""

    def __init__(self, own_tsn: int, peer_tsn: int) -> None:
        self.outbox = Outbox(own_tsn, {})
        self.outbox.begin(WINDOW)
        self.inbox = Inbox(LARGEST)
        self.inbox.begin(peer_tsn)
        self.got: list[bytes] = []
        self.sack_at: float | None = None

    def say(self, payload: bytes, now: float) -> list[bytes]:
        if alone := self.outbox.send_one(0, TEXT, payload, now):
            return [alone]
        self.outbox.push(0, TEXT, payload)
        return self.outbox.packets(now, ROOM)

    def take(self, packet: bytes, now: float) -> list[bytes]:
        sack, chunks = transfer_chunks(bytes(COMMON_HEADER) + packet)
        if sack is not None:
            self.outbox.on_sack(sack, now)
        for chunk in chunks:
            self.got += [message.payload for message in self.inbox.take(chunk)]
        due = self.inbox.packet_done()
        out = self.outbox.packets(now, ROOM)
        if due:
            out.append(sack_chunk(*self.inbox.sack()))
            self.sack_at = None
        elif self.inbox.owes_sack:
            self.sack_at = now + SACK_SECONDS
        return out

    def ring(self, now: float) -> list[bytes]:
        out = []
        if self.sack_at is not None and self.sack_at <= now:
            self.sack_at = None
            if self.inbox.owes_sack:
                out.append(sack_chunk(*self.inbox.sack()))
        if self.outbox.deadline is not None and self.outbox.deadline <= now:
            self.outbox.on_timeout(now)
            out += self.outbox.packets(now, ROOM)
        return out

    @property
    def rings_at(self) -> float:
        return min(at for at in (self.sack_at, self.outbox.deadline, float("inf")) if at is not None)


class Network:
    """Two ends, `delay` seconds apart; `loses` decides of each packet."""

    def __init__(self, tsns=(1, 1), delay=0.02, loses=lambda: False, jitter=lambda: 0.0) -> None:
        self.ends = (End(*tsns), End(*reversed(tsns)))
        self.now = 0.0
        self.packets = 0
        self.largest = 0
        self._delay, self._loses, self._jitter = delay, loses, jitter
        self._under_way: list[tuple[float, int, int, bytes]] = []

    def send(self, end: int, packets: list[bytes]) -> None:
        for packet in packets:
            self.packets += 1
            self.largest = max(self.largest, len(packet))
            if not self._loses():
                at = self.now + self._delay + self._jitter()
                heapq.heappush(self._under_way, (at, self.packets, 1 - end, packet))

    def say(self, end: int, *payloads: bytes) -> None:
        for payload in payloads:
            self.send(end, self.ends[end].say(payload, self.now))

    def run(self, until: float = 1e9) -> float:
        """Let time pass until nothing is to be done; when that was."""
        while True:
            rings = [(end.rings_at, number) for number, end in enumerate(self.ends)]
            at, number = min(rings)
            if self._under_way and self._under_way[0][0] <= at:
                at, _, number, packet = self._under_way[0]
                if at > until:
                    return self.now
                heapq.heappop(self._under_way)
                self.now = at
                self.send(number, self.ends[number].take(packet, at))
            elif at > until:
                self.now = until if until < 1e9 else self.now
                return self.now
            else:
                self.now = at
                self.send(number, self.ends[number].ring(at))


def events(count, size=240):
    return [f"{number:06}".encode() + b"." * (size - 6) for number in range(count)]


def test_events_are_acknowledged_by_twos():
    network = Network()
    for event in events(10):
        network.say(0, event)
        network.run(network.now + 0.05)
    network.run()
    assert network.ends[1].got == events(10)
    assert network.packets == 15


def test_a_single_event_is_acknowledged_in_time():
    network = Network()
    network.say(0, b"event")
    assert network.run() == pytest.approx(0.02 + SACK_SECONDS + 0.02)
    assert network.ends[0].outbox.deadline is None


@pytest.mark.parametrize("seed", range(20))
def test_five_per_cent_lost_both_ways(seed):
    chance = random.Random(seed)
    network = Network((TSNS - 50, 7), loses=lambda: chance.random() < 0.05, jitter=lambda: chance.random() * 0.01)
    up, down = events(200), events(200, 900)
    for sent, received in zip(up, down, strict=True):
        network.say(0, sent)
        network.say(1, received)
        network.run(network.now + 0.04)
    over = network.run()
    assert network.ends[1].got == up
    assert network.ends[0].got == down
    assert over < 40


@pytest.mark.parametrize("seed", range(10))
def test_large_messages_under_loss(seed):
    chance = random.Random(seed)
    network = Network(loses=lambda: chance.random() < 0.05)
    sent = [bytes([number]) * 65_536 for number in range(10)]
    network.say(0, *sent)
    network.say(1, *sent[:3])
    over = network.run()
    assert network.ends[1].got == sent
    assert network.ends[0].got == sent[:3]
    assert network.largest <= ROOM
    assert over < 60
    assert network.ends[0].inbox.held_bytes == network.ends[1].inbox.held_bytes == 0
    assert network.ends[0].outbox.waiting_bytes == network.ends[0].outbox._flight == 0


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.booleans(), st.integers(1, 5000), st.floats(0, 0.3)), max_size=40),
    st.integers(0, TSNS - 1),
    st.integers(0, 1 << 30),
    st.sampled_from([0.0, 0.1, 0.3]),
)
def test_whatever_is_said_arrives_once_and_in_order(said, tsn, seed, loss):
    chance = random.Random(seed)
    network = Network((tsn, TSNS - 2), loses=lambda: chance.random() < loss, jitter=lambda: chance.random() * 0.05)
    wanted = ([], [])
    for number, (first, size, pause) in enumerate(said):
        payload = (b"%d " % number).ljust(size, b".")
        wanted[1 if first else 0].append(payload)
        network.say(0 if first else 1, payload)
        network.run(network.now + pause)
    network.run()
    assert (network.ends[0].got, network.ends[1].got) == wanted
    assert all(end.outbox._flight == 0 and end.outbox._again == 0 for end in network.ends)


def test_what_a_peer_leaves_unacknowledged_is_bounded_and_arrives_when_it_relents():
    """It acknowledges all but the first: nothing is under way, and every chunk has to be kept."""
    sending = outbox()
    given = list(range(1, 5_001))
    for number in given:
        sending.push(0, TEXT, b"%d" % number)
    got = []
    for at in range(4_000):
        got += tsns(sending.packets(at / 100, ROOM))
        if len(got) > 1:
            sending.on_sack(Sack(0, WINDOW, ((2, max(got)),)), at / 100)
    assert max(got) == 1_024
    assert sending.waiting_bytes == sum(len(b"%d" % number) for number in given[1_024:])
    assert sending.send_one(0, TEXT, b"more", 50.0) == b""
    while sending.has_work:
        sending.on_sack(Sack(max(got), WINDOW, ()), 60.0)
        got += tsns(sending.packets(60.0, ROOM))
    assert sorted(set(got)) == given


# --- sending: each rule ----------------------------------------------------------------------------------------------


def outbox(*payloads: bytes, window: int = WINDOW) -> Outbox:
    made = Outbox(1, {})
    made.begin(window)
    for payload in payloads:
        made.push(0, TEXT, payload)
    return made


def tsns(packets: list[bytes]) -> list[int]:
    return [chunk.tsn for packet in packets for chunk in transfer_chunks(bytes(COMMON_HEADER) + packet)[1]]


FULL = b"x" * MAX_USER_DATA


def test_the_first_window_is_four_chunks_and_the_last_wants_its_sack():
    sending = outbox(*[FULL] * 10)
    packets = sending.packets(0.0, ROOM)
    assert tsns(packets) == [1, 2, 3, 4]
    flags = [transfer_chunks(bytes(COMMON_HEADER) + packet)[1][0].flags for packet in packets]
    assert flags == [WHOLE, WHOLE, WHOLE, WHOLE | SACK_NOW]
    assert sending.waiting_bytes == 6 * MAX_USER_DATA
    assert sending.packets(0.0, ROOM) == []


def test_slow_start_doubles_and_a_timeout_shuts_the_window():
    sending = outbox(*[FULL] * 40)
    sending.packets(0.0, ROOM)
    sending.on_sack(Sack(4, WINDOW, ()), 0.1)
    assert len(sending.packets(0.1, ROOM)) == 4  # never more in one burst (section 6.1 D)
    sending.on_timeout(2.0)
    assert tsns(sending.packets(2.0, ROOM)) == [5]


def test_a_lost_chunk_is_sent_again_after_three_reports_and_once():
    sending = outbox(*[b"x" * 100] * 20)
    for at in range(3):
        sending.packets(0.0, ROOM)
        sending.on_sack(Sack(0, WINDOW, ((2, 2 + at),)), 0.1)
    assert tsns(sending.packets(0.1, ROOM)) == [1]
    for at in range(3, 10):
        sending.on_sack(Sack(0, WINDOW, ((2, 2 + at),)), 0.2)
        assert sending.packets(0.2, ROOM) == []
    deadline = sending.deadline
    sending.on_timeout(deadline)
    assert tsns(sending.packets(deadline, ROOM))[0] == 1


def test_the_timer_backs_off_and_gives_up():
    sending = outbox(b"event")
    sending.packets(0.0, ROOM)
    waits = []
    while not sending.failed:
        before = sending.deadline
        sending.on_timeout(before)
        assert len(sending.packets(before, ROOM)) == 1
        waits.append(sending.deadline - before)
    assert waits[:6] == [2, 4, 8, 16, 32, 60]
    assert len(waits) == 11


def test_an_answer_forgives_timeouts_and_a_repeated_chunk_is_not_measured():
    sending = outbox(b"event")
    sending.packets(0.0, ROOM)
    sending.on_timeout(1.0)
    sending.packets(1.0, ROOM)
    sending.on_sack(Sack(1, WINDOW, ()), 100.0)
    assert (sending._timeouts, sending._srtt, sending.deadline) == (0, None, None)


def test_a_full_peer_is_asked_with_one_chunk_at_a_time():
    sending = outbox(*[FULL] * 4, window=0)
    assert tsns(sending.packets(0.0, ROOM)) == [1]
    assert sending.packets(0.5, ROOM) == []
    assert sending.send_one(0, TEXT, b"more", 0.5) == b""
    sending.on_sack(Sack(1, 0, ()), 0.6)
    assert tsns(sending.packets(0.6, ROOM)) == [2]
    sending.on_sack(Sack(1, 0, ()), 0.7)  # it was dropped
    sending.on_timeout(sending.deadline)
    assert tsns(sending.packets(3.0, ROOM)) == [2]
    sending.on_sack(Sack(2, WINDOW, ()), 3.1)
    assert tsns(sending.packets(3.1, ROOM)) == [3, 4]


def test_what_a_receiver_drops_again_is_under_way_again():
    sending = outbox(*[FULL] * 4)
    sending.packets(0.0, ROOM)
    sending.on_sack(Sack(0, WINDOW, ((2, 4),)), 0.1)
    assert sending._flight == MAX_USER_DATA
    sending.on_sack(Sack(0, WINDOW, ()), 0.2)
    assert sending._flight == 4 * MAX_USER_DATA
    sending.on_timeout(sending.deadline)
    assert sending._flight == 0
    assert tsns(sending.packets(2.0, ROOM)) == [1]


@pytest.mark.parametrize(
    "sack", [Sack(5, WINDOW, ()), Sack(0, WINDOW, ((2, 5),)), Sack(4, WINDOW, ((1, 1),)), Sack(TSNS - 9, 1, ((2, 99),))]
)
def test_what_was_never_sent_cannot_be_acknowledged(sack):
    sending = outbox(*[FULL] * 4)
    sending.packets(0.0, ROOM)
    with pytest.raises(PeerBrokeRuleError, match="never sent"):
        sending.on_sack(sack, 0.1)


def test_an_old_sack_changes_nothing():
    sending = outbox(*[FULL] * 4)
    sending.packets(0.0, ROOM)
    sending.on_sack(Sack(3, WINDOW, ()), 0.1)
    sending.on_sack(Sack(1, 0, ((2, 2),)), 0.2)
    assert (sending._flight, sending._last_sack) == (MAX_USER_DATA, 3)


def test_small_messages_share_packets_with_a_sack_before_them():
    sending = outbox(*[b"x" * 100] * 30)
    owed = sack_chunk(Sack(9, WINDOW, ()), [])
    packets = sending.packets(0.0, ROOM, owed)
    assert packets[0].startswith(owed)
    assert all(len(packet) <= ROOM for packet in packets)
    assert tsns(packets) == list(range(1, 31))
    assert len(packets) == 4
    assert sending.packets(0.0, ROOM, owed) == []


def test_a_window_not_used_for_long_shrinks():
    sending = outbox(*[FULL] * 400)
    now, acked = 0.0, 0
    while sending.has_work:
        now += 0.01
        while packets := sending.packets(now, ROOM):
            acked += len(packets)
        sending.on_sack(Sack(acked, WINDOW, ()), now)
    grown = sending._cwnd
    assert grown > 10 * MAX_USER_DATA
    sending.push(0, TEXT, b"event")
    sending.packets(now + 1.5, ROOM)
    assert sending._cwnd == grown // 2
    assert sending._ssthresh == grown


# --- receiving: each rule --------------------------------------------------------------------------------------------


def inbox() -> Inbox:
    made = Inbox(10_000)
    made.begin(TSNS - 1)
    return made


def piece(at: int, flags: int = WHOLE, payload: bytes = b"x", stream: int = 0) -> Data:
    return Data(flags, (TSNS - 1 + at) % TSNS, stream, TEXT, payload)


def test_what_is_missing_is_told_at_once_until_it_comes():
    receiving = inbox()
    assert receiving.take(piece(0)) == [Message(0, TEXT, b"x")]
    for at in (2, 4, 5):
        assert receiving.take(piece(at)) == []
        assert receiving.packet_done()
    sack, duplicates = receiving.sack()
    assert (sack, duplicates) == (Sack(TSNS - 1, WINDOW - 3, ((2, 2), (4, 5))), [])
    assert not receiving.owes_sack
    assert transfer_chunks(bytes(COMMON_HEADER) + sack_chunk(sack, duplicates)) == (sack, [])
    assert len(receiving.take(piece(1))) == 2
    assert receiving.packet_done()
    assert len(receiving.take(piece(3))) == 3
    assert receiving.sack() == (Sack(4, WINDOW, ()), [])


def test_what_came_twice_is_told_and_not_handed_on():
    receiving = inbox()
    receiving.take(piece(0))
    receiving.take(piece(2))
    assert receiving.take(piece(0)) == receiving.take(piece(2)) == []
    assert receiving.sack()[1] == [TSNS - 1, 1]
    for _ in range(100):
        receiving.take(piece(0))
    assert len(sack_chunk(*receiving.sack())) <= LONGEST_SACK


def test_what_comes_early_is_bounded_and_nothing_of_it_is_acknowledged_that_is_not_kept():
    receiving = inbox()
    for at in range(2, 6000, 2):
        receiving.take(piece(at, payload=b"y" * 900))
    assert receiving.held_bytes <= WINDOW
    sack, _ = receiving.sack()
    assert len(sack.gaps) == MOST_GAPS
    assert len(sack_chunk(sack, [])) <= LONGEST_SACK
    assert receiving.take(piece(70_000)) == []
    got = sum(len(receiving.take(piece(at, payload=b"y" * 900))) for at in range(6000))
    assert got == 6000
    assert receiving.held_bytes == 0


def test_a_chunk_that_wants_its_sack_gets_it():
    receiving = inbox()
    receiving.take(piece(0, WHOLE | SACK_NOW))
    assert receiving.packet_done()


@pytest.mark.parametrize(
    "chunks",
    [
        [piece(0, payload=b"")],
        [piece(0, 0)],
        [piece(0, ENDS)],
        [piece(0, BEGINS), piece(1, BEGINS)],
        [piece(0, BEGINS), piece(1)],
        [piece(0, BEGINS), piece(1, ENDS, stream=1)],
    ],
)
def test_what_no_sender_sends_is_refused(chunks):
    receiving = inbox()
    for chunk in chunks[:-1]:
        receiving.take(chunk)
    with pytest.raises(PeerBrokeRuleError):
        receiving.take(chunks[-1])


def test_a_message_above_the_limit_is_never_kept():
    receiving = inbox()
    receiving.take(piece(0, BEGINS, b"x" * 1000))
    for at in range(1, 10):
        receiving.take(piece(at, 0, b"x" * 1000))
    with pytest.raises(MessageTooLargeError):
        receiving.take(piece(10, 0, b"x"))
    assert receiving.held_bytes == 10_000


def test_a_packet_with_other_chunks_is_not_read_here():
    data = data_chunk(piece(0), 0)
    assert transfer_chunks(bytes(COMMON_HEADER) + data + b"\x0b\0\0\4") is None
    assert transfer_chunks(bytes(COMMON_HEADER) + data[:-1]) == (None, [piece(0)])
    assert transfer_chunks(bytes(COMMON_HEADER) + b"\0\3\0\xff" + data) is None
    sack = sack_chunk(Sack(1, 2, ()), [])
    assert transfer_chunks(bytes(COMMON_HEADER) + sack + sack) is None


@given(st.binary(max_size=1200))
def test_any_bytes_are_read_in_bounded_time(body):
    found = transfer_chunks(bytes(COMMON_HEADER) + body)
    assert found is None or len(found[1]) <= len(body) // 16
