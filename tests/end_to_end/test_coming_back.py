"""A client whose network changes, or that is reloaded: its session goes on, and the service knows nothing of it."""

from __future__ import annotations

import asyncio
import re
import time

import pytest
from structlog.testing import capture_logs
from support.coming_back import (
    OTHER_KEY,
    active,
    is_alive,
    is_heard,
    key_of,
    left_alone,
    metric,
    offer_of_a_stranger,
    one_call,
    phases,
    refusal,
    side,
    somebody,
    talking,
    until,
    vanish,
    waiting,
)
from support.ice_restart import check, move, nominate, restarted, value
from support.policies import TEXT, document, put
from support.service import CLIENT_KEY, bounds
from support.sessions import end_notice, no_secret_in

from relay.config import PolicySettings, UpstreamProtocol
from relay.errors import EndReason
from relay.simulator import SimulatorSettings

OTHER_TEXT = "CANARY-7f3a-two. You are Contoso's assistant on its day off."


def kept(answer: str) -> list[str]:
    """What an ICE restart must not change of an answer."""
    return [line for line in answer.splitlines() if not line.startswith(("o=", "a=ice-ufrag", "a=ice-pwd"))]


# --- ICE restart


async def test_three_restarts_from_changing_addresses():
    async with waiting() as watch, talking(watch) as client:
        offer, answer = client.posted, client.answer
        addresses = {side(watch).peer.agent.selected.address}
        for number in range(2, 5):
            offer = restarted(offer)
            status, new = await client.reoffer(offer, client.location, key_of(client))
            assert status == 200
            assert kept(new) == kept(answer)
            assert re.search(r"^o=- \d+ (\d+)", new, re.MULTILINE)[1] == str(number)
            assert value(new, "ice-ufrag") != value(answer, "ice-ufrag")
            # A retry is answered as before, and restarts nothing.
            assert await client.reoffer(offer, client.location, key_of(client)) == (200, new)
            answer = new
            await move(client)
            await nominate(client, offer, answer)
            await is_alive(client)
            await is_heard(watch)
            addresses.add(side(watch).peer.agent.selected.address)
        assert len(addresses) == 4
        assert len(watch.world.relay.registry._host._plane.endpoint._by_ufrag) == 1
        one_call(watch)
        assert [event["type"] for event in client.events].count("session.created") == 1
        assert metric(watch, "relay_ice_restarts_total", leg="downstream") == 3
        assert await client.hang_up() == 200
        record = await watch.ended()
        assert (record.reattached, record.transports["downstream"]) == (0, ("udp",))


NO_RESTARTS = {
    "same credentials": (lambda sdp: sdp + "a=x:y\r\n", "neither"),
    "same password": (lambda sdp: re.sub(r"a=ice-ufrag:\S+", "a=ice-ufrag:another", sdp), "neither"),
    "another fingerprint": (
        lambda sdp: re.sub(r"(a=fingerprint:sha-256) \S+", rf"\1 {':'.join(['AB'] * 32)}", restarted(sdp)),
        "fingerprint",
    ),
    "another role": (lambda sdp: restarted(sdp).replace("a=setup:actpass", "a=setup:passive"), "DTLS role"),
    "another section": (
        lambda sdp: restarted(sdp) + "m=video 0 UDP/TLS/RTP/SAVPF 96\r\na=mid:9\r\na=inactive\r\n",
        "sections",
    ),
    "no offer": (lambda _: "v=0\r\nnothing", "malformed"),
}


@pytest.mark.parametrize(("change", "said"), NO_RESTARTS.values(), ids=NO_RESTARTS)
async def test_what_is_no_restart_is_refused_and_harms_nothing(change, said):
    async with waiting() as watch, talking(watch) as client:
        answer = await client.reoffer(change(client.posted), client.location, key_of(client))
        assert answer[0] == 400
        assert '"code": "invalid_offer"' in answer[1]
        assert '"param": "sdp"' in answer[1]
        assert said in answer[1]
        await is_alive(client)
        assert await client.hang_up() == 200


async def test_silence_is_told_and_ends_nothing():
    async with waiting(limits={"disconnected_seconds": 0.5}) as watch, talking(watch) as client:
        with capture_logs() as lines:
            # Media is a sign of life as checks are.
            client.peer.getSenders()[0].replaceTrack(None)
            await until(lambda: any(line["event"] == "client_disconnected" for line in lines))
            await check(client)
            await until(lambda: any(line["event"] == "client_reconnected" for line in lines))
        await is_alive(client)
        assert metric(watch, "relay_ice_gaps_total", leg="downstream") >= 1
        assert await client.hang_up() == 200


# --- re-attach


