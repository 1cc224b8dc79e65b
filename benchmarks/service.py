"""A lean stand-in for the service: the GA doors and `session.created`, nothing that costs time while audio flows."""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import time
from collections.abc import AsyncIterator
from typing import Any

from aiohttp import web
from aiortc import RTCCertificate

from benchmarks.peer import HOST, Peer, Remote

_BASE = "/openai/v1/realtime"


class Service:
    """Answers mints and calls. The newest call's peer is in `calls`, under the id its `Location` shows.

    Each mint takes `mint_seconds`, each call `call_seconds`.
    """

    def __init__(self, certificate: RTCCertificate, mint_seconds: float = 0.0, call_seconds: float = 0.0) -> None:
        self.calls: dict[str, Peer] = {}
        self.url = ""
        self._certificate = certificate
        self._seconds = mint_seconds, call_seconds
        self._sessions: dict[str, dict[str, Any]] = {}
        self._connecting: set[asyncio.Task[None]] = set()

    @contextlib.asynccontextmanager
    async def served(self) -> AsyncIterator[Service]:
        """Listen on a free port until leaving."""
        app = web.Application()
        app.router.add_post(f"{_BASE}/client_secrets", self._mint)
        app.router.add_post(f"{_BASE}/calls", self._call)
        app.router.add_post(f"{_BASE}/calls/{{id}}/hangup", self._hang_up)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, HOST, 0).start()
        self.url = f"http://{HOST}:{runner.addresses[0][1]}"
        try:
            yield self
        finally:
            await runner.cleanup()
            for task in self._connecting:
                task.cancel()
            await asyncio.gather(*self._connecting, return_exceptions=True)
            for peer in self.calls.values():
                await peer.close()

    def newest(self) -> Peer:
        """The service's end of the last call."""
        return next(reversed(self.calls.values()))

    async def _mint(self, request: web.Request) -> web.Response:
        session = {**(await request.json())["session"], "object": "realtime.session", "id": "sess_bench"}
        key = f"ek_{secrets.token_hex(16)}"
        self._sessions[key] = session
        await asyncio.sleep(self._seconds[0])
        return web.json_response({"value": key, "expires_at": int(time.time()) + 600, "session": session})

    async def _call(self, request: web.Request) -> web.Response:
        session = self._sessions.pop(request.headers["Authorization"].removeprefix("Bearer "), None)
        if session is None:
            return web.json_response({"error": {"message": "unknown key"}}, status=401)
        remote = Remote.parse(await request.text())
        await asyncio.sleep(self._seconds[1])
        peer = Peer(self._certificate, controlling=False)
        call_id = f"rtc_{secrets.token_hex(16)}"
        self.calls[call_id] = peer
        answer = peer.answer(remote)
        task = asyncio.create_task(_speak(peer, remote, session))
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)
        headers = {"Location": f"/v1/realtime/calls/{call_id}"}
        return web.Response(text=answer, status=201, headers=headers)

    async def _hang_up(self, request: web.Request) -> web.Response:
        peer = self.calls.pop(request.match_info["id"], None)
        if peer is not None:
            await peer.close()
        return web.Response()


async def _speak(peer: Peer, remote: Remote, session: dict[str, Any]) -> None:
    """Connect, then tell the session in force, as the service does first of all."""
    await peer.connect(remote)
    await peer.opened.wait()
    created = {"type": "session.created", "event_id": f"event_{secrets.token_hex(10)}", "session": session}
    if peer.channel is not None:
        peer.channel.send(json.dumps(created))
