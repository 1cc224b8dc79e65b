"""Every fault does what its name says, for as many requests as asked, and no other key is accepted."""

import asyncio
import json

import aiohttp
import pytest

from relay.simulator.faults import FaultError, FaultRequest, Faults, HttpFault, NeverOpens

GA = "/openai/v1/realtime"
MINT = {"session": {"type": "realtime", "model": "gpt-realtime"}}
KEY = {"api-key": "simulator-resource-key"}
HTTP_FAULTS = [
    ("401", (401, "401")),
    ("403", (403, "PermissionDenied")),
    ("404", (404, "DeploymentNotFound")),
    ("429", (429, "429")),
    ("500", (500, "500")),
    ("503", (503, "503")),
    ("content_filter", (400, "content_filter")),
]


async def mint(http, simulator):
    async with http.post(f"{simulator.url}{GA}/client_secrets", json=MINT, headers=KEY) as response:
        return response.status, await response.text(), response.headers


async def call(http, simulator, key, offer):
    headers = {"authorization": f"Bearer {key}", "content-type": "application/sdp"}
    async with http.post(f"{simulator.url}{GA}/calls", data=offer, headers=headers) as response:
        return response.status, await response.text(), response.headers


async def key_of(http, simulator):
    return json.loads((await mint(http, simulator))[1])["value"]


@pytest.mark.parametrize(("fault", "expected"), HTTP_FAULTS)
async def test_refusals_of_mint_and_call(simulate, http, offer, fault, expected):
    simulator = await simulate()
    key = await key_of(http, simulator)
    simulator.fault(mint=fault, call=fault)
    for got, text, headers in (await mint(http, simulator), await call(http, simulator, key, offer)):
        assert (got, json.loads(text)["error"]["code"]) == expected
        if got == 429:
            assert (headers["retry-after"], headers["retry-after-ms"]) == ("8", "7500")


async def test_garbage_has_a_good_status_and_a_bad_body(simulate, http, offer):
    simulator = await simulate()
    key = await key_of(http, simulator)
    simulator.fault(mint="garbage", call="garbage")
    status, text, _ = await mint(http, simulator)
    assert (status, text[:6]) == (200, "<html>")
    status, text, _ = await call(http, simulator, key, offer)
    assert (status, text[:6]) == (201, "<html>")
    assert simulator.state()["sessions"] == []


async def test_drop_cuts_the_connection(simulate, http, offer):
    simulator = await simulate()
    key = await key_of(http, simulator)
    simulator.fault(mint="drop", call="drop")
    with pytest.raises(aiohttp.ClientConnectionError):
        await mint(http, simulator)
    with pytest.raises(aiohttp.ClientConnectionError):
        await call(http, simulator, key, offer)
    assert [entry["status"] for entry in simulator.state()["calls"]] == [0]


async def test_timeout_answers_nothing_until_the_simulator_closes(simulate, http):
    simulator = await simulate()
    simulator.fault(mint="timeout")
    asking = asyncio.ensure_future(mint(http, simulator))
    await simulator.until(lambda s: s["mints"])
    assert not asking.done()
    await simulator.close()
    assert (await asking)[0] == 504


async def test_delay_holds_the_answer_back(simulate, http):
    simulator = await simulate()
    simulator.fault(mint_delay_ms=60_000)
    asking = asyncio.ensure_future(mint(http, simulator))
    await simulator.until(lambda s: s["mints"])
    assert not asking.done()
    await simulator.close()
    assert (await asking)[0] == 200


async def test_count_ends_a_fault_and_reset_removes_it(simulate, http):
    simulator = await simulate()
    simulator.fault(mint="500", count=2)
    assert [(await mint(http, simulator))[0] for _ in range(3)] == [500, 500, 200]
    simulator.fault(mint="404", count=1, reset=True)
    simulator.fault(reset=True)
    assert (await mint(http, simulator))[0] == 200


async def test_faults_over_http_are_strict(simulate, http):
    simulator = await simulate()
    async with http.post(simulator.url + "/_fault", json={"mint": "429", "count": 1}) as response:
        assert response.status == 200
        assert (await response.json())["faults"]["mint"] == "429"
    for body in ({"mnit": "429"}, {"mint": "nope"}, {"count": 0}, {"media_stops_after": -1}, {"live": 1}, []):
        async with http.post(simulator.url + "/_fault", json=body) as response:
            assert response.status == 400, body
    assert (await mint(http, simulator))[0] == 429


def test_unset_fields_keep_their_value_and_null_clears_one():
    first = FaultRequest.parse({"call": "500", "no_opus": True, "never_opens": "dtls"}, Faults()).faults
    second = FaultRequest.parse({"call": None, "error_event": {"code": "x"}}, first).faults
    assert (first.call, second.call) == (HttpFault.SERVER_ERROR, None)
    assert (second.session.no_opus, second.session.never_opens) == (True, NeverOpens.DTLS)
    with pytest.raises(FaultError, match="Known: "):
        FaultRequest.parse({"sesion": 1}, first)


