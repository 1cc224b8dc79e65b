"""Sound watched from beside its way: windows of ten seconds, single packets timed, one-way sound."""

from __future__ import annotations

import asyncio
import socket
import sys
from dataclasses import dataclass, field

import pytest

from relay.core.lifecycle import LegCounters, LegName, MediaSample
from relay.core.turn_facts import AnswerBegan
from relay.rtc import media_watch
from relay.rtc.arrival import seconds_since_arrival
from relay.rtc.media_watch import MediaWatch
from relay.rtc.rtp_stream import RtpStream


@dataclass
class Stream:
    """What is looked at of a leg's stream."""

    packets_in: int = 0
    lost: int = 0
    remote_report: tuple[int, int] | None = None
    rtt: float | None = None
    remote_loss: float | None = None
    sent: list[int] = field(default_factory=list)

    def __post_init__(self):
        self.forward = self.send

    def send(self, size):
        self.sent.append(size)

    def snapshot(self):
        return LegCounters(
            packets_in=self.packets_in,
            packets_lost=self.lost,
            jitter_seconds=0.003,
            rtt_seconds=self.rtt,
            remote_loss=self.remote_loss,
        )


@dataclass
class OneLeg:
    """What is looked at of a leg."""

    name: LegName
    stream: Stream = field(default_factory=Stream)
    waiting_bytes: int = 0
    backpressure_seconds: int = 0
    one_way_seconds: int = 0
    fileno: object = lambda: 7


@pytest.fixture
def told():
    return []


@pytest.fixture
def watch(told, monkeypatch):
    monkeypatch.setattr(media_watch, "seconds_since_arrival", lambda _fileno: 0.0002)
    return MediaWatch(told.append)


@pytest.fixture
def legs():
    return {name: OneLeg(name) for name in LegName}


def seconds(watch, legs, count, *, flowing=True, **packets):
    for _ in range(count):
        for name, number in packets.items():
            legs[LegName(name)].stream.packets_in += number
        watch.tick(legs, flowing=flowing)


def test_what_is_looked_at_is_there():
    """The stand-ins above have the names of the real ones."""
    stream = RtpStream(1, lambda _: True, 100, {})
    assert {"forward", "packets_in", "remote_report", "snapshot"} <= set(dir(stream))


def test_every_ten_seconds_each_leg_is_told_of(watch, legs, told):
    down, up = legs[LegName.DOWNSTREAM].stream, legs[LegName.UPSTREAM].stream
    seconds(watch, legs, 9, downstream=50, upstream=50)
    assert told == []
    down.lost, down.remote_report, down.rtt = 20, (3, 1000), 0.03
    down.remote_loss = 0.25
    seconds(watch, legs, 1, downstream=30, upstream=50)
    assert told == [
        MediaSample(LegName.DOWNSTREAM, loss_in=20 / 500, loss_out=0.25, jitter_seconds=0.003, rtt_seconds=0.03),
        MediaSample(LegName.UPSTREAM, loss_in=0.0, jitter_seconds=0.003),
    ]
    told.clear()
    # A report tells of loss beside the one before it; without a new one nothing is known of that time.
    down.lost, down.remote_report = 15, (13, 1100)
    seconds(watch, legs, 10, downstream=50)
    assert told == [
        MediaSample(LegName.DOWNSTREAM, loss_in=0.0, loss_out=0.1, jitter_seconds=0.003, rtt_seconds=0.03),
    ]
    told.clear()
    seconds(watch, legs, 10)
    assert told == []
    assert up.sent == []


def test_the_rest_is_told_at_the_end_and_when_a_client_is_replaced(watch, legs, told):
    seconds(watch, legs, 3, downstream=50)
    legs[LegName.DOWNSTREAM] = OneLeg(LegName.DOWNSTREAM)
    watch.tick(legs, flowing=True)
    assert told == [MediaSample(LegName.DOWNSTREAM, loss_in=0.0, jitter_seconds=0.003)]
    seconds(watch, legs, 1, downstream=2)
    watch.finish()
    watch.finish()
    assert len(told) == 2


