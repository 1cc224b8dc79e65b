"""The description holds: a machine that knows nothing but it asks whatever it allows, and whatever it does not."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator
from support.administrators import ADMIN_KEY, TENANT, office, patient

from relay.core.access import Role

# Draining cannot be taken back, and the stream has no end.
_LEFT_OUT = ("/drain", "/sessions/stream")
_EXAMPLES = 5
# Not that all that fits is taken: no schema can say that a cursor must be one that was given, or a time to come.
_CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,"
    "response_schema_conformance,negative_data_rejection,unsupported_method,"
    "use_after_free,ignored_auth"
)


@pytest.mark.contract
async def test_whatever_is_asked_the_answer_is_as_described(monkeypatch):
    patient(monkeypatch)
    async with office() as (asked, relay):
        await asked.key(Role.VIEWER, "something to be found", TENANT)
        options = [
            "--header", f"Authorization: Bearer {ADMIN_KEY}", "--checks", _CHECKS, "--max-examples", str(_EXAMPLES),
            "--phases", "coverage,fuzzing", "--seed", "7", "--no-color", "--suppress-health-check", "all",
            *(part for path in _LEFT_OUT for part in ("--exclude-path", path)),
        ]  # fmt: skip
        program = Path(sys.executable).with_name("schemathesis")
        process = await asyncio.create_subprocess_exec(
            program, "run", f"{asked.url}/admin/v1/openapi.json", *options,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        told, _ = await process.communicate()
        assert process.returncode == 0, told.decode()
        assert not relay.registry.draining
        assert (await asked.ask("GET", "/audit/verify")).json["ok"] is True


async def test_the_description_is_sound_and_says_nothing_of_this_relay():
    async with office() as (asked, _relay):
        answer = await asked.ask("GET", "/openapi.json", None)
    document = answer.json
    assert document["openapi"] == "3.1.0"
    names = [told["operationId"] for methods in document["paths"].values() for told in methods.values()]
    assert len(names) == len(set(names))
    for methods in document["paths"].values():
        for told in methods.values():
            assert told["summary"]
            for shape in _schemas(told):
                Draft202012Validator.check_schema(shape)
    assert ADMIN_KEY not in answer.text
    assert "example" not in json.dumps(document)


def _schemas(told):
    yield from (each["schema"] for each in told["parameters"])
    for part in [told.get("requestBody", {}), *told["responses"].values()]:
        yield from (media["schema"] for media in part.get("content", {}).values())


@pytest.mark.parametrize(
    ("method", "path", "options", "status", "param"),
    [
        ("GET", "/sessions/recorded?limit=0", {}, 400, "limit"),
        ("GET", "/sessions/recorded?limit=1&limit=2", {}, 400, "limit"),
        ("GET", "/sessions/recorded?since=now", {}, 400, "since"),
        ("GET", "/sessions/recorded?before=nonsense", {}, 400, None),
        ("GET", "/usage?since=2026-02-31", {}, 400, "since"),
        ("GET", "/usage?by=hour", {}, 400, "by"),
        ("GET", "/audit?tenant=%00", {}, 400, "tenant"),
        ("PUT", "/kill-switch", {"data": b"{}", "headers": {"Content-Type": "text/plain"}}, 415, None),
        ("PUT", "/kill-switch", {"data": b'{"everybody":true,"everybody":false}'}, 400, None),
        ("PUT", "/kill-switch", {"json": {"everybody": True}}, 400, ""),
        ("PUT", "/kill-switch", {"json": {"everybody": True, "tenants": [], "policies": [], "x": 1}}, 400, "x"),
        ("PUT", "/kill-switch", {"json": {"everybody": 1, "tenants": [], "policies": []}}, 400, "everybody"),
        ("PUT", "/kill-switch", {"data": b" " * 70_000}, 413, None),
        ("POST", "/keys", {"json": {"kind": "tenant", "name": "a"}}, 400, "tenant"),
        ("POST", "/keys", {"json": {"kind": "admin", "name": "a"}}, 400, "role"),
        ("POST", "/keys", {"json": {"kind": "admin", "name": "a\nb", "role": "viewer"}}, 400, "name"),
        (
            "POST",
            "/keys",
            {"json": {"kind": "admin", "name": "a", "role": "viewer", "expires_at": 1}},
            400,
            "expires_at",
        ),
        ("PATCH", "/keys", {}, 405, None),
    ],
)
async def test_what_does_not_fit_is_refused_and_named(whole_office, method, path, options, status, param):
    if "data" in options:
        options = {**options, "headers": {"Content-Type": "application/json", **options.get("headers", {})}}
    answer = await whole_office.ask(method, path, **options)
    assert answer.status == status, answer.text
    assert answer.json["error"]["param"] == param
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["X-Request-Id"].startswith("req_")


@pytest.fixture
async def whole_office():
    async with office() as (asked, _relay):
        yield asked


async def test_a_file_that_is_taken_away_is_checked_like_one_that_is_changed(whole_office):
    for path in ("check", "dry-run"):
        answer = await whole_office.ask("POST", f"/policies/{path}", json={"files": {"no-such.yaml": None}})
        assert answer.status < 500, answer.text
        answer = await whole_office.ask("POST", f"/policies/{path}", json={"files": {"a.yaml": {}}})
        assert (answer.status, answer.json["error"]["param"]) == (400, "files[a.yaml]")
