"""Section A of the policy vectors: credentials, and the life of an ephemeral key at the doors."""

from __future__ import annotations

import asyncio
import hashlib

import pytest

from relay.errors import ErrorCode

MINT_DOORS = [
    "/openai/realtimeapi/sessions",
    "/openai/realtime/sessions",
    "/v1/realtime/sessions",
    "/openai/v1/realtime/client_secrets",
    "/v1/realtime/client_secrets",
]
SDP_DOORS = ["/v1/realtimertc", "/v1/realtime", "/openai/v1/realtime/calls", "/v1/realtime/calls"]
HANGUP = "/v1/realtime/calls/rs_1/hangup"


async def test_v001_the_browser_gets_a_key_of_the_relays_own(doors):
    answer = await doors.post("/openai/v1/realtime/client_secrets", json={"session": {"type": "realtime"}})
    assert answer.status == 200
    assert set(answer.json) == {"value", "expires_at", "session"}
    assert answer.json["expires_at"] == int(doors.clock.now) + 60
    assert doors.sessions.requests == []


async def test_v002_key_shape_and_no_two_alike(doors):
    first, second = await doors.key(), await doors.key()
    assert first != second
    assert first.startswith("ek_")
    assert len(first) - 3 >= 32


async def test_v003_a_key_is_good_for_one_call(doors):
    key = await doors.key()
    assert (await doors.call(key)).status == 201
    assert (await doors.call(key, offer="v=0\r\nanother")).refusal == (401, "invalid_api_key", None)
    assert len(doors.sessions.requests) == 1


async def test_v004_v007_expired_and_forged_keys_are_told_apart_by_nobody(doors):
    key = await doors.key()
    doors.clock.now += 60
    expired, forged = await doors.call(key), await doors.call("ek_0000")
    assert expired.refusal == (401, "invalid_api_key", None)
    assert expired.text == forged.text
    assert set(expired.headers) == set(forged.headers)
    assert doors.facts.failed == ["ephemeral_key", "ephemeral_key"]
    assert doors.sessions.requests == []


@pytest.mark.parametrize("path", MINT_DOORS)
@pytest.mark.parametrize("header", ["api-key", "Authorization"])
async def test_v005_only_our_own_credentials_count_at_the_mint(doors, path, header):
    azure = hashlib.md5(b"someone's resource key").hexdigest()
    value = azure if header == "api-key" else f"Bearer {azure}"
    assert (await doors.post(path, key=None, headers={header: value}, json={})).refusal == (
        401,
        "invalid_api_key",
        None,
    )
    assert doors.facts.failed == ["client_key"]


async def test_an_ephemeral_key_mints_nothing(doors):
    assert (await doors.mint(key=await doors.key())).status == 401


@pytest.mark.parametrize("path", MINT_DOORS)
async def test_client_keys_are_taken_from_either_header(doors, path, client_key):
    assert (await doors.post(path, key=None, headers={"api-key": client_key}, json={})).status == 200
    assert (await doors.post(path, headers={"Authorization": f"bearer  {client_key}"}, json={})).status == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Basic dXNlcjpwYXNz"},
        {"Authorization": "Bearer "},
        {"Authorization": "Bearer " + "x" * 600},
        {"api-key": ""},
        [("Authorization", "Bearer client-key-of-alice-0001"), ("Authorization", "Bearer x")],
    ],
)
async def test_absent_and_odd_credentials(doors, headers):
    answer = await doors.request("POST", "/v1/realtime/client_secrets", headers=headers, json={})
    assert answer.status == 401
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert doors.facts.failed == ["missing"]


async def test_v008_a_key_in_the_url_is_refused_even_beside_a_good_one(doors, client_key):
    urls = [f"{path}?api-key={client_key}" for path in (*MINT_DOORS, *SDP_DOORS, HANGUP)]
    urls += [f"{HANGUP}?{name}=x" for name in ("API_KEY", "access_token", "key", "token", "client_secret")]
    for url in urls:
        assert (await doors.post(url, json={})).refusal == (401, "invalid_api_key", None), url
    assert doors.facts.failed == ["query"] * len(urls)


async def test_failures_of_one_address_are_limited_and_forgiven_with_time(doors, client_key):
    for _ in range(20):
        assert (await doors.mint(key="wrong-key-of-somebody")).status == 401
    limited = await doors.mint(key="wrong-key-of-somebody")
    assert limited.refusal == (429, "rate_limit_exceeded", None)
    assert int(limited.headers["retry-after"]) == 3
    assert (await doors.mint(key=client_key)).status == 429
    doors.clock.now += 3
    assert (await doors.mint(key=client_key)).status == 200


