"""The channel between the main process and a worker: order, bounds, sockets that come with messages, hostile frames."""

from __future__ import annotations

import array
import asyncio
import os
import socket
import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.workers import channel as module
from relay.workers.channel import Channel, ChannelError


class End:
    """One end, what it was told, and why it was lost."""

    def __init__(self, own: socket.socket, *, takes_sockets: bool = False, fault: Exception | None = None) -> None:
        self.messages: list[bytes] = []
        self.sockets: list[socket.socket | None] = []
        self.lost: list[str] = []
        self.news = asyncio.Event()
        self._fault = fault
        self.channel = Channel(own, self._on_message, self._on_lost, takes_sockets=takes_sockets)

    async def until(self, wanted) -> None:
        async with asyncio.timeout(10):
            while not wanted():
                self.news.clear()
                await self.news.wait()

    def _on_message(self, message: bytes, passed: socket.socket | None) -> None:
        self.messages.append(message)
        self.sockets.append(passed)
        self.news.set()
        if self._fault is not None:
            raise self._fault

    def _on_lost(self, why: str) -> None:
        self.lost.append(why)
        self.news.set()


@pytest.fixture
async def pair():
    """Make an end and the raw socket at its other end, or a second end there."""
    opened = []

    def make(**options):
        own, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        end = End(own, **options)
        opened.extend((end.channel, other))
        return end, other

    yield make
    for each in opened:
        each.close()


@pytest.fixture
async def two(pair):
    first, other = pair()
    second = End(other, takes_sockets=True)
    return first, second


def descriptors() -> set[str]:
    return {each.name for each in Path("/proc/self/fd").iterdir()}


async def test_messages_arrive_whole_and_in_order(two):
    first, second = two
    sent = [b"", b"a", os.urandom(3_000_000), b"b" * 70_000, b"c"]
    for message in sent:
        first.channel.send(message)
    second.channel.send(b"back")
    await second.until(lambda: len(second.messages) == len(sent))
    await first.until(lambda: first.messages)
    assert second.messages == sent
    assert first.messages == [b"back"]
    await asyncio.wait_for(first.channel.drained(), 10)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.binary(max_size=300), max_size=20), st.integers(1, 50))
def test_frames_cut_anywhere_are_read_whole(messages, step):
    async def run() -> None:
        own, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        end = End(own)
        stream = b"".join(struct.pack("!IB", len(each), 0) + each for each in messages)
        for start in range(0, len(stream), step):
            other.send(stream[start : start + step])
            await asyncio.sleep(0)
        await end.until(lambda: len(end.messages) == len(messages))
        assert end.messages == messages
        end.channel.close()
        other.close()

    asyncio.run(run())


async def test_a_socket_comes_with_the_message_it_was_sent_with(two):
    first, second = two
    reader, writer = socket.socketpair()
    # A large message before and behind: both wait to be written.
    first.channel.send(os.urandom(2_000_000))
    first.channel.send(b"with", reader)
    first.channel.send(b"without")
    await second.until(lambda: len(second.messages) == 3)
    assert second.messages[1:] == [b"with", b"without"]
    assert second.sockets[0] is None
    assert second.sockets[2] is None
    passed = second.sockets[1]
    assert reader.fileno() == -1, "the sender's copy must be closed"
    assert not os.get_inheritable(passed.fileno())
    writer.send(b"hello")
    assert passed.recv(10) == b"hello"
    passed.close()
    writer.close()


async def test_a_socket_that_never_left_is_closed_with_the_channel(two):
    first, second = two
    second.channel._loop.remove_reader(second.channel._socket.fileno())
    reader, writer = socket.socketpair()
    first.channel.send(os.urandom(4_000_000))
    first.channel.send(b"", reader)
    first.channel.close()
    assert reader.fileno() == -1
    later, _ = socket.socketpair()
    first.channel.send(b"", later)
    assert later.fileno() == -1
    writer.close()


async def test_who_does_not_read_is_lost_and_keeps_no_memory(pair, monkeypatch):
    monkeypatch.setattr(module, "MAX_WAITING_BYTES", 1_000_000)
    end, _ = pair()
    sent = 0
    while not end.channel.closed:
        end.channel.send(bytes(50_000))
        sent += 50_000
        assert sent < 3_000_000
    await end.until(lambda: end.lost)
    assert end.lost == ["it does not read what it is sent"]
    assert not end.channel._waiting
    end.channel.send(b"of no effect")


async def test_a_message_that_is_too_long_is_not_sent(two, monkeypatch):
    monkeypatch.setattr(module, "MAX_MESSAGE_BYTES", 100)
    first, second = two
    with pytest.raises(ChannelError):
        first.channel.send(bytes(101))
    first.channel.send(bytes(100))
    await second.until(lambda: second.messages)


HOSTILE = {
    "too long": struct.pack("!IB", module.MAX_MESSAGE_BYTES + 1, 0),
    "unknown flag": struct.pack("!IB", 0, 2),
    "socket announced, none sent": struct.pack("!IB", 0, 1),
}


@pytest.mark.parametrize("frame", HOSTILE.values(), ids=HOSTILE)
async def test_hostile_frames_lose_the_channel_once(pair, frame):
    end, other = pair(takes_sockets=True)
    other.send(frame + bytes(100))
    await end.until(lambda: end.lost)
    assert end.channel.closed
    await asyncio.sleep(0)
    assert len(end.lost) == 1
    assert end.messages == []


@pytest.mark.parametrize("number", [1, 20])
async def test_sockets_that_nobody_wants_lose_the_channel_and_are_closed(pair, number):
    end, other = pair()
    stray, _kept = socket.socketpair()
    before = descriptors()
    rights = array.array("i", [stray.fileno()] * number)
    other.sendmsg([struct.pack("!IB", 0, 0)], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
    await end.until(lambda: end.lost)
    assert descriptors() <= before
    assert "socket" in end.lost[0]
    stray.close()
    _kept.close()


async def test_a_fault_of_who_takes_messages_loses_the_channel(pair):
    end, other = pair(fault=ValueError("no such thing"))
    other.send(struct.pack("!IB", 1, 0) + b"a" + struct.pack("!IB", 1, 0) + b"b")
    await end.until(lambda: end.lost)
    assert end.lost == ["ValueError: no such thing"]
    assert end.messages == [b"a"]


async def test_what_a_peer_said_before_it_left_is_heard_whatever_it_left_unread(pair):
    end, other = pair()
    sent = [os.urandom(1_000) for _ in range(100)]
    other.send(b"".join(struct.pack("!IB", len(each), 0) + each for each in sent))
    end.channel.send(b"never read")
    other.close()
    end.channel.send(b"to nobody")
    end.channel.send(b"to nobody")
    await end.until(lambda: end.lost)
    assert end.messages == sent
    assert end.lost == ["closed"]


async def test_the_other_end_that_closes_is_told(two):
    first, second = two
    second.channel.close()
    await first.until(lambda: first.lost)
    assert first.lost == ["closed"]
    assert second.lost == []
    await asyncio.wait_for(first.channel.drained(), 1)
