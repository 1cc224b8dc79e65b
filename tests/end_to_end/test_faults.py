"""Everything that can go wrong at the service: a clear refusal or end reason in time, and nothing left behind."""

from __future__ import annotations

import asyncio

import pytest
from support.client import Client
from support.service import CLIENT_KEY, bounds
from support.sessions import answered, client_of, end_notice, no_secret_in, started, watched

from relay.core.ice_check_pairs import CheckTimes
from relay.rtc import upstream_ice
from relay.simulator import SimulatorSettings

REFUSALS = [
    ("401", 401, "service_unauthorized"),
    ("403", 401, "service_unauthorized"),
    ("404", 404, "service_no_deployment"),
    ("429", 429, "service_rate_limited"),
    ("500", 502, "service_failed"),
    ("503", 502, "service_failed"),
    ("content_filter", 400, "content_filter"),
    ("timeout", 504, "service_timeout"),
    ("drop", 502, "service_unreachable"),
    ("garbage", 502, "service_answer_invalid"),
]


@pytest.mark.parametrize("operation", ["mint", "call"])
@pytest.mark.parametrize(("fault", "status", "code"), REFUSALS, ids=[each[0] for each in REFUSALS])
async def test_refusal_by_the_service(operation, fault, status, code):
    # Only who waits for nothing waits for a short time: elsewhere a busy machine would be taken for a dead service.
    seconds = 1.0 if fault == "timeout" else 30.0
    async with watched(service_seconds=seconds) as watch, client_of(watch) as client:
        watch.world.simulator.fault(**{operation: fault})
        key = await client.mint()
        offer = await client.offer()
        got, headers, error = await answered(client, key, offer)
        assert (got, error["code"], error["param"]) == (status, code, None)
        assert error["type"] == ("invalid_request_error" if status < 500 else "server_error")
        assert (headers.get("retry-after"), headers.get("retry-after-ms")) == (
            ("8", "7500") if status == 429 else (None, None)
        )
        # A call without a usable answer may have begun at the service: asked again it would be a second one.
        hopeless = status in (401, 404) or (operation == "call" and fault in ("timeout", "garbage"))
        assert headers.get("x-should-retry") == ("false" if hopeless else None)
        record = await watch.ended()
        assert (record.reason, record.detail) == ("service_refused", code)
        assert watch.world.simulator.state()["sessions"] == []
        await watch.nothing_live()
        # A key refused is not spent.
        watch.world.simulator.fault(reset=True)
        assert (await client.post_offer(offer, key))[0] == 201
        assert (await answered(client, key, offer.replace("s=-", "s=x")))[0] == 401
        # Spent, it still hangs its own session up.
        assert await client.hang_up() == 200


async def test_an_answer_without_opus_is_refused_and_hung_up():
    async with watched() as watch, client_of(watch) as client:
        watch.world.simulator.fault(no_opus=True)
        status, _, error = await answered(client, await client.mint())
        assert (status, error["code"]) == (502, "service_answer_invalid")
        assert (await watch.ended()).reason == "service_refused"
        state = await watch.world.simulator.until(lambda state: state["sessions"][-1]["state"] == "closed")
        assert state["calls"][-1]["hung_up"]


async def test_a_key_opens_one_session_at_a_time():
    async with watched() as watch, client_of(watch) as client:
        watch.world.simulator.fault(mint_delay_ms=500)
        key = await client.mint()
        offer = await client.offer()
        first = asyncio.create_task(client.post_offer(offer, key))
        await watch.world.simulator.until(lambda state: state["mints"])
        status, headers, error = await answered(client, key, offer)
        assert (status, error["code"], headers["x-should-retry"]) == (409, "key_in_use", "false")
        assert (await first)[0] == 201
        # The same request again within 30 s gets the same answer, another one does not.
        assert await client.post_offer(offer, key) == await first
        status, _, error = await answered(client, key, offer.replace("s=-", "s=other"))
        assert (status, error["code"]) == (401, "invalid_api_key")
        assert len(watch.world.simulator.state()["calls"]) == 1
        assert await client.hang_up() == 200


STALLS = [
    ("ice", "service_unreachable", bounds(ice_seconds=1.0)),
    ("dtls", "service_dtls_failed", bounds(dtls_seconds=1.0)),
    ("channel", "service_channel_timeout", bounds(channel_seconds=1.0)),
]