async def test_a_page_that_fails_over_and_over_locks_no_good_ephemeral_key_out(doors):
    key = await doors.key()
    for _ in range(25):
        await doors.call("ek_0000")
    assert (await doors.call("ek_0000")).status == 429
    assert (await doors.call(key)).status == 201


@pytest.mark.parametrize("path", SDP_DOORS)
async def test_a_client_key_opens_calls_itself(doors, path, client_key):
    assert (await doors.call(client_key, path)).status == 201
    assert (await doors.call(client_key, path)).status == 201
    assert len(doors.sessions.requests) == 2


async def test_the_identical_offer_within_thirty_seconds_gets_the_same_answer(doors):
    key = await doors.key()
    first = await doors.call(key)
    doors.clock.now += 30
    again = await doors.call(key)
    assert (again.status, again.text, again.headers["Location"]) == (201, first.text, first.headers["Location"])
    doors.clock.now += 1
    assert (await doors.call(key)).status == 401
    assert len(doors.sessions.requests) == 1


@pytest.mark.parametrize("offer", ["the same", "v=0\r\nanother"])
async def test_a_concurrent_second_use_is_a_conflict_not_to_be_retried(doors, offer):
    key = await doors.key()
    doors.sessions.proceed.clear()
    first = asyncio.create_task(doors.call(key))
    await doors.sessions.entered.wait()
    options = {} if offer == "the same" else {"offer": offer}
    second = await doors.call(key, **options)
    assert second.refusal == (409, "key_in_use", None)
    assert second.headers["x-should-retry"] == "false"
    doors.sessions.proceed.set()
    assert (await first).status == 201
    assert len(doors.sessions.requests) == 1


async def test_a_refused_call_does_not_spend_the_key(doors, refuse):
    key = await doors.key()
    doors.sessions.refusal = refuse(429, ErrorCode.SERVICE_RATE_LIMITED, retry_after="7")
    refused = await doors.call(key)
    assert refused.refusal == (429, "service_rate_limited", None)
    assert refused.headers["retry-after"] == "7"
    doors.sessions.refusal = None
    assert (await doors.call(key)).status == 201


async def test_a_client_that_leaves_cancels_the_call_and_keeps_its_key(doors):
    key = await doors.key()
    doors.sessions.proceed.clear()
    leaving = asyncio.create_task(doors.call(key))
    await doors.sessions.entered.wait()
    leaving.cancel()
    await asyncio.wait_for(doors.sessions.cancelled.wait(), 5)
    doors.sessions.proceed.set()
    assert (await doors.call(key)).status == 201


async def test_v233_a_session_is_hung_up_with_the_key_that_opened_it_even_expired(doors):
    key = await doors.key()
    await doors.call(key)
    doors.clock.now += 3000
    answer = await doors.post(f"/openai{HANGUP}", key=key)
    assert (answer.status, answer.json) == (200, {})
    assert doors.sessions.live == {}
    assert (await doors.post(HANGUP, key=key)).status == 404


async def test_v233_the_client_key_behind_an_ephemeral_key_hangs_up_too(doors, client_key, other_client_key):
    await doors.call(await doors.key())
    assert (await doors.post(HANGUP, key=other_client_key)).status == 404
    assert (await doors.post(HANGUP, key=client_key)).status == 200


async def test_v234_another_ones_call_and_an_unknown_call_are_the_same(doors):
    mine, theirs, fresh = await doors.key(), await doors.key(), await doors.key()
    await doors.call(mine)
    await doors.call(theirs)
    foreign = await doors.post("/v1/realtime/calls/rs_2/hangup", key=mine)
    unknown = await doors.post("/v1/realtime/calls/rs_nothing/hangup", key=mine)
    assert foreign.refusal == unknown.refusal == (404, "not_found", None)
    assert foreign.text == unknown.text
    assert (await doors.post(HANGUP, key=fresh)).status == 404
    assert (await doors.post(HANGUP, key="ek_0000")).status == 401
    assert set(doors.sessions.live) == {"rs_1", "rs_2"}


@pytest.mark.parametrize("verb", ["accept", "reject", "refer"])
async def test_v235_telephone_verbs_are_not_there(doors, verb, client_key):
    await doors.call(client_key)
    assert (await doors.post(f"/v1/realtime/calls/rs_1/{verb}")).refusal == (404, "not_found", None)


async def test_an_ended_session_is_not_replayed(doors):
    key = await doors.key()
    await doors.call(key)
    doors.keys.forget("rs_1", doors.clock.now)
    assert (await doors.call(key)).status == 401
    assert (await doors.post("/v1/realtime/calls/rs_other/hangup", key=key)).status == 404