def test_session_faults_are_counted_by_calls():
    faults = FaultRequest.parse({"no_opus": True, "call_delay_ms": 5, "count": 1}, Faults()).faults
    first, second = faults.take_call(), faults.take_call()
    assert (first[1], first[2].no_opus) == (5, True)
    assert (second[1], second[2].no_opus) == (0, False)


async def test_no_session_created(simulate, connect):
    simulator = await simulate()
    simulator.fault(no_session_created=True)
    client = await connect(simulator)
    client.send({"type": "session.update", "session": {"type": "realtime"}})
    await client.event("session.updated")
    assert client.types() == ["session.updated"]


async def test_wrong_instructions_are_in_force_though_others_were_minted(simulate, connect):
    simulator = await simulate()
    simulator.fault(wrong_instructions="something else")
    client = await connect(simulator, mint={"session": {**MINT["session"], "instructions": "mine"}})
    assert (await client.event("session.created"))["session"]["instructions"] == "something else"


async def test_odd_events_follow_session_created(simulate, connect):
    simulator = await simulate()
    error = {"type": "server_error", "code": "boom", "message": "m", "param": None, "event_id": None}
    simulator.fault(binary_event=True, not_json_event=True, unknown_event=True, error_event=error)
    client = await connect(simulator)
    await client.event("error")
    assert client.types() == ["session.created", "session.never_heard_of", "error"]
    assert client.events[-1]["error"]["code"] == "boom"
    assert isinstance(client.messages[1], bytes)
    assert client.messages[2] == "this is not JSON {"


async def test_oversized_event_is_sent_past_the_announced_limit(simulate, connect):
    simulator = await simulate()
    simulator.fault(oversized_event=400_000)
    client = await connect(simulator)
    await client.until(lambda: any(len(m) > 400_000 for m in client.messages), "huge message")


async def test_without_that_fault_an_event_too_large_is_not_sent(simulate, connect):
    simulator = await simulate()
    await connect(simulator)
    with pytest.raises(LookupError):
        await simulator.say({"type": "x", "padding": "x" * 400_000})
    assert simulator.state()["sessions"][0]["server_events"][-1] == "(too large) x"


async def test_media_stops_while_the_channel_lives(simulate, connect):
    simulator = await simulate()
    client = await connect(simulator)
    await client.until(lambda: client.levels, "sound")
    simulator.fault(media_stops_after=0, live=True)
    received = simulator.state()["sessions"][0]["rtp"]["packets_received"]
    await simulator.until(lambda s: s["sessions"][0]["rtp"]["packets_received"] > received + 5)
    sent = simulator.state()["sessions"][0]["rtp"]["packets_sent"]
    await simulator.until(lambda s: s["sessions"][0]["rtp"]["packets_received"] > received + 25)
    assert simulator.state()["sessions"][0]["rtp"]["packets_sent"] == sent
    await simulator.say({"type": "still.here"})
    await client.event("still.here")


async def test_channel_closes_while_the_peer_lives(simulate, connect):
    simulator = await simulate()
    simulator.fault(channel_closes_after=0.01)
    client = await connect(simulator)
    await client.until(lambda: client.channel.readyState == "closed", "closed channel")
    assert client.peer.connectionState == "connected"
    assert simulator.state()["sessions"][0]["end"] is None


async def test_peer_vanishes_without_a_word(simulate, connect):
    simulator = await simulate()
    client = await connect(simulator)
    await client.until(lambda: client.levels, "sound")
    simulator.fault(peer_vanishes_after=0, live=True)
    before = simulator.state()["sessions"][0]["rtp"]
    client.send({"type": "response.create"})
    await asyncio.gather(*[client.microphone.recv() for _ in range(3)])
    after = simulator.state()["sessions"][0]
    assert after["client_events"] == []
    assert after["rtp"]["packets_received"] - before["packets_received"] <= 2
    assert (after["state"], client.peer.connectionState) == ("open", "connected")


@pytest.mark.parametrize(
    ("stage", "ice", "state"),
    [("ice", "checking", "connecting"), ("dtls", "completed", "connecting"), ("channel", "completed", "connected")],
)
async def test_set_up_stalls_at_a_stage(simulate, connect, stage, ice, state):
    simulator = await simulate(connect_seconds=2)
    simulator.fault(never_opens=stage)
    client = await connect(simulator, wait_open=False)
    await client.until(lambda: client.peer.iceConnectionState == ice, ice)
    await simulator.until(lambda s: s["sessions"][0]["state"] == state)
    assert client.channel.readyState == "connecting"


async def test_set_up_that_takes_too_long_is_given_up(simulate, connect):
    simulator = await simulate(connect_seconds=0.2)
    simulator.fault(never_opens="ice")
    await connect(simulator, wait_open=False)
    state = await simulator.until(lambda s: s["sessions"][0]["state"] == "closed")
    assert state["sessions"][0]["end"] == "connect_timeout"


async def test_answer_without_opus(simulate, http, offer):
    simulator = await simulate()
    key = await key_of(http, simulator)
    simulator.fault(no_opus=True)
    status, text, _ = await call(http, simulator, key, offer)
    assert status == 201
    assert "opus" not in text
    assert "PCMU/8000" in text
