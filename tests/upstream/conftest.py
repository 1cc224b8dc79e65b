"""A little service on loopback that answers what a test tells it to and keeps what it was asked."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web

from relay.config import Secret, UpstreamProtocol, UpstreamSettings
from relay.upstream import Upstream, create_upstream

RESOURCE_KEY = "canary-resource-key-0123456789abcdef"


@dataclass
class Asked:
    """One request as it arrived."""

    path: str
    headers: list[tuple[str, str]]
    body: bytes
    connection: object

    @property
    def names(self) -> set[str]:
        return {name.lower() for name, _ in self.headers}

    def __getitem__(self, name: str) -> str:
        return next(value for key, value in self.headers if key.lower() == name)


Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class Service:
    url: str = ""
    asked: list[Asked] = field(default_factory=list)
    handler: Handler | None = None

    def will(self, status: int, body: Any = b"", **headers: str) -> None:
        """Answer everything from now on with this; header names are written with underscores."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}

        async def handler(_: web.Request) -> web.StreamResponse:
            if isinstance(body, bytes):
                return web.Response(status=status, body=body, headers=named)
            return web.json_response(body, status=status, headers=named)

        self.handler = handler

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        self.asked.append(Asked(request.path_qs, list(request.headers.items()), body, request.transport))
        assert self.handler is not None
        return await self.handler(request)


async def serve(service: Service, **site: Any) -> web.AppRunner:
    application = web.Application(client_max_size=1_000_000)
    application.router.add_route("*", "/{path:.*}", service.handle)
    # The end of a test must not wait for handlers that hang on purpose.
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.01, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, **site).start()
    host, port = runner.addresses[0][:2]
    service.url = f"{'https' if site else 'http'}://{host}:{port}"
    return runner


@pytest.fixture
async def service() -> AsyncIterator[Service]:
    service = Service()
    runner = await serve(service)
    yield service
    await runner.cleanup()


@pytest.fixture
def serve_more() -> Callable[..., Awaitable[web.AppRunner]]:
    return serve


@pytest.fixture
def other_service() -> Service:
    return Service()


@pytest.fixture(autouse=True)
def no_proxy_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "no_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
async def connect(service: Service) -> AsyncIterator[Callable[..., Upstream]]:
    made: list[Upstream] = []

    def connect(protocol: str = "azure-ga", **changes: Any) -> Upstream:
        values: dict[str, Any] = {
            "protocol": UpstreamProtocol(protocol),
            "endpoint": service.url,
            "webrtc_endpoint": f"{service.url}/regional",
            "deployment": "my-realtime",
            "api_key": Secret(RESOURCE_KEY),
            "timeout_seconds": 5.0,
        }
        made.append(create_upstream(UpstreamSettings(**(values | changes))))
        return made[-1]

    yield connect
    for upstream in made:
        await upstream.close()
