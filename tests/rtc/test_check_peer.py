"""Connection checks: a real peer connects to the public port with no session behind it, within bounds."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription

from relay.core.sdp import SdpError
from relay.core.sdp_build import LocalCandidate
from relay.rtc.check_peer import MOST, MOST_OF_ONE_ASKER, ConnectionChecks
from relay.rtc.dtls import SharedCertificate
from relay.rtc.endpoint import Endpoint
from relay.rtc.plane import MediaPlane


@pytest.fixture
async def endpoint():
    endpoint = Endpoint(("127.0.0.1",), 0)
    yield endpoint
    endpoint.close()


@pytest.fixture
async def plane(endpoint):
    return MediaPlane(endpoint, (LocalCandidate("udp", "127.0.0.1", endpoint.port),), SharedCertificate())


@pytest.fixture
async def checks(plane):
    checks = ConnectionChecks(plane)
    yield checks
    await checks.close()
    assert checks.running == 0
    assert plane.endpoint._by_ufrag == {}


@contextlib.asynccontextmanager
async def browser(*, data=False):
    peer = RTCPeerConnection(RTCConfiguration([]))
    peer.addTransceiver("audio", direction="recvonly")
    if data:
        peer.createDataChannel("oai-events")
    await peer.setLocalDescription(await peer.createOffer())
    yield peer
    await peer.close()


async def until(peer: RTCPeerConnection, state: str) -> None:
    changed = asyncio.Event()
    peer.on("connectionstatechange", changed.set)
    async with asyncio.timeout(15):
        while peer.connectionState != state:
            changed.clear()
            await changed.wait()


async def ended(checks: ConnectionChecks) -> None:
    async with asyncio.timeout(15):
        await asyncio.gather(*checks._running, return_exceptions=True)
    await asyncio.sleep(0)
    assert checks.running == 0


async def test_a_browser_connects_and_the_check_ends_when_it_closes(checks):
    async with browser() as peer:
        answer = checks.open(peer.localDescription.sdp, "a")
        await peer.setRemoteDescription(RTCSessionDescription(answer, "answer"))
        await until(peer, "connected")
        assert checks.running == 1
        await peer.close()
        await ended(checks)


async def test_a_data_channel_is_not_served(checks):
    async with browser(data=True) as peer:
        assert "m=application 0 " in checks.open(peer.localDescription.sdp, "a")


async def test_a_check_that_nobody_comes_to_ends_by_itself(plane):
    checks = ConnectionChecks(plane, seconds=0.05)
    async with browser() as peer:
        assert checks.open(peer.localDescription.sdp, "a") is not None
    await ended(checks)
    assert plane.endpoint._by_ufrag == {}


async def test_a_browser_that_stays_is_closed_in_time(plane):
    checks = ConnectionChecks(plane, seconds=1.0)
    async with browser() as peer:
        answer = checks.open(peer.localDescription.sdp, "a")
        await peer.setRemoteDescription(RTCSessionDescription(answer, "answer"))
        await until(peer, "connected")
        await ended(checks)
        await until(peer, "closed")


async def test_checks_are_bounded_for_one_and_for_all(checks):
    async with browser() as peer:
        offer = peer.localDescription.sdp
        for _ in range(MOST_OF_ONE_ASKER):
            assert checks.open(offer, "a") is not None
        assert checks.open(offer, "a") is None
        for number in range(MOST - MOST_OF_ONE_ASKER):
            assert checks.open(offer, f"b{number}") is not None
        assert checks.open(offer, "c") is None
        assert checks.running == MOST


async def test_a_check_that_was_short_still_counts_until_its_time_is_over(plane):
    checks = ConnectionChecks(plane, seconds=0.5)
    async with browser() as peer:
        offer = peer.localDescription.sdp
        for _ in range(MOST_OF_ONE_ASKER):
            assert checks.open(offer, "a") is not None
        await checks.close()
        assert checks.open(offer, "a") is None
        await asyncio.sleep(0.5)
        assert checks.open(offer, "a") is not None
    await checks.close()


async def test_what_is_no_offer_takes_no_place(checks, endpoint):
    with pytest.raises(SdpError):
        checks.open("v=0\r\ns=-\r\n", "a")
    assert checks.running == 0
    assert endpoint._by_ufrag == {}