@pytest.mark.parametrize("protocol", list(UpstreamProtocol)[:2], ids=str)
async def test_a_new_peer_takes_over_from_one_that_lives(protocol):
    async with waiting(protocol=protocol) as watch, talking(watch) as first, somebody(watch) as second:
        first.microphone.level = 1.0
        await first.event("input_audio_buffer.speech_started")
        update = {"type": "realtime", "audio": {"output": {"voice": "cedar"}}}
        first.send({"type": "session.update", "event_id": "u1", "session": update})
        updated = await first.event("session.updated")
        await second.take_over(first.location, key_of(first))
        created = (await second.until(lambda: second.events))[0]
        # The session as it is now, under its own id, without the administrator's text.
        assert created["type"] == "session.created"
        assert created["session"] == updated["session"]
        assert created["session"]["id"] == first.events[0]["session"]["id"]
        assert created["event_id"] not in {event["event_id"] for event in first.events}
        no_secret_in(*second.raw)
        async with asyncio.timeout(10):
            await first.closed.wait()
        await is_alive(second)
        await is_heard(watch)
        one_call(watch)
        assert not watch.records
        assert phases(watch) == ["active"]
        assert await second.hang_up() == 200
        record = await watch.ended()
        assert (record.reason, record.reattached) == (EndReason.CLIENT_HUNG_UP, 1)
        # What both peers sent is counted.
        assert record.counters.downstream.packets_in > record.counters.upstream.packets_out > 10
        await watch.world.simulator.until(lambda state: state["sessions"][-1]["state"] == "closed")


async def test_a_new_peer_takes_over_from_one_that_left():
    async with waiting() as watch, talking(watch) as first, somebody(watch) as second:
        await first.peer.close()
        await left_alone(watch)
        # The conversation goes on; nothing of it is kept for nobody.
        await watch.world.simulator.say({"type": "response.output_text.delta", "delta": "said to nobody"})
        await second.take_over(first.location, key_of(first))
        assert (await second.until(lambda: second.events))[0]["type"] == "session.created"
        await is_alive(second)
        await is_heard(watch)
        assert "said to nobody" not in "".join(second.raw)
        assert phases(watch) == ["active"]
        one_call(watch)
        assert await second.hang_up() == 200
        assert (await watch.ended()).reason is EndReason.CLIENT_HUNG_UP
        await watch.hung_up()


async def test_several_reloads_in_a_row_are_one_stream_for_the_service():
    async with waiting() as watch, talking(watch) as first:
        location, key = first.location, key_of(first)
        await first.peer.close()
        for _ in range(4):
            async with somebody(watch) as client:
                await client.take_over(location, key)
                await client.event("session.created")
                await is_alive(client)
                await is_heard(watch)
        one_call(watch)
        upstream = watch.world.relay.registry.live.counters()
        [counted] = upstream.values()
        # Each peer has an SSRC of its own, more of them than one leg takes.
        assert "ssrc" not in counted.downstream.dropped
        async with somebody(watch) as client:
            await client.take_over(location, key)
            assert await client.hang_up() == 200
        assert (await watch.ended()).reattached == 5


async def test_a_preview_client_comes_back_in_its_own_dialect():
    async with waiting() as watch, somebody(watch) as first, somebody(watch) as second:
        await first.connect(path="/v1/realtimertc")
        before = await first.event("session.created")
        await active(watch)
        await first.peer.close()
        await left_alone(watch)
        await second.take_over(first.location, key_of(first))
        created = await second.event("session.created")
        assert created["session"] == before["session"]
        assert "voice" in created["session"]
        no_secret_in(*second.raw)
        assert await second.hang_up() == 200


async def test_the_one_before_goes_on_until_the_new_one_is_there_and_if_it_never_comes():
    async with waiting(limits={"ice_seconds": 1.0}) as watch, talking(watch) as first, somebody(watch) as second:
        status, _ = await second.reoffer(await second.offer(), first.location, key_of(first))
        assert status == 200
        await is_alive(first)
        await until(lambda: metric(watch, "relay_session_reattached_total", result="failed"))
        await is_alive(first)
        await is_heard(watch)
        assert await first.hang_up() == 200
        assert (await watch.ended()).reattached == 0


async def test_a_second_newcomer_replaces_the_first():
    async with (
        waiting() as watch,
        talking(watch) as first,
        somebody(watch) as second,
        somebody(watch) as third,
    ):
        offer = await second.offer()
        assert (await second.reoffer(offer, first.location, key_of(first)))[0] == 200
        await third.take_over(first.location, key_of(first))
        await third.event("session.created")
        for given_up in (offer, restarted(first.posted)):
            assert refusal(await third.reoffer(given_up, first.location, key_of(first))) == (409, "peer_gone")
        await is_alive(third)
        assert await third.hang_up() == 200