@pytest.mark.parametrize(("stage", "reason", "limits"), STALLS, ids=[each[0] for each in STALLS])
async def test_set_up_at_the_service_stalls(stage, reason, limits):
    async with watched(limits=limits) as watch, client_of(watch) as client:
        watch.world.simulator.fault(never_opens=stage)
        await started(client)
        error = await end_notice(client, reason)
        assert (error["type"], error["event_id"]) == ("server_error", None)
        record = await watch.ended()
        assert record.reason == reason
        # Our own deadline ended it, long before anybody else's.
        assert record.duration_seconds < 1.0 + 3.0
        assert f"upstream.{stage}" not in record.stages
        assert record.counters.upstream.packets_out == record.counters.downstream.packets_out == 0
        await watch.hung_up()


async def test_no_session_created():
    async with watched(limits=bounds(policy_seconds=0.5)) as watch, client_of(watch) as client:
        watch.world.simulator.fault(no_session_created=True)
        await started(client)
        await client.opened.wait()
        client.send({"type": "response.create"})
        await end_notice(client, "policy_unconfirmed")
        record = await watch.ended()
        assert record.reason == "policy_unconfirmed"
        assert record.reason.side == "policy"
        assert [event["type"] for event in client.events] == ["error"]
        # What the client said and sang before the confirmation went nowhere.
        assert watch.session()["client_events"] == []
        assert record.counters.upstream.packets_out == record.counters.downstream.packets_out == 0
        assert record.counters.downstream.dropped["gate_closed"] > 0
        await watch.hung_up()


async def test_other_instructions_in_force_are_replaced_once_or_the_session_ends():
    """The service runs other instructions: ours are put in force before anything passes."""
    async with watched() as watch, client_of(watch) as client:
        watch.world.simulator.fault(wrong_instructions="WRONG-TEXT be rude")
        await started(client)
        created = await client.event("session.created")
        assert "instructions" not in created["session"]
        sent = watch.session()["client_events"][0]
        assert (sent["type"], set(sent["session"])) == ("session.update", {"type", "instructions"})
        assert watch.session()["session"]["instructions"] == sent["session"]["instructions"]
        # Later on they change without our doing, and the service tells so: that is the end.
        watch.world.simulator.fault(wrong_instructions="WRONG-TEXT again", live=True)
        session = {**watch.session()["session"], "instructions": "WRONG-TEXT again"}
        await watch.world.simulator.say({"type": "session.updated", "session": session})
        await end_notice(client, "policy_not_in_force")
        assert not [raw for raw in client.raw if "WRONG-TEXT" in raw]
        assert (await watch.ended()).reason == "policy_not_in_force"
        await watch.hung_up()


async def test_media_of_the_service_stops_and_the_session_stays():
    """Silence is legal: the service sends nothing while it has nothing to say, so no packets are no fault."""
    async with watched() as watch, client_of(watch) as client:
        await started(client)
        await client.until(lambda: client.levels)
        watch.world.simulator.fault(media_stops_after=0, live=True)
        state = await watch.world.simulator.until(lambda state: state["sessions"][-1]["rtp"]["packets_received"] > 10)
        received = state["sessions"][-1]["rtp"]["packets_received"]
        state = await watch.world.simulator.until(
            lambda state: state["sessions"][-1]["rtp"]["packets_received"] > received + 50
        )
        sent = state["sessions"][-1]["rtp"]["packets_sent"]
        await watch.world.simulator.until(
            lambda state: state["sessions"][-1]["rtp"]["packets_received"] > received + 75
        )
        assert watch.session()["rtp"]["packets_sent"] == sent
        client.send({"type": "input_audio_buffer.clear"})
        await client.event("input_audio_buffer.cleared")
        assert watch.records == []
        assert watch.world.relay.registry.live.counters()


async def test_the_service_closes_the_channel():
    async with watched() as watch, client_of(watch) as client:
        watch.world.simulator.fault(channel_closes_after=0.3)
        await started(client)
        await client.event("session.created")
        await end_notice(client, "service_left")
        assert (await watch.ended()).reason == "service_left"
        await watch.hung_up()


