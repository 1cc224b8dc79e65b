"""What aiortc's documentation leads to: a peer connection on each side, every track handed across, decoded and encoded.

It is here to be measured against. It has the two doors the load needs and leaves out everything else.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Callable
from typing import Any

import aiohttp
import aioice.ice
from aiohttp import web
from aiortc import MediaStreamTrack, RTCConfiguration, RTCDataChannel, RTCPeerConnection, RTCSessionDescription

_HOST = "127.0.0.1"
_BASE = "/openai/v1/realtime"
_KEY = "ek_stock"


def _loopback_only(use_ipv4: bool, use_ipv6: bool) -> list[str]:  # noqa: FBT001 - aioice's signature
    del use_ipv4, use_ipv6
    return [_HOST]


class Postbox:
    """Hands messages to a channel once there is one and it is open."""

    def __init__(self) -> None:
        self._waiting: list[str] = []
        self._channel: RTCDataChannel | None = None

    def post(self, message: str) -> None:
        """Send now, or keep."""
        if self._channel is not None and self._channel.readyState == "open":
            self._channel.send(message)
        else:
            self._waiting.append(message)

    def attach(self, channel: RTCDataChannel, deliver: Callable[[str], None]) -> None:
        """Post to this channel from now on; what it receives goes to `deliver`."""
        self._channel = channel
        channel.on("message", deliver)
        channel.on("open", self._flush)
        if channel.readyState == "open":
            self._flush()

    def _flush(self) -> None:
        waiting, self._waiting = self._waiting, []
        for message in waiting:
            self.post(message)


class StockRelay:
    """Two peer connections a session, joined by their tracks and channels."""

    def __init__(self, service_url: str, http: aiohttp.ClientSession) -> None:
        self._service_url = service_url
        self._http = http
        self._pairs: set[tuple[RTCPeerConnection, RTCPeerConnection]] = set()

    async def mint(self, request: web.Request) -> web.Response:
        """Give anybody a key."""
        del request
        return web.json_response({"value": _KEY})

    async def call(self, request: web.Request) -> web.Response:
        """Open one session."""
        configuration = RTCConfiguration(iceServers=[])
        client, service = RTCPeerConnection(configuration), RTCPeerConnection(configuration)
        self._pairs.add((client, service))
        to_client, to_service = Postbox(), Postbox()
        _hand_tracks_across(client, service)
        _hand_tracks_across(service, client)
        client.on("datachannel", lambda channel: to_client.attach(channel, to_service.post))
        to_service.attach(service.createDataChannel("oai-events"), to_client.post)
        await client.setRemoteDescription(RTCSessionDescription(await request.text(), "offer"))
        await service.setLocalDescription(await service.createOffer())
        answer = await self._call_service(service.localDescription.sdp)
        await service.setRemoteDescription(RTCSessionDescription(answer, "answer"))
        await client.setLocalDescription(await client.createAnswer())
        return web.Response(text=client.localDescription.sdp, status=201)

    async def close(self) -> None:
        """End every session."""
        await asyncio.gather(*(peer.close() for pair in self._pairs for peer in pair))

    async def _call_service(self, offer: str) -> str:
        base = self._service_url + _BASE
        session: dict[str, Any] = {"type": "realtime", "model": "stock"}
        async with self._http.post(f"{base}/client_secrets", json={"session": session}) as minted:
            key = (await minted.json())["value"]
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/sdp"}
        async with self._http.post(f"{base}/calls", data=offer, headers=headers) as called:
            called.raise_for_status()
            return await called.text()


def _hand_tracks_across(source: RTCPeerConnection, target: RTCPeerConnection) -> None:
    def on_track(track: MediaStreamTrack) -> None:
        target.addTrack(track)

    source.on("track", on_track)


async def serve(service_url: str, port: int) -> None:
    """Serve until cancelled."""
    # aioice leaves loopback out, where this experiment takes place.
    aioice.ice.get_host_addresses = _loopback_only
    async with aiohttp.ClientSession() as http:
        relay = StockRelay(service_url, http)
        app = web.Application()
        app.router.add_post(f"{_BASE}/client_secrets", relay.mint)
        app.router.add_post(f"{_BASE}/calls", relay.call)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, _HOST, port).start()
        try:
            await asyncio.Event().wait()
        finally:
            await relay.close()
            await runner.cleanup()


def main() -> None:
    """Read the two arguments and serve."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--service", required=True, help="base URL of the service")
    parser.add_argument("--port", type=int, required=True)
    arguments = parser.parse_args()
    asyncio.run(serve(arguments.service, arguments.port))


if __name__ == "__main__":
    main()