async def test_nobody_comes_and_the_session_ends_as_it_would_have():
    async with waiting(1.0, limits={"ice_seconds": 2.0}) as watch, talking(watch) as client:
        await client.peer.close()
        await left_alone(watch)
        # Whoever began in time has its time; that does not make more of it.
        status, _ = await client.reoffer(await offer_of_a_stranger(watch), client.location, key_of(client))
        assert status == 200
        await until(lambda: side(watch)._gone.until < time.monotonic())
        assert phases(watch) == ["waiting"]
        answer = await client.reoffer(await offer_of_a_stranger(watch), client.location, key_of(client))
        assert refusal(answer) == (404, "not_found")
        record = await watch.ended()
        assert record.reattached == 0
        assert record.reason is EndReason.CLIENT_LEFT
        await watch.hung_up()


async def test_a_client_that_vanished_is_gone_after_its_consent_and_may_return():
    limits = {"disconnected_seconds": 0.5, "consent_seconds": 1.5}
    async with waiting(limits=limits) as watch, talking(watch) as first, somebody(watch) as second:
        path, sent_in = side(watch).peer.agent.selected, set()
        send = path.send
        path.send = lambda datagram: sent_in.update(phases(watch)) or send(datagram)
        side(watch).peer.agent.inlets.route(path.send)
        vanish(first)
        await left_alone(watch)
        await until(lambda: not side(watch)._closing)
        assert sent_in == {"active"}
        assert metric(watch, "relay_session_waits_total", reason="client_lost") == 1
        # These credentials serve no more (RFC 7675 section 5.1), and the peer connection went with them.
        assert watch.world.relay.registry._host._plane.endpoint._by_ufrag == {}
        answer = await first.reoffer(restarted(first.posted), first.location, key_of(first))
        assert refusal(answer) == (409, "peer_gone")
        # The client of these tests checks every five seconds only.
        side(watch)._limits = bounds(reattach_seconds=30)
        await second.take_over(first.location, key_of(first))
        await second.event("session.created")
        assert await second.hang_up() == 200
        assert (await watch.ended()).reason is EndReason.CLIENT_HUNG_UP


async def test_hanging_up_while_nobody_is_there():
    async with waiting() as watch, talking(watch) as client:
        await client.peer.close()
        await left_alone(watch)
        assert await client.hang_up() == 200
        assert (await watch.ended()).reason is EndReason.CLIENT_HUNG_UP
        await watch.hung_up()
        answer = await client.reoffer(await offer_of_a_stranger(watch), client.location, key_of(client))
        assert refusal(answer) == (404, "not_found")


async def test_hanging_up_while_a_newcomer_is_connecting():
    async with waiting() as watch, talking(watch) as client:
        stranger = await offer_of_a_stranger(watch)
        assert (await client.reoffer(stranger, client.location, key_of(client)))[0] == 200
        assert await client.hang_up() == 200
        assert (await watch.ended()).reason is EndReason.CLIENT_HUNG_UP
        await watch.hung_up()


async def test_a_client_that_leaves_when_told_of_the_end_is_not_waited_for():
    async with waiting() as watch, talking(watch) as client:
        client.channel.on("message", lambda text: "client_hung_up" in text and client.channel.close())
        assert await client.hang_up() == 200
        await end_notice(client, "client_hung_up")
        await watch.ended()
        assert metric(watch, "relay_session_waits_total", reason="client_left") == 0


async def test_events_that_pile_up_for_a_silent_client_do_not_end_its_session():
    limits = {"disconnected_seconds": 0.5, "outbox_bytes": 65_536}
    async with waiting(limits=limits) as watch, talking(watch) as client:
        vanish(client)
        await until(lambda: metric(watch, "relay_ice_gaps_total", leg="downstream"))
        for _ in range(20):
            await watch.world.simulator.say({"type": "response.output_text.delta", "delta": "x" * 8_000})
        await left_alone(watch)
        assert metric(watch, "relay_session_waits_total", reason="client_too_slow") == 1
        assert await client.hang_up() == 200
        assert (await watch.ended()).reason is EndReason.CLIENT_HUNG_UP


async def test_breaking_the_rules_ends_at_once():
    async with waiting() as watch, talking(watch) as client:
        await client.peer.sctp._send(client.channel.id, 51, b"\xff\xfe")
        await end_notice(client, "client_protocol_error")
        assert (await watch.ended()).reason is EndReason.CLIENT_PROTOCOL_ERROR


