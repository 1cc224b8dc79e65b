"""Minting keys: who may, with what body, and what comes back."""

import time

import pytest

GA = "/openai/v1/realtime/client_secrets"
OPENAI = "/v1/realtime/client_secrets"
PREVIEW = "/openai/realtimeapi/sessions?api-version=2025-04-01-preview"
PREVIEW_TWIN = "/openai/realtime/sessions?api-version=2025-04-01-preview"
KEY = {"api-key": "simulator-resource-key"}
SESSION = {"type": "realtime", "model": "gpt-realtime"}


async def post(http, simulator, path, body, headers=KEY):
    async with http.post(simulator.url + path, json=body, headers=headers) as response:
        return response.status, await response.json(), response.headers


async def test_ga_mint_answers_with_the_effective_session_instructions_included(simulate, http):
    simulator = await simulate()
    session = {**SESSION, "instructions": "be brief", "audio": {"output": {"voice": "marin"}}}
    status, body, headers = await post(http, simulator, GA, {"session": session})
    assert status == 200
    assert list(body) == ["value", "expires_at", "session"]
    assert body["value"].startswith("ek_")
    assert abs(body["expires_at"] - time.time() - 7200) < 30
    assert body["session"]["instructions"] == "be brief"
    assert body["session"]["audio"]["output"]["voice"] == "marin"
    assert body["session"]["id"].startswith("sess_")
    assert body["session"]["expires_at"] == 0
    assert {"apim-request-id", "azureml-served-by-cluster", "openai-version"} <= set(headers)


async def test_without_instructions_the_default_text_applies(simulate, http):
    simulator = await simulate()
    _, body, _ = await post(http, simulator, GA, {"session": SESSION})
    assert len(body["session"]["instructions"]) > 20


async def test_openai_flavour_has_its_own_request_id(simulate, http):
    simulator = await simulate()
    status, _, headers = await post(http, simulator, OPENAI, {"session": SESSION})
    assert status == 200
    assert "x-request-id" in headers
    assert "apim-request-id" not in headers


@pytest.mark.parametrize("path", [PREVIEW, PREVIEW_TWIN])
async def test_preview_mint_is_flat_and_lives_a_minute(simulate, http, path):
    simulator = await simulate()
    status, body, _ = await post(http, simulator, path, {"model": "gpt-realtime", "voice": "verse"})
    assert status == 200
    assert body["voice"] == "verse"
    assert body["modalities"] == ["audio", "text"]
    assert "type" not in body
    assert abs(body["client_secret"]["expires_at"] - time.time() - 60) < 30


async def test_key_life_is_as_asked(simulate, http):
    simulator = await simulate()
    after = {"anchor": "created_at", "seconds": 10}
    _, body, _ = await post(http, simulator, GA, {"session": SESSION, "expires_after": after})
    assert abs(body["expires_at"] - time.time() - 10) < 8


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"api-key": "simulator-resource-key"}, 200),
        ({"authorization": "Bearer simulator-resource-key"}, 200),
        ({"authorization": "Bearer an-entra-token"}, 200),
        ({"api-key": "wrong"}, 401),
        ({}, 401),
    ],
)
async def test_credentials_at_mint(simulate, http, headers, status):
    simulator = await simulate(entra_token="an-entra-token")
    got, body, _ = await post(http, simulator, GA, {"session": SESSION}, headers)
    assert got == status
    if status == 401:
        assert set(body["error"]) == {"message", "type", "param", "code"}


@pytest.mark.parametrize(
    ("path", "body", "expected"),
    [
        (GA, {"session": {"model": "gpt-realtime"}}, (400, "missing_required_parameter", "session.type")),
        (GA, {"session": {"type": "realtime"}}, (400, "missing_required_parameter", "session.model")),
        (GA, {}, (400, "missing_required_parameter", "session")),
        (GA, {"session": {**SESSION, "voice": "verse"}}, (400, "unknown_parameter", "session.voice")),
        (GA, {"session": {**SESSION, "modalities": ["text"]}}, (400, "unknown_parameter", "session.modalities")),
        (GA, {"session": {**SESSION, "type": "transcription"}}, (400, "invalid_value", "session.type")),
        (GA, {"session": {**SESSION, "max_output_tokens": 9999}}, (400, "invalid_value", "session.max_output_tokens")),
        (
            GA,
            {"session": {**SESSION, "audio": {"input": {"x": 1}}}},
            (400, "unknown_parameter", "session.audio.input.x"),
        ),
        (GA, {"session": {**SESSION, "model": "no-such"}}, (404, "DeploymentNotFound", None)),
        (GA, {"session": SESSION, "expires_after": {"seconds": 5}}, (400, "invalid_value", "expires_after.seconds")),
        (GA + "?api-version=2025-04-01-preview", {"session": SESSION}, (401, "401", None)),
        ("/openai/realtimeapi/sessions", {"model": "gpt-realtime"}, (404, "404", None)),
        (PREVIEW, {"model": "gpt-realtime", "type": "realtime"}, (400, "unknown_parameter", "session.type")),
        (PREVIEW, {"model": "gpt-realtime", "audio": {}}, (400, "unknown_parameter", "audio")),
        (PREVIEW, {"model": "gpt-realtime", "modalities": ["audio"]}, (400, "invalid_value", "modalities")),
        (PREVIEW, {"voice": "verse"}, (400, "missing_required_parameter", "model")),
        (PREVIEW, {"model": "no-such"}, (404, "DeploymentNotFound", None)),
    ],
)
async def test_refused_bodies(simulate, http, path, body, expected):
    simulator = await simulate()
    got, answer, _ = await post(http, simulator, path, body)
    assert (got, answer["error"]["code"], answer["error"]["param"]) == expected
    assert simulator.state()["mints"][-1]["status"] == expected[0]
    assert simulator.state()["mints"][-1]["key"] is None


async def test_the_record_shows_what_arrived(simulate, http):
    simulator = await simulate()
    await post(http, simulator, GA + "?a=b", {"session": SESSION}, {**KEY, "X-Probe": "yes"})
    mint = simulator.state()["mints"][0]
    assert mint["surface"] == "azure-ga"
    assert mint["query"] == {"a": "b"}
    assert mint["headers"]["x-probe"] == "yes"
    assert mint["body"] == {"session": SESSION}
    assert mint["key"].startswith("ek_")


async def test_preflight_needs_no_credentials(simulate, http):
    simulator = await simulate()
    wanted = {"access-control-request-headers": "authorization,content-type", "origin": "https://app.example"}
    async with http.options(simulator.url + GA, headers=wanted) as response:
        assert response.status == 204
        assert response.headers["access-control-allow-headers"] == "authorization,content-type"


async def test_unknown_paths_have_the_error_shape(simulate, http):
    simulator = await simulate()
    async with http.get(simulator.url + "/nowhere") as response:
        assert response.status == 404
        assert (await response.json())["error"]["code"] == "404"
