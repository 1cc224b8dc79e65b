"""What all answers have in common, the talk page, and the probes."""

from __future__ import annotations

import asyncio

import pytest

from relay.api import DoorSettings, load_pages, web_directory
from relay.api.pages import CONTENT_POLICY, console_policy
from relay.errors import ConfigError


async def test_v231_every_answer_has_an_id_of_our_own_and_says_little(doors, client_key):
    answers = [
        await doors.mint(headers={"X-Request-Id": "chosen-by-the-client"}),
        await doors.call("ek_0000"),
        await doors.request("GET", "/"),
        await doors.request("GET", "/nothing"),
        await doors.request("GET", "/livez"),
        await doors.request("OPTIONS", "/v1/realtime/calls"),
    ]
    ids = {answer.headers["X-Request-Id"] for answer in answers}
    assert len(ids) == len(answers)
    assert all(each.startswith("req_") for each in ids)
    for answer in answers:
        assert answer.headers["Server"] == "relay"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Referrer-Policy"] == "no-referrer"
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
        assert answer.headers["Cache-Control"] == "no-store"


async def test_what_is_not_there_is_said_in_the_one_error_shape_and_counted_at_doors_only(doors):
    assert (await doors.request("GET", "/wp-admin")).refusal == (404, "not_found", None)
    assert doors.facts.refused == []
    assert (await doors.post("/v1/wrong")).refusal == (404, "not_found", None)
    assert doors.facts.refused == [("other", 404, "not_found")]


async def test_a_body_that_stops_coming_is_given_up(doors):
    key = await doors.key()
    reader, writer = await asyncio.open_connection("127.0.0.1", doors.port)
    writer.write(
        b"POST /v1/realtime/calls HTTP/1.1\r\nHost: x\r\nContent-Type: application/sdp\r\n"
        b"Authorization: Bearer " + key.encode() + b"\r\nContent-Length: 600\r\n\r\nv=0\r\n"
    )
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
    assert head.startswith(b"HTTP/1.1 408")
    assert b"request_timeout" in await asyncio.wait_for(reader.readuntil(b"}}"), 5)
    writer.close()
    assert (await doors.call(key)).status == 201


async def test_a_body_cut_short_opens_nothing(doors):
    key = await doors.key()
    _, writer = await asyncio.open_connection("127.0.0.1", doors.port)
    writer.write(
        b"POST /v1/realtime/calls HTTP/1.1\r\nHost: x\r\nContent-Type: application/sdp\r\n"
        b"Authorization: Bearer " + key.encode() + b"\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nv=0\r\n\r\nzz\r\n"
    )
    await writer.drain()
    writer.close()
    assert (await doors.call(key)).status == 201
    assert len(doors.sessions.requests) == 1


@pytest.fixture
def door_settings():
    return DoorSettings(body_seconds=0.2)


@pytest.mark.parametrize(
    ("path", "media_type"),
    [
        ("/", "text/html; charset=utf-8"),
        ("/index.html", "text/html; charset=utf-8"),
        ("/app.js", "text/javascript; charset=utf-8"),
        ("/parts/meter.js", "text/javascript; charset=utf-8"),
    ],
)
async def test_pages_are_served_under_a_strict_policy(doors, path, media_type):
    answer = await doors.request("GET", path)
    assert (answer.status, answer.headers["Content-Type"]) == (200, media_type)
    policy = answer.headers["Content-Security-Policy"].split("; ")
    assert {"default-src 'none'", "script-src 'self'", "frame-ancestors 'none'", "base-uri 'none'"} <= set(policy)
    assert "unsafe" not in answer.headers["Content-Security-Policy"]
    head = await doors.request("HEAD", path)
    assert (head.status, head.body) == (200, b"")


async def test_the_talk_pages_policy_is_as_it_was_and_the_console_is_not_on_its_listener(doors):
    for path in ("/", "/app.js"):
        assert (await doors.request("GET", path)).headers["Content-Security-Policy"] == CONTENT_POLICY
    for path in ("/console", "/console/", "/console/index.html", "/console/app.js"):
        assert (await doors.request("GET", path)).status == 404
    assert not any("console" in path for path in load_pages(web_directory()))


