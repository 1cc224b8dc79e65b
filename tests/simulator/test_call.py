"""The SDP exchange: which credentials and bodies are taken, and the shape of the answer."""

import re

import pytest
from aiohttp import FormData

from relay.simulator.offer_answer import OfferError, read_offer

GA = "/openai/v1/realtime/calls"
OPENAI = "/v1/realtime/calls"
SESSION = {"type": "realtime", "model": "gpt-realtime"}
KEY = "simulator-resource-key"
NEEDS_EPHEMERAL = "This operation requires ephemeral tokens for authentication."


async def mint(http, simulator, prefix="/openai/v1"):
    url = f"{simulator.url}{prefix}/realtime/client_secrets"
    async with http.post(url, json={"session": SESSION}, headers={"api-key": KEY}) as response:
        return (await response.json())["value"]


async def preview_mint(http, simulator):
    url = f"{simulator.url}/openai/realtimeapi/sessions?api-version=2025-04-01-preview"
    async with http.post(url, json={"model": "gpt-realtime"}, headers={"api-key": KEY}) as response:
        return (await response.json())["client_secret"]["value"]


async def call(http, url, key, sdp, content_type="application/sdp"):
    headers = {"authorization": f"Bearer {key}", "content-type": content_type}
    async with http.post(url, data=sdp.encode(), headers=headers) as response:
        return response.status, await response.text(), response.headers


async def error_of(http, url, key, sdp, content_type="application/sdp"):
    headers = {"authorization": f"Bearer {key}", "content-type": content_type}
    async with http.post(url, data=sdp.encode(), headers=headers) as response:
        return response.status, (await response.json())["error"]


async def test_ga_answer_is_201_plain_text_with_a_relative_location(simulate, http, offer):
    simulator = await simulate()
    status, text, headers = await call(http, simulator.url + GA, await mint(http, simulator), offer)
    assert status == 201
    assert headers["content-type"] == "text/plain; charset=utf-8"
    assert re.fullmatch(r"/v1/realtime/calls/rtc_[0-9a-f]{32}", headers["location"])
    assert headers["access-control-expose-headers"] == "Location,X-Request-Id"
    assert text.startswith("v=0\r\n")
    assert text.endswith("\r\n")


async def test_answer_is_shaped_like_the_recorded_one(simulate, http, offer):
    simulator = await simulate()
    _, text, _ = await call(http, simulator.url + GA, await mint(http, simulator), offer)
    session, audio, data = re.split(r"(?=^m=)", text, flags=re.MULTILINE)
    assert "a=fingerprint:sha-256 " in session
    assert "a=fingerprint" not in audio + data
    assert "a=ice-lite" not in text
    assert re.search(r"^m=audio \d+ UDP/TLS/RTP/SAVPF 96 0 8\r$", audio, re.MULTILINE)
    assert "a=fmtp:96 minptime=10;useinbandfec=1\r\n" in audio
    assert "a=msid:realtimeapi audio\r\n" in audio
    assert "a=max-message-size:1073741823\r\n" in data
    for section in (audio, data):
        assert "a=setup:active\r\n" in section
        assert re.search(r"a=ice-ufrag:\S+/realtime-api-vmss-\S+-", section)
        assert " 1 udp " in section
        assert " 2 udp " in section
        assert "tcptype passive" in section
        assert "a=end-of-candidates" in section


async def test_candidates_can_be_in_the_first_section_alone_and_without_tcp(simulate, http, offer):
    simulator = await simulate(candidates_in_every_section=False, tcp_candidates=False, ice_lite=True)
    _, text, _ = await call(http, simulator.url + GA, await mint(http, simulator), offer)
    session, audio, data = re.split(r"(?=^m=)", text, flags=re.MULTILINE)
    assert "a=ice-lite" in session
    assert "a=candidate" in audio
    assert "a=candidate" not in data
    assert " tcp " not in text


async def test_preview_answer_is_raw_sdp(simulate, http, offer):
    simulator = await simulate()
    key = await preview_mint(http, simulator)
    status, text, headers = await call(http, f"{simulator.url}/v1/realtimertc?model=gpt-realtime", key, offer)
    assert (status, headers["content-type"].split(";")[0]) == (200, "application/sdp")
    assert "location" not in headers
    assert text.startswith("v=0")


@pytest.mark.parametrize("path", [GA, OPENAI, "/v1/realtimertc?model=gpt-realtime"])
async def test_resource_key_opens_no_call(simulate, http, offer, path):
    simulator = await simulate()
    status, error = await error_of(http, simulator.url + path, KEY, offer)
    assert (status, error["message"]) == (401, NEEDS_EPHEMERAL)
    assert simulator.state()["calls"][0]["status"] == 401


async def test_keys_are_of_one_protocol(simulate, http, offer):
    simulator = await simulate()
    assert (await call(http, simulator.url + GA, await preview_mint(http, simulator), offer))[0] == 401
    key = await mint(http, simulator)
    assert (await call(http, f"{simulator.url}/v1/realtimertc?model=gpt-realtime", key, offer))[0] == 401


async def test_expired_key_is_refused(simulate, http, offer):
    simulator = await simulate(key_seconds=0)
    status, error = await error_of(http, simulator.url + GA, await mint(http, simulator), offer)
    assert status == 401
    assert "expired" in error["message"]


