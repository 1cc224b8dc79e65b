"""What the doors answer under policy documents: models, identities, keys of others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.client import Client
from support.policies import document, put
from support.service import CLIENT_KEY, DEPLOYMENT, TRANSCRIPTION, bench
from support.sessions import no_secret_in

from relay.config import ClientSettings, DecisionLogSettings, HttpSettings, PolicySettings, Secret

BOB_KEY = "client-key-of-bob-00002"
GRANTED = {
    "default": DEPLOYMENT,
    "models": {"gpt-realtime": DEPLOYMENT, "gpt-4o-mini-realtime-preview": DEPLOYMENT},
    "unknown": "refuse",
    "transcription": {"default": TRANSCRIPTION},
}
DESK, OTHER = "https://desk.example", "https://other.example"


def sections(tmp_path: Path, **documents: str) -> dict[str, Any]:
    return {
        "policy": PolicySettings(documents=str(put(tmp_path / "policies", **documents))),
        "clients": ClientSettings(keys=(Secret(CLIENT_KEY), Secret(BOB_KEY))),
        "http": HttpSettings(host="127.0.0.1", port=0, allowed_origins=(DESK, OTHER)),
        "decision_log": DecisionLogSettings(directory=str(tmp_path / "log")),
    }


async def post(client: Client, path: str, *, key: str = CLIENT_KEY, **options: Any) -> tuple[int, Any]:
    headers = {"Authorization": f"Bearer {key}", **options.pop("headers", {})}
    async with client.http.post(client.base + path, headers=headers, **options) as response:
        text = await response.text()
        no_secret_in(text.replace("rtc_", "") if response.status == 201 else text, repr(dict(response.headers)))
        return response.status, json.loads(text) if text.startswith("{") else text


async def minted(client: Client, **options: Any) -> tuple[int, Any]:
    return await post(client, "/openai/v1/realtime/client_secrets", **options)


@pytest.mark.parametrize("model", ["gpt-realtime-2.1", DEPLOYMENT, "contoso-rt-secret"])
async def test_v016_v033_v034_a_model_not_granted_is_one_that_does_not_exist_at_every_door(tmp_path, model):
    async with (
        bench(**sections(tmp_path, base=document(upstream=GRANTED))) as world,
        Client(world.url, CLIENT_KEY) as client,
    ):
        answers = [
            await minted(client, json={"session": {"type": "realtime", "model": model}}),
            await post(client, "/openai/realtimeapi/sessions", json={"model": model}),
            await post(client, f"/v1/realtimertc?model={model}", data=await client.offer(),
                       headers={"Content-Type": "application/sdp"}),
        ]  # fmt: skip
        for status, body in answers:
            assert (status, body["error"]["code"]) == (404, "DeploymentNotFound")
        assert answers[0][1] == answers[1][1] == answers[2][1]
        assert world.simulator.state()["sessions"] == []


async def test_v017_v033_no_model_gets_the_default_and_the_model_of_a_key_wins(tmp_path):
    async with (
        bench(**sections(tmp_path, base=document(upstream=GRANTED))) as world,
        Client(world.url, CLIENT_KEY) as client,
    ):
        for body in ({"session": {"type": "realtime"}}, {}):
            assert (await minted(client, json=body))[0] == 200
        status, key = await minted(client, json={"session": {"type": "realtime", "model": "gpt-realtime"}})
        assert status == 200
        status, answer = await post(
            client, "/v1/realtimertc?model=contoso-rt-secret", key=key["value"], data=await client.offer(),
            headers={"Content-Type": "application/sdp"},
        )  # fmt: skip
        assert status == 201, answer


async def test_a_session_without_a_policy_is_refused_at_every_door(tmp_path):
    nobody = document(match={"tenants": ["sales"]})
    async with bench(**sections(tmp_path, base=nobody)) as world, Client(world.url, CLIENT_KEY) as client:
        status, body = await minted(client, json={})
        assert (status, body["error"]["code"]) == (403, "policy_violation")
        status, body = await post(client, "/openai/v1/realtime/calls", data=await client.offer(),
                                  headers={"Content-Type": "application/sdp"})  # fmt: skip
        assert (status, body["error"]["code"]) == (403, "policy_violation")
        assert world.simulator.state()["sessions"] == []


async def test_the_page_decides_under_which_policy_a_key_of_a_backend_is_used(tmp_path):
    desk = document("desk", match={"origins": [DESK]}, upstream=GRANTED)
    async with bench(**sections(tmp_path, desk=desk)) as world, Client(world.url, CLIENT_KEY) as client:
        status, key = await minted(client, json={})
        assert status == 200
        offer = await client.offer()
        for origin, expected in ((OTHER, 403), (DESK, 201)):
            status, body = await post(client, "/openai/v1/realtime/calls", key=key["value"], data=offer,
                                      headers={"Content-Type": "application/sdp", "Origin": origin})  # fmt: skip
            assert status == expected, body


async def test_v006_a_key_is_of_no_use_to_another_page_or_another_user(tmp_path):
    async with bench(**sections(tmp_path, base=document())) as world, Client(world.url, CLIENT_KEY) as client:
        _, key = await minted(client, json={}, headers={"Origin": DESK})
        offer, sdp = await client.offer(), {"Content-Type": "application/sdp"}
        calls = "/openai/v1/realtime/calls"
        for stolen in ({"Origin": OTHER}, {"Origin": DESK, "api-key": BOB_KEY}, {"api-key": BOB_KEY}):
            status, body = await post(client, calls, key=key["value"], data=offer, headers={**sdp, **stolen})
            assert (status, body["error"]["code"]) == (401, "invalid_api_key"), stolen
        # The thief did not spend it.
        own = {"Origin": DESK, "api-key": CLIENT_KEY}
        status, body = await post(client, calls, key=key["value"], data=offer, headers={**sdp, **own})
        assert status == 201, body


async def test_what_a_mint_asks_for_and_may_not_have_is_written_down(tmp_path):
    async with bench(**sections(tmp_path, base=document())) as world, Client(world.url, CLIENT_KEY) as client:
        await client.connect({"instructions": "Ignore Contoso."})
        await client.event("session.created")
    lines = [json.loads(text) for path in (tmp_path / "log").iterdir() for text in path.read_text().splitlines()]
    at_mint, at_call = [line for line in lines if line.get("event_type") == "session.mint"]
    for found in (at_mint, at_call):
        assert (found["policy"], found["rule"], found["verdict"]) == ("base", "session.instructions", "strip")
        assert len(found["content_sha256"]) == 64
    assert (at_mint["session"], bool(at_call["session"])) == ("", True)


async def test_a_configuration_refused_at_minting_is_written_down(tmp_path):
    closed = document(session={"default": "refuse"})
    async with bench(**sections(tmp_path, base=closed)) as world, Client(world.url, CLIENT_KEY) as client:
        wish = {"session": {"type": "realtime", "audio": {"output": {"voice": "cedar"}}}}
        status, _ = await minted(client, json=wish)
        assert status == 400
    lines = [json.loads(text) for path in (tmp_path / "log").iterdir() for text in path.read_text().splitlines()]
    (found,) = [line for line in lines if line.get("event_type") == "session.mint"]
    assert (found["rule"], found["verdict"], found["session"]) == ("session.fields", "refuse", "")
    assert found["subject_hash"]
