"""Section B of the policy vectors: mint bodies and their answers."""

from __future__ import annotations

import pytest

from relay.core.lifecycle import Dialect

PREVIEW = "/openai/realtimeapi/sessions"
GA = "/v1/realtime/client_secrets"
SECRET_WORDS = {"instructions", "prompt", "tracing", "truncation"}


def asked(doors):
    return doors.sessions.requests[-1]


async def test_v010_v020_the_answer_describes_a_session_without_the_policy(doors):
    answer = await doors.mint({"type": "realtime", "model": "gpt-realtime", "instructions": "Ignore Contoso."})
    session = answer.json["session"]
    assert (session["type"], session["object"], session["model"]) == ("realtime", "realtime.session", "gpt-realtime")
    assert session["id"].startswith("sess_")
    assert all(session.get(word) is None for word in SECRET_WORDS)
    assert "Ignore Contoso." not in answer.text


async def test_v010_what_was_asked_reaches_the_session_unjudged(doors):
    session = {"type": "realtime", "model": "gpt-realtime", "instructions": "Ignore Contoso."}
    await doors.call(await doors.key(session))
    assert asked(doors).client_session == session
    assert (asked(doors).model, asked(doors).dialect) == ("gpt-realtime", Dialect.GA)


@pytest.mark.parametrize("path", [PREVIEW, "/openai/realtime/sessions", "/v1/realtime/sessions"])
async def test_v011_v021_the_preview_answer(doors, path):
    body = {"model": "gpt-4o-mini-realtime-preview", "voice": "verse", "instructions": "x"}
    answer = await doors.post(f"{path}?api-version=2025-04-01-preview", json=body)
    assert answer.status == 200
    assert answer.json["id"].startswith("sess_")
    assert answer.json["object"] == "realtime.session"
    assert answer.json["model"] == "gpt-4o-mini-realtime-preview"
    assert not answer.json.get("instructions")
    assert "type" not in answer.json
    secret = answer.json["client_secret"]
    assert set(secret) == {"value", "expires_at"}
    assert secret["value"].startswith("ek_")
    await doors.call(secret["value"], "/v1/realtimertc?model=gpt-4o-mini-realtime-preview")
    assert (asked(doors).client_session, asked(doors).dialect) == (body, Dialect.PREVIEW)


@pytest.mark.parametrize("body", [b"", b"{}", b'{"session":null}', b'{"session":{"type":"realtime"}}'])
async def test_v017_without_a_model_any_is_served(doors, body):
    headers = {"Content-Type": "application/json"} if body else {}
    answer = await doors.post(GA, data=body, headers=headers)
    assert answer.status == 200
    assert isinstance(answer.json["session"]["model"], str)
    await doors.call(answer.json["value"])
    assert asked(doors).model == answer.json["session"]["model"]


async def test_v022_numbers_are_whole_seconds(doors):
    doors.clock.now += 0.9
    for path in (GA, PREVIEW):
        answer = (await doors.post(path, json={})).json
        expires_at = answer.get("expires_at") if path == GA else answer["client_secret"]["expires_at"]
        assert type(expires_at) is int
        assert expires_at <= doors.clock.now + 60


@pytest.mark.parametrize(
    ("expires_after", "seconds"),
    [
        ({"anchor": "created_at", "seconds": 7200}, 60),
        ({"anchor": "created_at", "seconds": 10}, 10),
        ({"seconds": 30}, 30),
        ({"anchor": "created_at"}, 60),
    ],
)
async def test_v023_a_key_lives_as_asked_within_the_limit(doors, expires_after, seconds):
    answer = await doors.post(GA, json={"expires_after": expires_after, "session": {"type": "realtime"}})
    assert answer.json["expires_at"] == int(doors.clock.now) + seconds
    doors.clock.now += seconds - 1
    assert (await doors.call(answer.json["value"])).status == 201


@pytest.mark.parametrize("seconds", [9, 7201, -1, "600", 1e9, None, True, 60.0, [60]])
async def test_v023_lives_that_are_none(doors, seconds):
    answer = await doors.post(GA, json={"expires_after": {"anchor": "created_at", "seconds": seconds}})
    assert answer.refusal == (400, "invalid_value", "expires_after.seconds")


@pytest.mark.parametrize("expires_after", [None, 60, [], {"anchor": "x", "seconds": 60}, {"anchor": None}])
async def test_v023_anchors_that_are_none(doors, expires_after):
    answer = await doors.post(GA, json={"expires_after": expires_after})
    assert answer.refusal == (400, "invalid_value", "expires_after.seconds")


@pytest.mark.parametrize("kind", ["transcription", "translation", None, 7])
async def test_v024_other_kinds_of_session_are_refused(doors, kind):
    assert (await doors.mint({"type": kind, "audio": {}})).refusal == (400, "invalid_value", "session.type")
    assert (await doors.post(PREVIEW, json={"type": kind})).refusal == (400, "invalid_value", "type")


async def test_v024_unknown_fields_are_not_shown(doors):
    answer = await doors.mint({"type": "realtime", "experimental": {"system": "x"}})
    assert answer.status == 200
    assert "experimental" not in answer.json["session"]


async def test_fields_of_a_wrong_type_are_refused_at_the_mint_already(doors):
    answer = await doors.mint({"type": "realtime", "instructions": ["x"]})
    assert answer.refusal == (400, "invalid_type", "session.instructions")
    assert len(doors.keys) == 0


