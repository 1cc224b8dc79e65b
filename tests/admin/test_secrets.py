"""No secret and no instruction text anywhere that administrators and their pages look, nor in the log."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import logging

import aiohttp
import pytest
from structlog.testing import capture_logs
from support.administrators import ADMIN_KEY, CLAIMS, Office, admin_settings, oidc_settings, patient
from support.client import Client
from support.idp import IdentityProvider
from support.service import CLIENT_KEY, bench

from relay.core.access import Role

SERVICE_KEY = "simulator-resource-key"
INSTRUCTION_CANARY = "CANARY-7f3a"


@pytest.fixture
def printed():
    """What reaches the standard library's loggers."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    logging.getLogger().addHandler(handler)
    yield stream
    logging.getLogger().removeHandler(handler)


async def test_nothing_secret_is_told_to_anybody(printed, monkeypatch):
    patient(monkeypatch)
    told: dict[str, str] = {}
    with capture_logs() as lines:
        async with contextlib.AsyncExitStack() as stack:
            idp = await stack.enter_async_context(IdentityProvider())
            world = await stack.enter_async_context(bench(admin=admin_settings(), admin_oidc=oidc_settings(idp)))
            http = await stack.enter_async_context(aiohttp.ClientSession())
            office = Office(world.relay.operations_url, http, idp)
            client = await stack.enter_async_context(Client(world.url, CLIENT_KEY))
            await client.connect()
            await client.event("session.created")
            made = await office.key(Role.VIEWER, "made")
            rotated = (await office.ask("POST", f"/keys/{made['id']}/rotate", json={"overlap_seconds": 60})).json
            bad = office.bad_tokens()
            secrets = {
                ADMIN_KEY, CLIENT_KEY, SERVICE_KEY, INSTRUCTION_CANARY, made["key"], rotated["key"],
                client.minted["value"], *bad.values(),
            }  # fmt: skip
            tokens = {role: office.token(role) for role in Role}
            secrets |= set(tokens.values())
            [session] = (await office.ask("GET", "/sessions")).json["sessions"]
            document = (await office.ask("GET", "/openapi.json", None)).json
            shown = (None, ADMIN_KEY, tokens[Role.VIEWER], tokens[Role.OPERATOR], bad["expired"])
            for bearer in shown:
                for path, methods in document["paths"].items():
                    where = path.replace("{id}", session["id"])
                    for method in methods:
                        if path != "/sessions/stream" and method == "get":
                            told[f"{method} {path} {bearer}"] = await whole(office, method, where, bearer)
                        elif method != "get":
                            told[f"{method} {path} {bearer}"] = await whole(
                                office, method, where + "?unknown=1", bearer, json={"note": "x"}
                            )
            for page in ("/console/", "/console", "/metrics", "/readyz", "/livez", "/nothing"):
                async with http.get(office.url + page, allow_redirects=False) as response:
                    told[page] = await response.text() + json.dumps(dict(response.headers))
            async with http.get(f"{world.url}/console/") as response:
                assert response.status == 404
            await office.ask("POST", f"/sessions/{session['id']}/end", json={"note": "over"})
            async with asyncio.timeout(10):
                await client.closed.wait()
            told["audit"] = (await office.ask("GET", "/audit?limit=500")).text
    assert session["id"] in told["get /sessions " + tokens[Role.VIEWER]]
    told["log"] = json.dumps(lines, default=str)
    told["printed"] = printed.getvalue()
    assert "session_ended" in told["log"]
    for secret in secrets:
        assert not [where.partition(secret)[0] for where, text in told.items() if secret in text]
    assert CLAIMS[Role.OWNER] not in told["log"]


async def whole(office: Office, method: str, path: str, bearer: str | None, **options) -> str:
    answer = await office.ask(method, path, bearer, **options)
    return answer.text + json.dumps(dict(answer.headers))
