"""A real Chromium, the talk page, and behind it the stand-in service, whose GA doors are those of the relay.

The relay itself is not needed to show what the page does; `Stage` serves the page as the relay serves it (same origin,
same Content-Security-Policy), passes the doors on, and refuses or spoils an answer when a test says so.
"""

from __future__ import annotations

import json
import math
import struct
import wave
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import pytest_asyncio
from aiohttp import ClientSession, web
from playwright.async_api import Browser, BrowserContext, Page
from support.browser import chromium
from support.console import Console, Served, console
from support.fake_admin import FakeAdmin

from relay.api.pages import CONTENT_POLICY
from relay.simulator import Simulator, SimulatorSettings

WEB = Path(__file__).parents[2] / "web"
KEY = "talk-page-test-key"


@dataclass(frozen=True, slots=True)
class Refusal:
    """What the next request to a door is answered with."""

    status: int
    body: str
    headers: dict[str, str] = field(default_factory=dict)


class Stage:
    """The page's origin: static files and the GA doors, passed on to the stand-in."""

    def __init__(self, simulator: Simulator) -> None:
        self.simulator = simulator
        self.refusals: dict[str, Refusal] = {}
        self.dead_media = False
        self.mints: list[str] = []
        self.reports: list[dict[str, float | None]] = []
        self.url = ""
        self._http: ClientSession | None = None
        self._runner: web.AppRunner | None = None

    def refuse(self, door: str, status: int, body: str, headers: dict[str, str] | None = None) -> None:
        """Answer the next request to this door so, and pass nothing on."""
        self.refusals[door] = Refusal(status, body, headers or {})

    async def start(self) -> None:
        app = web.Application()
        app.router.add_get("/", self._file)
        app.router.add_get("/{name}", self._file)
        app.router.add_post("/v1/realtime/{door:.+}", self._door)
        self._runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self._http = ClientSession()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def stop_answering(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def close(self) -> None:
        await self.stop_answering()
        if self._http is not None:
            await self._http.close()

    async def _file(self, request: web.Request) -> web.StreamResponse:
        path = WEB / request.match_info.get("name", "index.html")
        if not path.is_file():
            raise web.HTTPNotFound
        return web.FileResponse(path, headers={"content-security-policy": CONTENT_POLICY, "cache-control": "no-store"})

    async def _door(self, request: web.Request) -> web.Response:
        door = request.match_info["door"]
        refusal = self.refusals.pop(door, None)
        if refusal is not None:
            return web.Response(status=refusal.status, text=refusal.body, headers=refusal.headers)
        body = await request.text()
        authorization = request.headers.get("authorization", "")
        if door.endswith("/stats"):  # the relay's own: the stand-in has no such door
            self.reports.append(json.loads(body))
            return web.Response(status=204)
        if door == "client_secrets":
            self.mints.append(body)
            authorization = authorization.replace(KEY, self.simulator.settings.api_key)
            body = json.dumps({"session": json.loads(body)["session"] | {"model": "gpt-realtime"}})
        assert self._http is not None
        headers = {"authorization": authorization, "content-type": request.headers.get("content-type", "text/plain")}
        async with self._http.post(f"{self.simulator.url}{request.path}", data=body, headers=headers) as answer:
            text = await answer.text()
            location = answer.headers.get("location")
            if self.dead_media:
                text = without_reachable_media(text)
            return web.Response(status=answer.status, text=text, headers={"location": location} if location else {})


def without_reachable_media(sdp: str) -> str:
    """The same answer with its UDP candidates at a port where nobody listens, and none over TCP."""
    lines = [line for line in sdp.split("\r\n") if not (line.startswith("a=candidate:") and " tcp " in line)]
    moved = [move_port(line) if line.startswith("a=candidate:") else line for line in lines]
    return "\r\n".join(moved)


def move_port(candidate: str) -> str:
    words = candidate.split(" ")
    return " ".join([*words[:5], "9", *words[6:]])


def write_speech(path: Path) -> None:
    """One second of silence, 1.6 s of something voiced, two seconds of silence: 16-bit mono at 48 kHz."""
    rate, spoken = 48_000, range(48_000, 124_800)
    samples = [0] * (rate * 46 // 10)
    for n in spoken:
        at = n / rate
        voice = sum(math.sin(2 * math.pi * 140 * k * at) / k for k in range(1, 12))
        syllables = 0.5 - 0.5 * math.cos(2 * math.pi * 4 * at)
        samples[n] = round(7_000 * voice * syllables)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(struct.pack(f"<{len(samples)}h", *samples))


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Browser]:
    """One Chromium for all tests here; each test has its own fresh context."""
    speech = tmp_path_factory.mktemp("speech") / "speech.wav"
    write_speech(speech)
    async with chromium(speech, "--host-resolver-rules=MAP relay.example 127.0.0.1") as running:
        yield running


@asynccontextmanager
async def new_stage() -> AsyncIterator[Stage]:
    settings = SimulatorSettings(tcp_candidates=False, transcription_deployments=("gpt-4o-mini-transcribe",))
    async with Simulator(settings) as simulator:
        stage = Stage(simulator)
        await stage.start()
        yield stage
        await stage.close()


@asynccontextmanager
async def new_page(context: BrowserContext, stage: Stage) -> AsyncIterator[Page]:
    """The talk page with the key in its link; a script error or a breach of the page's policy fails the test."""
    page = await context.new_page()
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda line: complaints.append(line.text) if "Content Security Policy" in line.text else None)
    await page.goto(f"{stage.url}/#key={KEY}")
    yield page
    assert complaints == []


@pytest_asyncio.fixture(loop_scope="session")
async def stage() -> AsyncIterator[Stage]:
    async with new_stage() as stage:
        yield stage


@pytest_asyncio.fixture(loop_scope="session")
async def context(browser: Browser) -> AsyncIterator[BrowserContext]:
    context = await browser.new_context(permissions=["microphone"])
    yield context
    await context.close()


@pytest_asyncio.fixture(loop_scope="session")
async def page(context: BrowserContext, stage: Stage) -> AsyncIterator[Page]:
    async with new_page(context, stage) as page:
        yield page


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def shared_stage() -> AsyncIterator[Stage]:
    """For tests that leave nothing behind."""
    async with new_stage() as stage:
        yield stage


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def shared_page(browser: Browser, shared_stage: Stage) -> AsyncIterator[Page]:
    """For tests that leave nothing behind but a key field and a notice, which the next start replaces."""
    context = await browser.new_context(permissions=["microphone"])
    async with new_page(context, shared_stage) as page:
        yield page
    await context.close()


@pytest_asyncio.fixture(loop_scope="session")
async def admin() -> AsyncIterator[FakeAdmin]:
    """The stand-in of the admin API, with the console before it."""
    admin = FakeAdmin()
    await admin.start()
    yield admin
    await admin.close()


@pytest_asyncio.fixture(loop_scope="session")
async def served(admin: FakeAdmin) -> Served:
    """Where the console is; tests that ask for nothing else of its server can have any server."""
    return admin.served


@pytest_asyncio.fixture(loop_scope="session")
async def visitor(browser: Browser, served: Served) -> AsyncIterator[Console]:
    """The console before signing in."""
    async with console(browser, served) as opened:
        yield opened


@pytest_asyncio.fixture(loop_scope="session")
async def owner(visitor: Console) -> Console:
    """The console with an owner signed in."""
    await visitor.sign_in("owner")
    return visitor
