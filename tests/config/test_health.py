"""`relay health`: what a container's health command is told about the relay beside it."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace

import pytest
from support.service import bench

from relay.cli import main
from relay.config import AdminSettings
from relay.health import Probe
from relay.health import main as alone


async def asked(*words, run=main):
    first = ["health"] if run is main else []
    return await asyncio.to_thread(run, [*first, *words])


@contextlib.asynccontextmanager
async def answering(*answer: bytes):
    """A server on loopback that says this to whoever connects; its URL."""

    async def say(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.writelines(answer)
        writer.close()

    server = await asyncio.start_server(say, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


@pytest.mark.parametrize("run", [main, alone])
async def test_a_relay_in_service_is_alive_and_ready(run, capsys):
    async with bench() as there:
        for probe, told in ((Probe.ALIVE, "alive"), (Probe.READY, "ready")):
            assert await asked(probe, "--operations", there.relay.operations_url, run=run) == 0
            assert capsys.readouterr().out.endswith(f"{told}\n")


async def test_a_relay_that_drains_is_alive_and_not_ready(capsys):
    async with bench() as there:
        await there.relay.registry.drain(0)
        assert await asked("--operations", there.relay.operations_url) == 0
        assert capsys.readouterr().out.endswith("alive\n")
        assert await asked("readyz", "--operations", there.relay.operations_url) == 1
        assert "draining" in capsys.readouterr().out


async def test_it_asks_where_the_settings_put_the_operations_listener(monkeypatch, capsys):
    async with bench() as there:
        port = there.relay.operations_url.rsplit(":", 1)[1]
        monkeypatch.setenv("RELAY_ADMIN_PORT", port)
        monkeypatch.setenv("RELAY_ADMIN_HOST", "0.0.0.0")
        assert await asked() == 0


async def test_nobody_there_is_no(capsys):
    async with answering(b"") as url:
        pass
    assert await asked("--operations", url) == 1
    assert "no answer from 127.0.0.1" in capsys.readouterr().err


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 500 No\r\n\r\nsecret",
        b'HTTP/1.1 404 No\r\n\r\n["secret"]',
        b"HTTP/1.1 200 Fine\r\n\r\n<html>secret",
        b"secret",
    ],
)
async def test_another_server_s_words_are_not_repeated(answer, capsys):
    async with answering(answer) as url:
        code = await asked("--operations", url)
    shown = capsys.readouterr()
    assert "secret" not in shown.out + shown.err
    assert code == 1


@pytest.mark.parametrize("url", ["8081", "https://127.0.0.1:8081", "http://", "http://[::1", "http://h:99999"])
async def test_what_is_no_url_is_said(url, capsys):
    assert await asked("--operations", url) == 3
    assert "--operations" in capsys.readouterr().err


async def test_settings_that_cannot_be_read_are_said(monkeypatch, capsys):
    monkeypatch.setenv("RELAY_ADMIN_PORT", "none")
    assert await asked() == await asked(run=alone) == 3
    monkeypatch.setenv("RELAY_ADMIN_PORT", str(replace(AdminSettings(), port=0).port))
    assert await asked() == 3
    assert "--operations" in capsys.readouterr().err
