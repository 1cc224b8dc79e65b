"""Real Chromium that may use nothing but coturn as deploy/coturn configures it, told by the door."""

from __future__ import annotations

from pathlib import Path

import pytest
import pytest_asyncio
from support.browser import chromium
from support.coturn import shipped_coturn
from support.service import CLIENT_KEY, SECRETS, bench

from relay.config import Secret, TurnSettings
from relay.config_network import ice_server

SPEECH = Path(__file__).parents[1] / "end_to_end" / "speech.wav"
# The server's certificate is its own; a real one is signed by somebody the browser knows.
TRUSTING = "--ignore-certificate-errors"

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.browser, pytest.mark.timeout(120)]

# A page of the GA doors that takes its ICE servers from the relay.
CONNECT = """async (clientKey) => {
    const post = async (path, body, type, key) => {
        const headers = { Authorization: `Bearer ${key}`, "Content-Type": type };
        const answer = await fetch(path, { method: "POST", headers, body });
        if (!answer.ok) throw new Error(`${path}: ${answer.status} ${await answer.text()}`);
        return answer;
    };
    const wish = JSON.stringify({ session: { type: "realtime", model: "gpt-realtime" } });
    const minted = await (await post("/v1/realtime/client_secrets", wish, "application/json", clientKey)).json();
    const headers = { Authorization: `Bearer ${minted.value}` };
    const told = await (await fetch("/v1/realtime/ice_servers", { headers })).json();
    window.peer = new RTCPeerConnection({
        iceServers: told.ice_servers,
        iceTransportPolicy: told.ice_transport_policy,
    });
    window.events = [];
    window.gathered = [];
    window.failures = [];
    peer.addEventListener("icecandidate", ({ candidate }) => candidate && gathered.push(candidate.candidate));
    peer.addEventListener("icecandidateerror", ({ errorCode, errorText, url }) =>
        failures.push(`${errorCode} ${errorText} ${url}`));
    const microphone = await navigator.mediaDevices.getUserMedia({ audio: true });
    peer.addTrack(microphone.getTracks()[0], microphone);
    peer.createDataChannel("oai-events").addEventListener("message", ({ data }) => events.push(JSON.parse(data)));
    await peer.setLocalDescription();
    const answer = await post("/v1/realtime/calls", peer.localDescription.sdp, "application/sdp", minted.value);
    await peer.setRemoteDescription({ type: "answer", sdp: await answer.text() });
}"""
SELECTED = """async () => {
    const stats = [...(await peer.getStats()).values()];
    const transport = stats.find((each) => each.type === "transport");
    const pair = stats.find((each) => each.id === transport.selectedCandidatePairId);
    const local = stats.find((each) => each.id === pair.localCandidateId);
    const sound = stats.find((each) => each.type === "inbound-rtp");
    return { type: local.candidateType, way: local.relayProtocol, port: local.port, sound: sound.packetsReceived };
}"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shipped(tmp_path_factory):
    async with shipped_coturn(tmp_path_factory.mktemp("shipped")) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser():
    async with chromium(SPEECH) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def trusting_browser():
    async with chromium(SPEECH, TRUSTING) as running:
        yield running


async def connected(page, url):
    await page.goto(url)
    await page.evaluate(CONNECT, CLIENT_KEY)


async def heard(page, kind):
    await page.wait_for_function(f"() => events.some((each) => each.type === '{kind}')", timeout=30_000)


@pytest.mark.parametrize("way", ["udp", "tcp", "tls"])
async def test_a_page_speaks_through_turn(shipped, trusting_browser, way):
    settings = TurnSettings((ice_server(shipped.url(way)),), Secret(shipped.secret), 600, relay_only=True)
    async with bench(turn=settings) as world, await trusting_browser.new_context() as context:
        page = await context.new_page()
        await connected(page, world.url)
        await heard(page, "session.created")
        await heard(page, "input_audio_buffer.speech_started")
        await heard(page, "output_audio_buffer.started")
        selected = await page.evaluate(SELECTED)
        assert (selected["type"], selected["way"]) == ("relay", way)
        assert selected["port"] in shipped.relay_ports
        assert selected["sound"] > 0
        assert all(" typ relay " in each for each in await page.evaluate("gathered"))
        assert not [secret for secret in SECRETS if secret in str(await page.evaluate("events"))]


async def test_a_certificate_the_browser_does_not_know_is_refused(shipped, browser):
    settings = TurnSettings((ice_server(shipped.url("tls")),), Secret(shipped.secret), 600, relay_only=True)
    async with bench(turn=settings) as world, await browser.new_context() as context:
        page = await context.new_page()
        await connected(page, world.url)
        await page.wait_for_function("() => failures.length > 0", timeout=30_000)
        assert await page.evaluate("gathered") == []
