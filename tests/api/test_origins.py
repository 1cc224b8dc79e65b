"""Preflights, origins and what a page may read (V045, V231)."""

from __future__ import annotations

import ipaddress

import pytest

from relay.api import DoorSettings

APP = "https://app.example.com"
FOREIGN = "https://evil.example"
DOOR = "/v1/realtime/calls"
DOORS = [
    "/openai/realtimeapi/sessions",
    "/openai/realtime/sessions",
    "/v1/realtimertc",
    "/v1/realtime/sessions",
    "/v1/realtime?model=x",
    "/openai/v1/realtime/client_secrets",
    "/openai/v1/realtime/calls?webrtcfilter=on",
    "/openai/v1/realtime/calls/rs_1/hangup",
    "/v1/realtime/client_secrets",
    "/v1/realtime/calls",
    "/v1/realtime/calls/rs_1/hangup",
]


def preflight(origin: str, headers: str = "authorization,content-type,x-openai-agents-sdk") -> dict[str, str]:
    return {"Origin": origin, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": headers}


async def test_v045_a_preflight_needs_no_credentials(doors):
    for path in DOORS:
        assert (await doors.request("OPTIONS", path, headers=preflight(APP))).status == 204, path
    answer = await doors.request("OPTIONS", DOOR, headers=preflight(APP))
    assert (answer.status, answer.body) == (204, b"")
    assert answer.headers["Access-Control-Allow-Origin"] == APP
    assert answer.headers["Access-Control-Allow-Methods"] == "POST"
    assert answer.headers["Access-Control-Allow-Headers"] == "authorization, content-type, x-openai-agents-sdk"
    assert answer.headers["Access-Control-Max-Age"] == "600"
    assert answer.headers["Vary"] == "Origin"
    assert "Access-Control-Allow-Private-Network" not in answer.headers
    assert "Access-Control-Allow-Credentials" not in answer.headers
    assert doors.facts.failed == []


async def test_v045_a_foreign_origin_gets_no_permission_and_does_nothing(doors, client_key):
    for method, headers in (
        ("OPTIONS", preflight(FOREIGN)),
        ("POST", {"Origin": FOREIGN, "api-key": client_key}),
        ("POST", {"Origin": "null", "api-key": client_key}),
        ("POST", {"Origin": APP.upper(), "api-key": client_key}),
        ("POST", {"Origin": f"{APP}:8443", "api-key": client_key}),
    ):
        answer = await doors.request(method, "/v1/realtime/client_secrets", headers=headers)
        assert answer.refusal == (403, "origin_not_allowed", None)
        assert not any(name.startswith("Access-Control") for name in answer.headers)
        assert answer.headers["Vary"] == "Origin"
    assert len(doors.keys) == 0


async def test_v045_a_page_can_read_the_location_and_the_refusals(doors):
    key = await doors.key(headers={"Origin": APP})
    good = await doors.call(key, headers={"Origin": APP})
    refused = await doors.call("ek_0000", headers={"Origin": APP})
    missing = await doors.post("/v1/nothing", headers={"Origin": APP})
    assert [good.status, refused.status, missing.status] == [201, 401, 404]
    for answer in (good, refused, missing):
        assert answer.headers["Access-Control-Allow-Origin"] == APP
        exposed = answer.headers["Access-Control-Expose-Headers"]
        assert exposed == "Location, X-Request-Id, apim-request-id, retry-after, retry-after-ms, x-should-retry"


async def test_a_relay_on_a_private_address_may_be_asked_for(doors):
    headers = {**preflight(APP), "Access-Control-Request-Private-Network": "true"}
    answer = await doors.request("OPTIONS", DOOR, headers=headers)
    assert answer.headers["Access-Control-Allow-Private-Network"] == "true"


@pytest.mark.parametrize(
    ("asked", "allowed"),
    [
        ("x-stainless-os, x-ms-client-request-id", "x-stainless-os, x-ms-client-request-id"),
        ("a b, <script>, ok, , x\tq", "ok"),
        ("x" * 65, None),
        (", ".join(f"x-{number}" for number in range(60)), ", ".join(f"x-{number}" for number in range(48))),
    ],
)
async def test_requested_headers_are_echoed_within_bounds(doors, asked, allowed):
    answer = await doors.request("OPTIONS", DOOR, headers=preflight(APP, asked))
    assert answer.headers.get("Access-Control-Allow-Headers") == allowed


async def test_programs_without_an_origin_need_no_permission(doors):
    assert (await doors.mint()).status == 200
    answer = await doors.request("OPTIONS", DOOR)
    assert answer.status == 204
    assert "Access-Control-Allow-Origin" not in answer.headers


async def test_the_relays_own_page_is_always_allowed(doors):
    own = f"http://127.0.0.1:{doors.port}"
    assert (await doors.mint(headers={"Origin": own})).headers["Access-Control-Allow-Origin"] == own
    assert (await doors.mint(headers={"Origin": own.replace("http:", "https:")})).status == 403
    assert (await doors.mint(headers={"Origin": "http://relay.example", "Host": "relay.example:80"})).status == 200


async def test_forwarded_headers_of_strangers_are_not_believed(doors):
    forwarded = {"X-Forwarded-Proto": "https", "Host": "relay.example", "Origin": "https://relay.example"}
    assert (await doors.mint(headers=forwarded)).status == 403
    for number in range(21):
        headers = {"X-Forwarded-For": f"203.0.113.{number}"}
        status = (await doors.mint(key="wrong-key-of-somebody", headers=headers)).status
    assert status == 429


async def test_v041_preflights_of_paths_that_are_no_doors(doors):
    assert (await doors.request("OPTIONS", "/v1/nothing", headers=preflight(APP))).status == 404
    assert (await doors.request("OPTIONS", "/", headers=preflight(APP))).status == 405


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "PATCH", "TRACE"])
async def test_doors_take_posts_only(doors, method, client_key):
    for path in DOORS:
        answer = await doors.request(method, path, headers={"api-key": client_key})
        assert (answer.status, answer.headers["Allow"]) == (405, "POST"), path
        if method != "HEAD":
            assert answer.error["code"] == "method_not_allowed"


class TestBehindATrustedProxy:
    @pytest.fixture
    def door_settings(self):
        return DoorSettings(trusted_proxies=(ipaddress.ip_network("127.0.0.0/8"),))

    async def test_its_scheme_counts(self, doors):
        forwarded = {"X-Forwarded-Proto": "https", "Host": "relay.example", "Origin": "https://relay.example"}
        assert (await doors.mint(headers=forwarded)).status == 200

    async def test_its_clients_are_told_apart(self, doors):
        for _ in range(21):
            limited = await doors.mint(key="wrong-key-of-somebody", headers={"X-Forwarded-For": "203.0.113.1"})
        other = await doors.mint(key="wrong-key-of-somebody", headers={"X-Forwarded-For": "203.0.113.1, 203.0.113.2"})
        assert (limited.status, other.status) == (429, 401)


class TestWithEveryOriginAllowed:
    @pytest.fixture
    def door_settings(self):
        return DoorSettings(allowed_origins=("*",))

    @pytest.mark.parametrize("origin", [FOREIGN, "null"])
    async def test_any_page_may_call(self, doors, origin):
        assert (await doors.mint(headers={"Origin": origin})).headers["Access-Control-Allow-Origin"] == origin
