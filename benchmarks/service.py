"""A lean stand-in for the service: its doors and `session.created`, nothing that costs time while audio flows."""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import time
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
from aiohttp import web
from aiortc import RTCCertificate

from benchmarks.peer import HOST, Peer, Remote
from benchmarks.voice import FRAME_SECONDS, spoken_cycle
from benchmarks.wire import Wire

GA_DOOR = "/openai/v1/realtime"
PREVIEW_MINT, PREVIEW_CALL = "/openai/realtimeapi/sessions", "/v1/realtimertc"
_PASSED_HEADERS = ("Authorization", "api-key", "Content-Type")


class Service:
    """Answers mints and calls, GA and preview. The newest call's peer is in `calls`, under the id its `Location` shows.

    Each mint takes `mint_seconds`, each call `call_seconds`. With `greets` it sends audio from the moment a call is
    connected, as the real one does. With `handed_to`, the base
    URL of another such service, that one takes every mint and call.
    """

    def __init__(self, wire: Wire, certificate: RTCCertificate) -> None:
        self.calls: dict[str, Peer] = {}
        self.url = ""
        self.mint_seconds = self.call_seconds = 0.0
        self.greets = False
        self.handed_to: str | None = None
        self._wire = wire
        self._certificate = certificate
        self._cycle = spoken_cycle()
        self._sessions: dict[str, dict[str, Any]] = {}
        self._speaking: dict[Peer, asyncio.Task[None]] = {}

    @contextlib.asynccontextmanager
    async def served(self) -> AsyncIterator[Service]:
        """Listen on a free port until leaving."""
        app = web.Application()
        async with aiohttp.ClientSession() as http:
            app["http"] = http
            app.router.add_post(f"{GA_DOOR}/client_secrets", self._mint)
            app.router.add_post(f"{GA_DOOR}/calls", self._call)
            app.router.add_post(f"{GA_DOOR}/calls/{{id}}/hangup", self._hang_up)
            app.router.add_post(PREVIEW_MINT, self._mint)
            app.router.add_post(PREVIEW_CALL, self._call)
            runner = web.AppRunner(app, access_log=None)
            await runner.setup()
            await web.TCPSite(runner, HOST, 0).start()
            self.url = f"http://{HOST}:{runner.addresses[0][1]}"
            try:
                yield self
            finally:
                await runner.cleanup()
                await self.drop_all()

    def newest(self) -> Peer:
        """The service's end of the last call."""
        return next(reversed(self.calls.values()))

    async def drop(self, peer: Peer) -> None:
        """Close the service's end of a call, if nobody hung up before."""
        for call_id in [each for each, other in self.calls.items() if other is peer]:
            del self.calls[call_id]
        speaking = self._speaking.pop(peer, None)
        if speaking is not None:
            speaking.cancel()
            await asyncio.gather(speaking, return_exceptions=True)
            await peer.close()

    async def drop_all(self) -> None:
        """Close every call that nobody hung up."""
        await asyncio.gather(*(self.drop(peer) for peer in list(self.calls.values())))

    async def _mint(self, request: web.Request) -> web.Response:
        if self.handed_to is not None:
            return await self._hand(request)
        asked = await request.json()
        session = {**asked.get("session", asked), "object": "realtime.session", "id": "sess_bench"}
        key = f"ek_{secrets.token_hex(16)}"
        self._sessions[key] = session
        await asyncio.sleep(self.mint_seconds)
        expires_at = int(time.time()) + 600
        if request.path == PREVIEW_MINT:
            return web.json_response({**session, "client_secret": {"value": key, "expires_at": expires_at}})
        return web.json_response({"value": key, "expires_at": expires_at, "session": session})

    async def _call(self, request: web.Request) -> web.Response:
        session = self._sessions.pop(request.headers["Authorization"].removeprefix("Bearer "), None)
        if session is None:
            if self.handed_to is not None:
                return await self._hand(request)
            return web.json_response({"error": {"message": "unknown key"}}, status=401)
        remote = Remote.parse(await request.text())
        await asyncio.sleep(self.call_seconds)
        peer = Peer(self._wire, self._certificate, controlling=False)
        call_id = f"rtc_{secrets.token_hex(16)}"
        self.calls[call_id] = peer
        answer = peer.answer(remote)
        self._speaking[peer] = asyncio.create_task(self._speak(peer, remote, session))
        headers = {"Location": f"/v1/realtime/calls/{call_id}"}
        return web.Response(text=answer, status=201, headers=headers, content_type="application/sdp")

    async def _hang_up(self, request: web.Request) -> web.Response:
        peer = self.calls.get(request.match_info["id"])
        if peer is not None:
            await self.drop(peer)
        elif self.handed_to is not None:
            return await self._hand(request)
        return web.Response()

    async def _hand(self, request: web.Request) -> web.Response:
        headers = {name: request.headers[name] for name in _PASSED_HEADERS if name in request.headers}
        url = f"{self.handed_to}{request.path_qs}"
        async with request.app["http"].post(url, data=await request.read(), headers=headers) as answered:
            kept = {name: answered.headers[name] for name in ("Location", "Content-Type") if name in answered.headers}
            return web.Response(body=await answered.read(), status=answered.status, headers=kept)

    async def _speak(self, peer: Peer, remote: Remote, session: dict[str, Any]) -> None:
        """Connect, tell the session in force as the service does first of all, and with `greets` go on speaking."""
        await peer.connect(remote)
        greeting = asyncio.create_task(self._greet(peer)) if self.greets else None
        try:
            await peer.opened.wait()
            created = {"type": "session.created", "event_id": f"event_{secrets.token_hex(10)}", "session": session}
            if peer.channel is not None:
                peer.channel.send(json.dumps(created))
            if greeting is not None:
                await greeting
        finally:
            if greeting is not None:
                greeting.cancel()

    async def _greet(self, peer: Peer) -> None:
        number = 0
        while True:
            peer.send_audio(self._cycle[number % len(self._cycle)], number)
            number += 1
            await asyncio.sleep(FRAME_SECONDS)