async def test_the_service_vanishes(monkeypatch):
    """Consent checks that nobody answers, 30 s long in life, end the session; and the hang-up still goes out."""
    times = CheckTimes(consent_least=0.2, consent_most=0.3, consent_lost=2.0)
    monkeypatch.setattr(upstream_ice, "CheckTimes", lambda: times)
    async with watched() as watch, client_of(watch) as client:
        watch.world.simulator.fault(peer_vanishes_after=0.3)
        await started(client)
        await client.event("session.created")
        await end_notice(client, "service_lost", 30)
        record = await watch.ended()
        assert (record.reason, record.detail) == ("service_lost", "no consent from the service")
        await watch.hung_up()


async def test_the_session_expires():
    async with watched(SimulatorSettings(session_seconds=2.0)) as watch, client_of(watch) as client:
        await started(client)
        await end_notice(client, "session_expired")
        record = await watch.ended()
        assert (record.reason, record.reason.side) == ("session_expired", "service")
        # Told once: by the service's own event.
        assert [event["type"] for event in client.events].count("error") == 1
        await watch.hung_up()


@pytest.mark.parametrize("size", [262_144, 300_000])
async def test_an_event_too_large_for_the_client_costs_only_itself(size):
    async with watched() as watch, client_of(watch) as client:
        # Any oversized event makes the stand-in ignore what we announced to take.
        watch.world.simulator.fault(oversized_event=1)
        await started(client)
        await client.event("session.updated")
        await watch.world.simulator.say({"type": "response.output_text.delta", "delta": "x" * size})
        error = await client.event("error")
        assert (error["error"]["code"], error["error"]["event_id"]) == ("event_too_large", None)
        client.send({"type": "input_audio_buffer.clear"})
        await client.event("input_audio_buffer.cleared")
        assert not [raw for raw in client.raw if len(raw) > 10_000]


async def test_an_event_far_above_every_limit_ends_the_session():
    async with watched() as watch, client_of(watch) as client:
        watch.world.simulator.fault(oversized_event=1_048_576)
        await started(client)
        await end_notice(client, "service_message_too_large")
        assert (await watch.ended()).reason == "service_message_too_large"
        await watch.hung_up()


async def test_odd_events_of_the_service_are_withheld_and_its_errors_are_reworded():
    async with watched() as watch, client_of(watch) as client:
        message = "Deployment contoso-rt at realtime-api-vmss failed on: CANARY-7f3a. You are Contoso's assistant."
        watch.world.simulator.fault(
            binary_event=True,
            not_json_event=True,
            unknown_event=True,
            error_event={"type": "server_error", "code": "server_error", "message": message, "event_id": None},
        )
        await started(client)
        error = (await client.event("error"))["error"]
        assert (error["type"], error["code"]) == ("server_error", "server_error")
        client.send({"type": "input_audio_buffer.clear"})
        await client.event("input_audio_buffer.cleared")
        assert [event["type"] for event in client.events] == ["session.created", "error", "input_audio_buffer.cleared"]
        no_secret_in(*client.raw)
        (counters,) = watch.world.relay.registry.live.counters().values()
        assert counters.events["upstream", "other", "withhold"] == 3


async def test_a_relay_that_stops_says_so_and_hangs_up():
    async with watched() as watch, client_of(watch) as client:
        await started(client)
        await client.event("session.created")
        draining = asyncio.create_task(watch.world.relay.registry.drain(0.5))
        notice = await client.event("relay.session.ending")
        assert (notice["reason"], set(notice)) == (
            "relay_draining",
            {"type", "event_id", "reason", "seconds_left"},
        )
        async with Client(watch.world.url, CLIENT_KEY) as late:
            with pytest.raises(AssertionError, match="'draining'"):
                await late.mint()
        await end_notice(client, "relay_draining")
        await draining
        assert (await watch.ended()).reason == "relay_draining"
        await watch.hung_up()


async def test_a_session_beyond_capacity_is_refused_and_nothing_is_asked_of_the_service():
    async with watched(limits=bounds(max_sessions=1)) as watch, client_of(watch) as client:
        await client.connect()
        async with Client(watch.world.url, CLIENT_KEY) as second:
            status, headers, error = await answered(second, await second.mint())
        assert (status, error["code"], headers["retry-after"]) == (503, "at_capacity", "5")
        assert len(watch.world.simulator.state()["mints"]) == 1