@pytest.mark.parametrize(("single_use", "second"), [(False, 201), (True, 401)])
async def test_a_key_starts_several_sessions_unless_single_use(simulate, http, offer, single_use, second):
    simulator = await simulate(single_use_keys=single_use)
    key = await mint(http, simulator)
    assert (await call(http, simulator.url + GA, key, offer))[0] == 201
    assert (await call(http, simulator.url + GA, key, offer))[0] == second


async def test_api_version_is_refused_on_ga_paths(simulate, http, offer):
    simulator = await simulate()
    key = await mint(http, simulator)
    status, _ = await error_of(http, f"{simulator.url}{GA}?api-version=2025-04-01-preview", key, offer)
    assert status == 401


async def test_preview_call_needs_a_deployment(simulate, http, offer):
    simulator = await simulate()
    status, error = await error_of(
        http, f"{simulator.url}/v1/realtimertc?model=x", await preview_mint(http, simulator), offer
    )
    assert (status, error["code"]) == (404, "DeploymentNotFound")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda sdp: "hello", "Invalid SDP offer"),
        (lambda sdp: sdp.replace("m=audio", "m=audio x"), "Invalid SDP offer"),
        (lambda sdp: sdp.replace("opus", "speex"), "Invalid SDP offer"),
        (lambda sdp: re.sub("a=ice-pwd.*\r\n", "", sdp), "Invalid SDP offer"),
        (lambda sdp: re.sub("a=fingerprint.*\r\n", "", sdp), "Invalid SDP offer"),
        (lambda sdp: sdp + "a=padding:" + "x" * 300_000 + "\r\n", "Invalid SDP offer"),
        (lambda sdp: re.sub(r"m=audio.*?(?=m=application)", "", sdp, flags=re.DOTALL), "did not have an audio"),
        (lambda sdp: re.sub(r"m=audio \d+", "m=audio 0", sdp), "did not have an audio"),
    ],
)
async def test_bad_offers(simulate, http, offer, change, message):
    simulator = await simulate()
    status, error = await error_of(http, simulator.url + GA, await mint(http, simulator), change(offer))
    assert (status, error["code"]) == (400, "invalid_offer")
    assert message in error["message"]
    assert simulator.state()["sessions"] == []


def test_video_is_answered_with_port_zero_and_an_offer_without_data_is_taken():
    sdp = (
        "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0 1\r\n"
        "m=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:0\r\na=ice-ufrag:abcd\r\na=ice-pwd:0123456789012345678901\r\n"
        "a=fingerprint:sha-256 AA:BB\r\na=setup:actpass\r\na=rtcp-mux\r\na=rtpmap:111 opus/48000/2\r\n"
        "a=candidate:1 1 udp 1 8f3a.local 5000 typ host\r\na=recvonly\r\n"
        "m=video 9 UDP/TLS/RTP/SAVPF 100\r\na=mid:1\r\na=ice-ufrag:abcd\r\na=ice-pwd:0123456789012345678901\r\n"
        "a=fingerprint:sha-256 AA:BB\r\na=setup:actpass\r\na=rtpmap:100 VP8/90000\r\n"
    )
    read = read_offer(sdp)
    assert [section.taken for section in read.sections] == [True, False]
    assert (read.has_data, read.opus_payload_type, read.direction, read.candidates) == (False, 111, "recvonly", ())
    with pytest.raises(OfferError):
        read_offer(sdp.replace("opus", "speex"))


async def test_multipart_with_the_resource_key_on_openai_paths_only(simulate, http, offer):
    simulator = await simulate()
    for path, expected in ((OPENAI, 201), (GA, 400)):
        form = FormData(default_to_multipart=True)
        form.add_field("sdp", offer, content_type="application/sdp")
        form.add_field("session", '{"type":"realtime","model":"gpt-realtime"}', content_type="application/json")
        async with http.post(simulator.url + path, data=form, headers={"authorization": f"Bearer {KEY}"}) as response:
            assert response.status == expected
    assert simulator.state()["sessions"][0]["surface"] == "openai"


async def test_other_content_types_are_refused(simulate, http, offer):
    simulator = await simulate()
    status, _ = await error_of(http, simulator.url + GA, await mint(http, simulator), offer, "text/plain")
    assert status == 400


async def test_sessions_are_bounded(simulate, http, offer):
    simulator = await simulate(max_sessions=1)
    key = await mint(http, simulator)
    assert (await call(http, simulator.url + GA, key, offer))[0] == 201
    assert (await call(http, simulator.url + GA, key, offer))[0] == 429


async def test_hang_up_ends_the_session_and_needs_a_credential(simulate, http, offer):
    simulator = await simulate()
    key = await mint(http, simulator)
    _, _, headers = await call(http, simulator.url + GA, key, offer)
    url = f"{simulator.url}/openai{headers['location']}/hangup"
    async with http.post(url, headers={"authorization": "Bearer nobody"}) as response:
        assert response.status == 401
    async with http.post(url, headers={"authorization": f"Bearer {key}"}) as response:
        assert response.status == 200
    state = await simulator.until(lambda s: s["sessions"][0]["state"] == "closed")
    assert state["sessions"][0]["end"] == "hung_up"
    assert state["calls"][0]["hung_up"] is True
    async with http.post(url, headers={"api-key": KEY}) as response:
        assert response.status == 404
