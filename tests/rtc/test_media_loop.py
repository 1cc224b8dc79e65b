"""The event loop whose wait serves media: nothing else that it has to do waits for a packet, and no packet for it."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from collections import Counter

import pytest

from relay.event_loop import MediaLoop
from relay.rtc import forwarding
from relay.rtc.packet import VIEW
from relay.rtc.udp import UdpSocket

pytestmark = pytest.mark.usefixtures("forwarder")


@pytest.fixture
def run():
    """Run a coroutine on such a loop."""

    def run(main):
        async def bounded():
            async with asyncio.timeout(10):
                return await main

        with asyncio.Runner(loop_factory=MediaLoop) as runner:
            return runner.run(bounded())

    return run


@pytest.fixture
def stranger():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock


def udp(on_read):
    return UdpSocket("127.0.0.1", 0, on_read, Counter())


def test_what_a_datagram_asks_of_the_loop_is_done_at_once(run, stranger):
    """A task that it wakes, a timer that it sets: without another packet to end the wait."""

    async def main():
        loop = asyncio.get_running_loop()
        woken, rung = loop.create_future(), loop.create_future()

        def on_read(size, address):
            woken.set_result((bytes(VIEW[:size]), address))
            loop.call_later(0.01, rung.set_result, None)

        ours = udp(on_read)
        loop.call_soon(stranger.sendto, b"\x01hello", ("127.0.0.1", ours.port))
        assert await woken == (b"\x01hello", stranger.getsockname())
        await rung
        ours.close()

    run(main())


def test_everything_else_has_its_turn_while_it_waits_for_media(run):
    async def main():
        loop = asyncio.get_running_loop()
        ours = udp(lambda size, address: None)
        assert await asyncio.to_thread(threading.get_ident) != threading.get_ident()
        await asyncio.sleep(0.01)
        reader, writer = os.pipe()
        readable = loop.create_future()
        loop.add_reader(reader, readable.set_result, None)
        loop.call_later(0.01, os.write, writer, b"x")
        await readable
        loop.remove_reader(reader)
        os.close(reader)
        os.close(writer)
        ours.close()

    run(main())


def test_the_last_socket_may_be_closed_by_what_it_read_and_another_opened(run, stranger):
    async def main():
        closed, sockets = asyncio.Queue(), []

        def on_read(size, address):
            sockets.pop().close()
            closed.put_nowait(size)

        for _ in range(2):
            sockets.append(udp(on_read))
            stranger.sendto(b"\x01", ("127.0.0.1", sockets[0].port))
            assert await closed.get() == 1

    run(main())


def test_a_wait_that_fails_is_told_and_the_loop_goes_on(run):
    async def main():
        loop = asyncio.get_running_loop()
        told = []
        loop.set_exception_handler(lambda _, context: told.append(context["exception"]))

        def wait(seconds):
            loop.wait_with(None)
            raise OSError("refused")

        loop.wait_with(wait)
        await asyncio.sleep(0.01)
        assert [str(each) for each in told] == ["refused"]

    run(main())


def test_media_alone_is_no_reason_to_ask_for_anything_else(run, stranger, monkeypatch):
    async def main():
        loop = asyncio.get_running_loop()
        heard = loop.create_future()
        ours = udp(lambda size, address: heard.set_result(size))
        asked = []
        select = type(loop._waiting).__base__.select
        monkeypatch.setattr(type(loop._waiting).__base__, "select", lambda *given: asked.append(1) or select(*given))
        stranger.sendto(b"\x01", ("127.0.0.1", ours.port))
        assert await heard == 1
        assert not asked
        assert await asyncio.to_thread(threading.get_ident) != threading.get_ident()
        assert asked
        ours.close()

    run(main())


def test_a_wait_ends_for_what_it_follows():
    poller = forwarding.Poller()
    reader, writer = os.pipe()
    try:
        poller.follow(reader)
        assert poller.wait(0.0) is False
        threading.Timer(0.01, os.write, (writer, b"x")).start()
        assert poller.wait(-1.0) is True
        assert poller.wait(0.0) is True
        assert os.read(reader, 2) == b"x"
        assert poller.wait(0.0) is False
        with pytest.raises(OSError, match="exists"):
            poller.follow(reader)
    finally:
        poller.close()
        os.close(reader)
        os.close(writer)
