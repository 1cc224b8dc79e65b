"""Callers: a browser-like client each, in a session through the relay's doors."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
from support.client import Client

from operations.programs import CLIENT_KEY, DEPLOYMENT, Deployment

ANSWER_SECONDS = 15.0
_SYSTEM_ITEM = {"type": "message", "role": "system", "content": [{"type": "input_text", "text": "New rules."}]}


@contextlib.asynccontextmanager
async def caller(deployment: Deployment) -> AsyncIterator[Client]:
    """Somebody with a browser; nothing is asked of the relay yet."""
    async with Client(deployment.url, CLIENT_KEY) as client:
        await client.http.close()
        # The relay's certificate is its own.
        client.http = aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=False))
        yield client


@contextlib.asynccontextmanager
async def talking(deployment: Deployment, model: str = DEPLOYMENT) -> AsyncIterator[Client]:
    """Somebody in a session that is up."""
    async with caller(deployment) as client:
        await client.connect({"model": model, "audio": {"input": {"transcription": {"model": "whisper-1"}}}})
        await client.event("session.created", ANSWER_SECONDS)
        yield client


async def refused(deployment: Deployment, status: int) -> None:
    """Somebody whose session the service refuses."""
    async with caller(deployment) as client:
        got, answer = await client.post_offer(await client.offer(), await client.mint())
        assert got == status, answer


async def never_connects(deployment: Deployment) -> None:
    """Somebody whose browser gets an answer and cannot reach the address in it: blocked UDP, seen from the relay."""
    async with caller(deployment) as client:
        status, answer = await client.post_offer(await client.offer(), await client.mint())
        assert status == 201, answer


async def unreached(deployment: Deployment) -> None:
    """Somebody in a session that never comes up on the service's side."""
    async with caller(deployment) as client:
        status, answer = await client.post_offer(await client.offer(), await client.mint())
        assert status == 201, answer
        await client.accept(answer)
        await client.until(lambda: client.closed.is_set() or _error(client, "service_unreachable"), ANSWER_SECONDS)


async def speaks(client: Client) -> None:
    """Say something, hear the answer begin, talk over it, hear the next one end; ask for a written one too."""
    await _said(client, lambda: _count(client, "output_audio_buffer.started") > 0)
    # Over the answer: it is cut short.
    await _said(client, lambda: _count(client, "response.done") > 1)
    item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Write."}]}
    client.send({"type": "conversation.item.create", "item": item})
    done = _count(client, "response.done")
    client.send({"type": "response.create", "response": {"output_modalities": ["text"]}})
    await client.until(lambda: _count(client, "response.done") > done, ANSWER_SECONDS)


async def slips_instructions(client: Client, times: int) -> None:
    """Send events that the policy refuses, and hear of each."""
    before = _count(client, "error")
    for _ in range(times):
        client.send({"type": "conversation.item.create", "item": _SYSTEM_ITEM})
    await client.until(lambda: client.closed.is_set() or _count(client, "error") >= before + times, ANSWER_SECONDS)


def slips_unhindered(client: Client) -> None:
    """Send an event that a policy in force would refuse, where it only watches. What comes of it is hidden."""
    client.send({"type": "conversation.item.create", "item": _SYSTEM_ITEM})


async def reports(client: Client) -> int:
    """Send what a browser's getStats says. Returns the door's status."""
    figures = {"rtt_seconds": 0.02, "jitter_seconds": 0.004, "buffer_seconds": 0.06, "loss_in": 0.0, "loss_out": 0.0,
               "concealed": 0.01}  # fmt: skip
    headers = {"Authorization": f"Bearer {client.minted['value']}"}
    async with client.http.post(f"{client.base}{client.location}/stats", headers=headers, json=figures) as response:
        return response.status


async def looks_at_the_admin_api(deployment: Deployment) -> None:
    """Ask for what anybody may read there."""
    async with deployment.http.get(f"{deployment.operations_url}/admin/v1/openapi.json") as response:
        assert response.status == 200


async def guesses_keys(deployment: Deployment, times: int) -> None:
    """Try keys that are none."""
    for number in range(times):
        async with deployment.http.post(
            f"{deployment.url}/openai/v1/realtime/client_secrets",
            headers={"api-key": f"a-guess-that-is-wrong-{number}"},
            json={"session": {"type": "realtime", "model": DEPLOYMENT}},
        ) as response:
            assert response.status in {401, 429}


async def asks_without_policy(deployment: Deployment) -> None:
    """Ask for a model that no policy is for."""
    async with deployment.http.post(
        f"{deployment.url}/openai/v1/realtime/client_secrets",
        headers={"api-key": CLIENT_KEY},
        json={"session": {"type": "realtime", "model": "nobodys"}},
    ) as response:
        assert response.status == 403, await response.text()


async def _said(client: Client, wanted: Any) -> None:
    """Buzz until the service hears speech, be silent until `wanted`."""
    heard = _count(client, "input_audio_buffer.speech_started")
    client.microphone.level = 1.0
    await client.until(lambda: _count(client, "input_audio_buffer.speech_started") > heard, ANSWER_SECONDS)
    await client.until(lambda: len(client.levels) > 50, ANSWER_SECONDS)
    client.microphone.level = 0.0
    await client.until(wanted, ANSWER_SECONDS)


def _count(client: Client, kind: str) -> int:
    return sum(event["type"] == kind for event in client.events)


def _error(client: Client, code: str) -> bool:
    return any(event["type"] == "error" and event["error"]["code"] == code for event in client.events)


async def together(*work: Any) -> None:
    """Do several things at one time; the first that fails is told."""
    async with asyncio.TaskGroup() as group:
        for each in work:
            group.create_task(each)