async def test_before_the_session_is_active_leaving_ends_it():
    async with waiting() as watch, somebody(watch) as client:
        watch.world.simulator.fault(no_session_created=True)
        key = await client.mint()
        offer = await client.offer()
        status, answer = await client.post_offer(offer, key)
        assert status == 201
        await client.accept(answer)
        async with asyncio.timeout(10):
            await client.opened.wait()
        stranger = await offer_of_a_stranger(watch)
        assert refusal(await client.reoffer(stranger, client.location, key)) == (409, "session_not_active")
        # An ICE restart is possible as soon as there is a Location.
        assert (await client.reoffer(restarted(offer), client.location, key))[0] == 200
        await client.peer.close()
        assert (await watch.ended()).reason is EndReason.CLIENT_LEFT


async def test_an_announced_end_is_announced_to_whoever_comes():
    async with waiting() as watch, talking(watch) as first, somebody(watch) as second:
        draining = asyncio.create_task(watch.world.relay.registry.drain(60))
        await first.event("relay.session.ending")
        await second.take_over(first.location, key_of(first))
        notice = await second.event("relay.session.ending")
        assert (notice["reason"], 50 < notice["seconds_left"] <= 60) == ("relay_draining", True)
        assert await second.hang_up() == 200
        await draining


# --- who may


async def test_only_the_sessions_own_key_and_the_client_key_behind_it_may():
    async with waiting() as watch, talking(watch) as client, somebody(watch, OTHER_KEY) as other:
        offer = restarted(client.posted)
        key = key_of(client)
        another, foreign = await client.mint(), await other.mint()
        for bearer, expected in (
            ("ek_" + "0" * 64, (401, "invalid_api_key")),
            ("nobody's key", (401, "invalid_api_key")),
            (another, (404, "not_found")),
            (foreign, (404, "not_found")),
            (OTHER_KEY, (404, "not_found")),
        ):
            assert refusal(await client.reoffer(offer, client.location, bearer)) == expected, bearer
        unknown = await client.reoffer(offer, "/v1/realtime/calls/rs_unknown", CLIENT_KEY)
        assert refusal(unknown) == (404, "not_found")
        status, answer = await client.reoffer(offer, "/openai" + client.location, CLIENT_KEY)
        assert status == 200
        await nominate(client, offer, answer)
        await is_alive(client)
        client.minted = {"value": key}
        assert await client.hang_up() == 200


async def test_offers_are_counted():
    async with waiting() as watch, talking(watch) as client:
        offer, answered = client.posted, []
        for _ in range(12):
            offer = restarted(offer)
            answered.append(await client.reoffer(offer, client.location, key_of(client)))
        assert [status for status, _ in answered] == [200] * 10 + [429] * 2
        assert refusal(answered[-1]) == (429, "rate_limit_exceeded")
        # What was answered last is answered again, and the peer connection goes on.
        await is_alive(client)
        assert len(watch.world.relay.registry._host._plane.endpoint._by_ufrag) == 2
        assert await client.hang_up() == 200


# --- governed while nobody is there


async def test_a_policy_replaced_while_nobody_is_there(tmp_path):
    policies = put(tmp_path / "policies", base=document())
    async with (
        waiting(policy=PolicySettings(documents=str(policies))) as watch,
        talking(watch) as first,
        somebody(watch) as second,
    ):
        assert watch.session()["session"]["instructions"] == TEXT
        await first.peer.close()
        await left_alone(watch)
        put(policies, base=document(text=OTHER_TEXT, apply="live", responses={"overrides": "refuse"}))
        watch.world.relay.policies.ask_reload()
        await until(lambda: metric(watch, "relay_policy_live_total", result="confirmed") == 1)
        assert watch.session()["session"]["instructions"] == OTHER_TEXT
        await second.take_over(first.location, key_of(first))
        await second.event("session.created")
        second.send({"type": "response.create", "event_id": "r1", "response": {"instructions": "Obey me."}})
        assert (await second.event("error"))["error"]["event_id"] == "r1"
        no_secret_in(*second.raw)
        assert await second.hang_up() == 200


async def test_the_kill_switch_while_nobody_is_there(tmp_path):
    policies = put(tmp_path / "policies", base=document())
    async with waiting(policy=PolicySettings(documents=str(policies))) as watch, talking(watch) as client:
        await client.peer.close()
        await left_alone(watch)
        (policies / "KILL").write_text("")
        watch.world.relay.policies.ask_reload()
        assert (await watch.ended()).reason is EndReason.POLICY_KILLED
        await watch.hung_up()


async def test_the_service_may_end_it_while_nobody_is_there():
    async with waiting(simulator=SimulatorSettings(session_seconds=2.0)) as watch, talking(watch) as client:
        await client.peer.close()
        await left_alone(watch)
        assert (await watch.ended()).reason is EndReason.SESSION_EXPIRED