@pytest.mark.parametrize(
    ("endpoint", "allowed"),
    [
        (None, "'self'"),
        ("https://login.example/tenant/oauth2/token?x=1", "'self' https://login.example"),
        ("http://127.0.0.1:8443/token", "'self' http://127.0.0.1:8443"),
        ("https://[2001:db8::1]:8443/token", "'self' https://[2001:db8::1]:8443"),
        ("https://*/token", "'self'"),
        ("https://x.example; script-src */token", "'self'"),
        ("https://user:word@login.example/token", "'self'"),
        ("https://login.example 'unsafe-inline'/token", "'self'"),
        ("data:text/plain,x", "'self'"),
        ("https://[/token", "'self'"),
    ],
)
async def test_the_console_may_speak_to_the_relay_and_to_the_token_endpoint_of_its_provider(endpoint, allowed):
    async def sign_in():
        return None if endpoint is None else {"token_endpoint": endpoint}

    assert await console_policy(sign_in)() == (
        f"default-src 'none'; script-src 'self'; style-src 'self'; connect-src {allowed}; img-src 'self' data:; "
        "base-uri 'none'; frame-ancestors 'none'; form-action 'none'; require-trusted-types-for 'script'; "
        "trusted-types 'none'"
    )


async def test_assets_are_revalidated_and_html_is_not_stored(doors):
    first = await doors.request("GET", "/app.js")
    assert first.headers["Cache-Control"] == "no-cache"
    again = await doors.request("GET", "/app.js", headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status, again.body) == (304, b"")
    changed = await doors.request("GET", "/app.js", headers={"If-None-Match": '"another"'})
    assert (changed.status, changed.body) == (200, first.body)
    html = await doors.request("GET", "/")
    assert html.headers["Cache-Control"] == "no-store"
    assert "ETag" not in html.headers


@pytest.mark.parametrize(
    "path",
    ["/README.md", "/../secret.js", "/%2e%2e/secret.js", "/parts/..%2f..%2fsecret.js", "/parts/", "/parts", "//app.js"],
)
async def test_nothing_but_the_listed_pages_is_served(doors, path):
    assert (await doors.request("GET", path)).status == 404


def test_the_projects_own_page_is_found():
    pages = load_pages(web_directory())
    assert pages["/"] is pages["/index.html"]
    assert b"<html" in pages["/"].content
    assert not any(path.endswith(".md") for path in pages)


def test_a_missing_or_monstrous_page_is_a_clear_error(tmp_path):
    with pytest.raises(ConfigError, match=r"no index\.html"):
        load_pages(tmp_path)
    (tmp_path / "index.html").write_bytes(b"x" * 4_194_305)
    with pytest.raises(ConfigError, match="larger"):
        load_pages(tmp_path)


async def test_probes_on_the_public_listener_name_checks_only(doors):
    assert (await doors.request("GET", "/livez")).json == {"status": "alive"}
    assert (await doors.request("GET", "/readyz")).json == {"status": "ready"}
    doors.sessions.reasons = {"service": "401 from the resource"}
    doors.sessions.draining = True
    answer = await doors.request("GET", "/readyz")
    assert (answer.status, answer.json) == (503, {"status": "not ready", "reasons": ["draining", "service"]})
    assert (await doors.request("GET", "/livez")).status == 200


async def test_probes_on_the_operations_listener_give_reasons(operations, sessions):
    ready = await operations.request("GET", "/readyz")
    assert (ready.status, ready.json["details"]) == (200, {"media_addresses": ["192.0.2.1 udp 8443 tcp 8443"]})
    sessions.reasons = {"capacity": "500 of 500 sessions"}
    answer = await operations.request("GET", "/readyz")
    assert (answer.status, answer.json["reasons"]) == (503, {"capacity": "500 of 500 sessions"})
    sessions.draining = True
    assert set((await operations.request("GET", "/readyz")).json["reasons"]) == {"capacity", "draining"}
    assert (await operations.request("GET", "/livez")).status == 200


async def test_metrics_are_on_the_operations_listener_alone(doors, operations):
    answer = await operations.request("GET", "/metrics")
    assert (answer.status, answer.text) == (200, "relay_ready 1\n")
    assert answer.headers["Content-Type"] == "text/plain; version=0.0.4"
    assert (await doors.request("GET", "/metrics")).status == 404


async def test_the_operations_listener_has_no_doors_and_no_pages(operations, client_key):
    for path in ("/", "/v1/realtime/client_secrets", "/v1/realtime/calls"):
        assert (await operations.post(path, key=client_key)).refusal == (404, "not_found", None)
    assert (await operations.post("/metrics")).refusal == (405, "method_not_allowed", None)