@pytest.mark.parametrize(
    ("session", "refusal"),
    [
        ([], (400, "invalid_type", "session")),
        ("x", (400, "invalid_type", "session")),
        ({"model": 7}, (400, "invalid_type", "session.model")),
        ({"model": "m" * 129}, (400, "invalid_value", "session.model")),
        ({"model": "a\nb"}, (400, "invalid_value", "session.model")),
    ],
)
async def test_sessions_and_models_that_are_none(doors, session, refusal):
    assert (await doors.mint(session)).refusal == refusal


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b"null",
        b'{"session":{"type":"realtime"},"session":{}}',
        b'{"a":NaN}',
        b'{"a":1e999}',
        b"\xef\xbb\xbf{}",
        '{"a":"é"}'.encode("latin-1"),
        '{"a":1}'.encode("utf-16"),
        b'{"a":"\\ud800"}',
        b"[" * 60_000,
        b'{"a":' * 40 + b"1" + b"}" * 40,
    ],
)
async def test_bodies_that_are_not_one_strict_json_object(doors, body):
    answer = await doors.post(GA, data=body, headers={"Content-Type": "application/json"})
    assert answer.refusal == (400, "invalid_request", None)


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "application/jsonp", None])
async def test_v031_a_mint_body_is_json(doors, content_type):
    headers = {} if content_type is None else {"Content-Type": content_type}
    assert (await doors.post(GA, data=b"{}", headers=headers)).refusal == (415, "unsupported_media_type", None)


async def test_mint_bodies_in_other_charsets_or_compressed_are_refused(doors):
    for headers in ({"Content-Type": "application/json; charset=utf-16"}, {"Content-Encoding": "gzip"}):
        answer = await doors.post(GA, data=b"{}", headers={"Content-Type": "application/json", **headers})
        assert answer.status == 415


@pytest.mark.parametrize("chunked", [False, True])
async def test_v032_a_mint_body_is_bounded_before_it_is_parsed(doors, chunked):
    body = b'{"a":"' + b"x" * 65_536 + b'"}'
    answer = await doors.post(GA, data=body, chunked=chunked or None, headers={"Content-Type": "application/json"})
    assert answer.refusal == (413, "request_too_large", None)
    assert doors.facts.refused == [("ga_client_secrets", 413, "request_too_large")]


async def test_no_keys_are_minted_while_draining(doors):
    doors.sessions.draining = True
    answer = await doors.mint()
    assert answer.refusal == (503, "draining", None)
    assert answer.headers["retry-after"] == "5"


async def test_keys_are_bounded(doors, monkeypatch, other_client_key):
    monkeypatch.setattr(doors.keys, "_capacity", 2)
    await doors.key()
    # Half of what there is for one owner, and none for anybody once all is gone.
    assert (await doors.mint()).refusal == (429, "quota_exceeded", None)
    await doors.key(key=other_client_key)
    assert (await doors.mint()).refusal == (503, "at_capacity", None)


async def test_what_becomes_no_key_for_want_of_room_is_not_written_down(
    doors, monkeypatch, client_key, other_client_key
):
    """Else one caller who is refused at every turn would fill the decision log."""
    monkeypatch.setattr(doors.keys, "_capacity", 2)
    wish = {"type": "realtime", "instructions": "Ignore Contoso."}
    callers = (client_key, client_key, other_client_key, client_key)
    statuses = [(await doors.mint(wish, key=key)).status for key in callers]
    assert statuses == [200, 429, 200, 503]
    assert [decision[:2] for decision in doors.facts.decisions] == [("session.mint", "strip")] * 2


async def test_what_the_policy_refuses_is_written_down_also_where_there_is_no_room(doors, monkeypatch):
    monkeypatch.setattr(doors.keys, "_capacity", 0)
    assert (await doors.mint({"type": "realtime", "instructions": ["x"]})).status == 400
    assert [decision[:2] for decision in doors.facts.decisions] == [("session.mint", "refuse")]


@pytest.mark.parametrize("path", ["/v1/realtime/client_secrets", "/openai/realtimeapi/sessions"])
async def test_a_minted_key_is_told_with_the_session_it_will_open(doors, path):
    """The session is prepared under what finds it again: the request that the offer will make of the same key."""
    flat = {"model": "gpt-realtime", "voice": "verse"}
    nested = {"type": "realtime", "model": "gpt-realtime", "audio": {"output": {"voice": "verse"}}}
    answer = await doors.post(path, json={"session": nested} if "secrets" in path else flat)
    value = answer.json.get("value") or answer.json["client_secret"]["value"]
    [(prepared, seconds)] = doors.sessions.prepared
    assert (prepared.offer, seconds) == (None, 60)
    assert value not in repr(prepared)
    await doors.call(value, path="/v1/realtime/calls" if "secrets" in path else "/v1/realtimertc")
    [opened] = doors.sessions.requests
    asked = ("key_id", "owner", "dialect", "model", "model_asked", "client_session")
    assert [getattr(opened, name) for name in asked] == [getattr(prepared, name) for name in asked]


async def test_nothing_is_prepared_for_a_mint_that_is_refused(doors):
    assert (await doors.mint({"type": "transcription"})).status == 400
    assert (
        await doors.post("/v1/realtime/client_secrets", json={"session": {}}, key="nobody's key 0000")
    ).status == 401
    assert doors.sessions.prepared == []
