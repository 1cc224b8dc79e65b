"""The door that names the TURN servers, and the same in the headers of an SDP answer."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re

import pytest

from relay.api import DoorSettings
from relay.api.ice_servers import IceServers
from relay.config import Secret, TurnSettings
from relay.config_network import ice_server

APP = "https://app.example.com"
PATHS = ("/v1/realtime/ice_servers", "/openai/v1/realtime/ice_servers")
SECRET = "shared-secret-of-the-turn-server"
STUN = "stun:stun.example.com:3478"
TURN = ("turn:turn.example.com:3478?transport=udp", "turns:[2001:db8::7]:443?transport=tcp")
SERVERS = TurnSettings((ice_server(TURN[0]), ice_server(STUN), ice_server(TURN[1])), Secret(SECRET), 600)


@pytest.fixture
def turn() -> TurnSettings:
    return SERVERS


@pytest.fixture
def door_settings(turn) -> DoorSettings:
    return DoorSettings(allowed_origins=(APP,), turn=turn)


@pytest.fixture
def ask(doors):
    async def get(key, path=PATHS[0], **headers):
        credentials = {} if key is None else {"Authorization": f"Bearer {key}"}
        return await doors.request("GET", path, headers={**credentials, **headers})

    return get


def password_of(username: str) -> str:
    return base64.b64encode(hmac.new(SECRET.encode(), username.encode(), hashlib.sha1).digest()).decode()


@pytest.mark.parametrize("path", PATHS)
async def test_a_key_gets_servers_and_a_credential_that_expires(doors, ask, path):
    answer = await ask(await doors.key(), path)
    assert answer.status == 200, answer.text
    assert answer.headers["Cache-Control"] == "no-store"
    assert SECRET not in answer.text
    stun, turn = answer.json["ice_servers"]
    assert stun == {"urls": [STUN]}
    assert turn["urls"] == list(TURN)
    expires_at, _, tag = turn["username"].partition(":")
    assert int(expires_at) == answer.json["expires_at"] == int(doors.clock.now) + 600
    assert re.fullmatch(r"[0-9a-f]{16}", tag)
    assert turn["credential"] == password_of(turn["username"])
    assert turn["credential_type"] == "password"
    assert set(turn) == {"urls", "username", "credential", "credential_type"}
    assert answer.json["ice_transport_policy"] == "all"
    assert doors.facts.failed == doors.facts.refused == []


async def test_asking_leaves_the_key_usable_and_a_used_key_may_ask_again(doors, ask):
    key = await doors.key()
    before = (await ask(key)).json["ice_servers"][1]["username"]
    assert (await doors.call(key)).status == 201
    doors.clock.now += 300
    after = (await ask(key)).json["ice_servers"][1]["username"]
    # One tag for one key, so that the TURN server's quota for a user holds; the time moves on.
    assert before.partition(":")[2] == after.partition(":")[2]
    assert int(after.partition(":")[0]) - int(before.partition(":")[0]) == 300


async def test_the_tag_tells_nothing_of_the_principal(doors, ask, client_key):
    keys = [await doors.key() for _ in range(2)]
    answers = [await ask(key) for key in (*keys, client_key, client_key)]
    tags = [answer.json["ice_servers"][1]["username"].partition(":")[2] for answer in answers]
    assert len(set(tags)) == 4
    known = [hashlib.sha256(key.encode()).hexdigest() for key in (*keys, client_key)]
    assert not [tag for tag in tags for whole in (*keys, *known) if tag in whole]


async def test_a_client_key_in_either_header_is_enough(doors, ask, client_key):
    assert (await ask(client_key)).status == 200
    assert (await ask(None, **{"api-key": client_key})).status == 200


async def test_who_proves_nothing_gets_nothing_and_is_counted(doors, ask, client_key):
    assert (await ask(None)).refusal == (401, "invalid_api_key", None)
    assert (await ask("ek_" + "0" * 64)).refusal == (401, "invalid_api_key", None)
    assert (await ask("wrong-client-key-000")).refusal == (401, "invalid_api_key", None)
    query = await ask(client_key, f"{PATHS[0]}?api-key={client_key}")
    assert query.refusal == (401, "invalid_api_key", None)
    expired = await doors.key()
    doors.clock.now += 61
    assert (await ask(expired)).refusal == (401, "invalid_api_key", None)
    assert doors.facts.failed == ["missing", "ephemeral_key", "ephemeral_key", "query", "ephemeral_key"]
    assert doors.facts.refused == [("ice_servers", 401, "invalid_api_key")] * 5


async def test_guessing_is_slowed_down(ask, client_key):
    answers = [await ask(f"guess-number-{each:08}") for each in range(21)]
    assert [answer.status for answer in answers] == [401] * 20 + [429]
    assert (await ask(client_key)).status == 429


async def test_a_page_of_an_admitted_origin_may_read_it_and_another_may_not(doors, ask, client_key):
    admitted = await ask(client_key, Origin=APP)
    assert admitted.headers["Access-Control-Allow-Origin"] == APP
    assert admitted.headers["Vary"] == "Origin"
    refused = await ask(client_key, Origin="https://evil.example")
    assert refused.refusal == (403, "origin_not_allowed", None)
    asks = {"Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "authorization"}
    for path in PATHS:
        answer = await doors.request("OPTIONS", path, headers={"Origin": APP, **asks})
        assert (answer.status, answer.headers["Access-Control-Allow-Headers"]) == (204, "authorization")
        assert answer.headers["Access-Control-Allow-Methods"] == "GET"


@pytest.mark.parametrize("method", ["POST", "PUT", "HEAD", "DELETE"])
async def test_it_is_only_for_reading(doors, client_key, method):
    answer = await doors.request(method, PATHS[0], headers={"Authorization": f"Bearer {client_key}"})
    assert answer.status == 405
    assert doors.facts.refused == [("ice_servers", 405, "method_not_allowed")]


@pytest.mark.parametrize("turn", [TurnSettings()])
async def test_without_servers_the_list_is_empty(ask, doors, client_key, turn):
    answer = await ask(client_key)
    assert answer.json["ice_servers"] == []
    assert answer.json["ice_transport_policy"] == "all"
    assert answer.json["expires_at"] == int(doors.clock.now) + 3600
    assert "Link" not in (await doors.call(client_key)).headers


@pytest.mark.parametrize("turn", [TurnSettings((ice_server(STUN),))])
async def test_stun_alone_needs_no_secret_and_no_credential(ask, doors, client_key, turn):
    assert (await ask(client_key)).json["ice_servers"] == [{"urls": [STUN]}]
    answer = await doors.call(client_key)
    assert answer.headers.getall("Link") == [f'<{STUN}>; rel="ice-server"']


@pytest.mark.parametrize("turn", [TurnSettings(SERVERS.urls, SERVERS.secret, relay_only=True)])
async def test_the_policy_can_be_relay_only(ask, client_key, turn):
    assert (await ask(client_key)).json["ice_transport_policy"] == "relay"


@pytest.mark.parametrize("path", ["/v1/realtime/calls", "/openai/v1/realtime/calls", "/v1/realtime", "/v1/realtimertc"])
async def test_an_sdp_answer_links_the_same_servers(doors, ask, path):
    key = await doors.key()
    answer = await doors.call(key, path)
    assert answer.status == 201
    assert answer.headers["Location"].startswith("/v1/realtime/calls/rs_")
    turn = (await ask(key)).json["ice_servers"][1]
    proof = f'username="{turn["username"]}"; credential="{turn["credential"]}"; credential-type="password"'
    expected = [
        f'<{TURN[0]}>; rel="ice-server"; {proof}',
        f'<{STUN}>; rel="ice-server"',
        f'<{TURN[1]}>; rel="ice-server"; {proof}',
    ]
    assert answer.headers.getall("Link") == expected
    assert (await doors.call(key, path)).headers.getall("Link") == expected, "a repeated offer gets the same answer"


async def test_a_refused_offer_links_nothing(doors):
    answer = await doors.call("ek_" + "0" * 64)
    assert answer.status == 401
    assert "Link" not in answer.headers


def test_the_secret_is_in_no_representation():
    servers = IceServers(SERVERS)
    assert SECRET not in repr(servers) + json.dumps(servers.body(None, 0)) + str(servers.links(None, 0))


async def test_a_key_is_good_for_the_page_it_was_minted_for(doors, ask):
    key = await doors.key(headers={"Origin": APP})
    assert (await ask(key, Origin=APP)).status == 200
    own = f"http://127.0.0.1:{doors.port}"
    assert (await ask(key, Origin=own)).refusal == (401, "invalid_api_key", None)