def test_one_packet_a_second_is_timed_and_the_others_go_straight_on(watch, legs, told):
    stream = legs[LegName.DOWNSTREAM].stream
    # What is there already when the kernel is first asked has no stamp.
    watch.tick(legs, flowing=True)
    assert stream.forward == stream.send
    for _ in range(3):
        watch.tick(legs, flowing=True)
        assert stream.forward != stream.send
        stream.forward(100)
        assert stream.forward == stream.send
        stream.forward(101)
    # A timer that no packet came to is not laid over by another one.
    watch.tick(legs, flowing=True)
    timer = stream.forward
    watch.tick(legs, flowing=True)
    assert stream.forward is timer
    watch.finish()
    assert told[0].forward_seconds == (0.0002,) * 3
    assert stream.sent == [100, 101] * 3


def test_nothing_is_timed_while_nothing_flows_or_the_socket_is_not_known(watch, legs):
    stream = legs[LegName.UPSTREAM].stream
    for _ in range(2):
        watch.tick(legs, flowing=False)
    assert stream.forward == stream.send
    legs[LegName.UPSTREAM].fileno = lambda: None
    for _ in range(2):
        watch.tick(legs, flowing=True)
    assert stream.forward == stream.send


def test_an_answer_ends_with_the_first_packet_after_its_beginning(watch, legs, told, monkeypatch):
    monkeypatch.setattr(media_watch.time, "time", lambda: 1000.8)
    up = legs[LegName.UPSTREAM]
    watch.tick(legs, flowing=True)
    watch.answer_begins(up, 1000.0)
    up.stream.forward(5)
    up.stream.forward(6)
    assert told == [AnswerBegan(pytest.approx(0.8))]
    watch.answer_begins(up, 900.0)
    up.stream.forward(7)
    assert len(told) == 1
    assert up.stream.sent == [5, 6, 7]


def test_only_the_silent_side_of_a_conversation_counts_as_one_way(watch, legs):
    seconds(watch, legs, 3, downstream=50)
    seconds(watch, legs, 4)
    seconds(watch, legs, 2, downstream=50, flowing=False)
    seconds(watch, legs, 1, downstream=50, upstream=1)
    seconds(watch, legs, 2, upstream=1)
    assert legs[LegName.UPSTREAM].one_way_seconds == 3
    assert legs[LegName.DOWNSTREAM].one_way_seconds == 2


def test_seconds_in_which_text_waits_are_counted(watch, legs):
    legs[LegName.UPSTREAM].waiting_bytes = 9
    seconds(watch, legs, 2)
    legs[LegName.UPSTREAM].waiting_bytes = 0
    seconds(watch, legs, 2)
    assert (legs[LegName.UPSTREAM].backpressure_seconds, legs[LegName.DOWNSTREAM].backpressure_seconds) == (2, 0)


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel of Linux is asked")
async def test_the_kernel_tells_when_a_datagram_came():
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ours,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer,
    ):
        ours.bind(("127.0.0.1", 0))
        ours.setblocking(False)
        peer.connect(ours.getsockname())
        number, found = ours.fileno(), 0.0
        seconds_since_arrival(number)
        async with asyncio.timeout(10):
            # The kernel switches stamping on in its own time.
            while found < 0.02:
                peer.send(b"x")
                await asyncio.sleep(0.03)
                ours.recv(9)
                found = seconds_since_arrival(number)
    assert seconds_since_arrival(number) is None


def test_a_peer_that_counts_anew_is_no_loss(watch, legs, told):
    down = legs[LegName.DOWNSTREAM].stream
    down.remote_report = (40, 5000)
    seconds(watch, legs, 10, downstream=50)
    down.remote_report = (0, 100)
    seconds(watch, legs, 10, downstream=50)
    assert [sample.loss_out for sample in told] == [None, None]
