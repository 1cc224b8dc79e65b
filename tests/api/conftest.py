from __future__ import annotations

import asyncio
import ipaddress
import json
from typing import Any

import aiohttp
import pytest
from yarl import URL

from relay.api import DoorSettings, DrainDoor, Listener, create_operations_app, create_public_app, load_pages
from relay.api.admin_auth import AdminGate
from relay.config import Secret
from relay.core.client_stats import ClientStats
from relay.core.doors import Opened, OpenRequest
from relay.core.ephemeral_keys import EphemeralKeys
from relay.core.policy import policy_from_instructions
from relay.core.sdp import parse_offer
from relay.core.stored import AuditNote
from relay.errors import ApiError, ErrorCode
from relay.identity.admins import Admins
from relay.identity.callers import Callers
from relay.identity.keys import ConfiguredKeys, KeyRing

CLIENT_KEY = "client-key-of-alice-0001"
OTHER_CLIENT_KEY = "client-key-of-bob-00002"
CANARY = "CANARY-7f3a"
DEPLOYMENT = "contoso-rt-secret"
OFFER = "v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\n"
ANSWER = "v=0\r\no=- 3 4 IN IP4 127.0.0.1\r\ns=-\r\n"


class FakeSessions:
    """Sessions that open at once, unless told otherwise."""

    def __init__(self) -> None:
        self.draining = False
        self.started = True
        self.reasons: dict[str, str] = {}
        self.requests: list[OpenRequest] = []
        self.prepared: list[tuple[OpenRequest, float]] = []
        self.refusal: Exception | None = None
        self.live: dict[str, str] = {}
        self.reoffers: list[tuple[str, str]] = []
        self.stats: list[tuple[str, ClientStats]] = []
        self.entered = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.proceed = asyncio.Event()
        self.proceed.set()

    def prepare(self, request: OpenRequest, seconds: float) -> None:
        self.prepared.append((request, seconds))

    async def open(self, request: OpenRequest) -> Opened:
        self.requests.append(request)
        self.entered.set()
        try:
            await self.proceed.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        if self.refusal is not None:
            raise self.refusal
        session_id = f"rs_{len(self.requests)}"
        self.live[session_id] = request.owner
        return Opened(session_id, ANSWER)

    def drain(self) -> int:
        self.draining = True
        return len(self.live)

    def hang_up(self, session_id: str, owner: str) -> bool:
        return self.live.get(session_id) == owner and self.live.pop(session_id) is not None

    async def reoffer(self, session_id: str, owner: str, offer: str) -> str:
        if self.live.get(session_id) != owner:
            raise ApiError(404, ErrorCode.NOT_FOUND, "There is no such call.")
        if self.refusal is not None:
            raise self.refusal
        self.reoffers.append((session_id, offer))
        return ANSWER

    def report_stats(self, session_id: str, owner: str, stats: ClientStats) -> None:
        if self.live.get(session_id) != owner:
            raise ApiError(404, ErrorCode.NOT_FOUND, "There is no such call.")
        self.stats.append((session_id, stats))

    def readiness(self) -> dict[str, str]:
        return self.reasons


class FakeChecks:
    """Connection checks that are answered at once, unless told that there are too many."""

    def __init__(self) -> None:
        self.askers: list[str] = []
        self.full = False

    def open(self, offer: str, asker: str) -> str | None:
        parse_offer(offer)
        self.askers.append(asker)
        return None if self.full else ANSWER


class Facts:
    """Telemetry that remembers."""

    def __init__(self) -> None:
        self.refused: list[tuple[str, int, str]] = []
        self.failed: list[str] = []
        self.decisions: list[tuple[str, str, str]] = []
        self.warnings: asyncio.Queue[tuple[str, dict[str, Any]]] = asyncio.Queue()

    def door_refused(self, door: str, status: int, code: str) -> None:
        self.refused.append((str(door), status, str(code)))

    def auth_failed(self, method: str) -> None:
        self.failed.append(str(method))

    def decided(self, session_id: str, decision: Any, governed: Any) -> None:
        assert session_id == ""
        self.decisions.append((decision.event_type, decision.verdict, str(decision.rule)))

    def warn(self, event: str, **fields: Any) -> None:
        self.warnings.put_nowait((event, fields))


class Clock:
    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


class Answer:
    """An HTTP answer, read whole; nothing of the policy or the service may stand anywhere in it."""

    def __init__(self, status: int, headers: Any, body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body
        self.text = body.decode()
        seen = self.text + repr(headers)
        assert CANARY not in seen
        assert DEPLOYMENT not in seen
        assert CLIENT_KEY not in seen

    @property
    def json(self) -> Any:
        return json.loads(self.text)

    @property
    def error(self) -> dict[str, Any]:
        assert self.headers["Content-Type"] == "application/json; charset=utf-8"
        assert set(self.json) == {"error"}
        assert set(self.json["error"]) == {"message", "type", "param", "code"}
        return self.json["error"]

    @property
    def refusal(self) -> tuple[int, str, str | None]:
        return self.status, self.error["code"], self.error["param"]


class Doors:
    """A public listener with everything behind it in reach."""

    def __init__(self, sessions: FakeSessions, facts: Facts, clock: Clock, keys: EphemeralKeys) -> None:
        self.sessions = sessions
        self.facts = facts
        self.clock = clock
        self.keys = keys
        self.http: aiohttp.ClientSession
        self.port = 0

    def url(self, path: str) -> URL:
        return URL(f"http://127.0.0.1:{self.port}{path}", encoded=True)

    async def request(self, method: str, path: str, **options: Any) -> Answer:
        if "json" not in options:
            options["skip_auto_headers"] = ["Content-Type"]
        async with self.http.request(method, self.url(path), allow_redirects=False, **options) as response:
            return Answer(response.status, response.headers, await response.read())

    async def post(self, path: str, *, key: str | None = CLIENT_KEY, headers: Any = None, **options: Any) -> Answer:
        credentials = {} if key is None else {"Authorization": f"Bearer {key}"}
        return await self.request("POST", path, headers={**credentials, **(headers or {})}, **options)

    async def mint(self, session: Any = None, **options: Any) -> Answer:
        body = {"session": {"type": "realtime"} if session is None else session}
        return await self.post("/v1/realtime/client_secrets", json=body, **options)

    async def key(self, session: Any = None, **options: Any) -> str:
        answer = await self.mint(session, **options)
        assert answer.status == 200, answer.text
        return answer.json["value"]

    async def call(
        self, key: str | None, path: str = "/v1/realtime/calls", offer: Any = OFFER, **options: Any
    ) -> Answer:
        headers = {"Content-Type": "application/sdp", **options.pop("headers", {})}
        return await self.post(path, key=key, headers=headers, data=offer, **options)


@pytest.fixture
def offer() -> str:
    return OFFER


@pytest.fixture
def canary() -> str:
    return CANARY


@pytest.fixture
def client_key() -> str:
    return CLIENT_KEY


@pytest.fixture
def other_client_key() -> str:
    return OTHER_CLIENT_KEY


@pytest.fixture
def refuse():
    def build(status: int, code: Any, **headers: str) -> ApiError:
        return ApiError(
            status, code, "refused", headers={name.replace("_", "-"): text for name, text in headers.items()}
        )

    return build


@pytest.fixture
def door_settings() -> DoorSettings:
    return DoorSettings(
        allowed_origins=("https://app.example.com",), trusted_proxies=(ipaddress.ip_network("10.0.0.0/8"),)
    )


@pytest.fixture
def facts() -> Facts:
    return Facts()


@pytest.fixture
def sessions() -> FakeSessions:
    return FakeSessions()


@pytest.fixture
def checks() -> FakeChecks:
    return FakeChecks()


@pytest.fixture
def page_directory(tmp_path):
    directory = tmp_path / "web"
    (directory / "parts").mkdir(parents=True)
    (directory / "index.html").write_text("<!doctype html><title>talk</title>")
    (directory / "app.js").write_text("export {};")
    (directory / "parts" / "meter.js").write_text("export const x = 1;")
    (directory / "README.md").write_text("not for browsers")
    (tmp_path / "secret.js").write_text("outside")
    return directory


@pytest.fixture
def callers() -> Callers:
    return Callers(ConfiguredKeys([Secret(CLIENT_KEY), Secret(OTHER_CLIENT_KEY)]), KeyRing())


@pytest.fixture
async def doors(door_settings, sessions, checks, facts, page_directory, callers):
    clock, keys = Clock(), EphemeralKeys()
    policy = policy_from_instructions(f"{CANARY}. You are Contoso's assistant.", DEPLOYMENT, None)
    app = create_public_app(
        door_settings,
        callers=callers,
        ephemeral_keys=keys,
        sessions=sessions,
        checks=checks,
        policy_for=lambda _identity, _model: policy,
        telemetry=facts,
        pages=load_pages(page_directory),
        clock=clock,
    )
    doors = Doors(sessions, facts, clock, keys)
    listener = Listener(app, host="127.0.0.1", port=0, telemetry=facts, grace_seconds=0.5)
    await listener.start()
    doors.port = listener.port
    async with aiohttp.ClientSession() as doors.http:
        yield doors
    await listener.stop()
    assert facts.warnings.empty(), facts.warnings.get_nowait()


async def ready_metrics():
    return b"relay_ready 1\n", "text/plain; version=0.0.4"


@pytest.fixture
def admin_key() -> Secret | None:
    return None


@pytest.fixture
def rows() -> list[AuditNote]:
    """What was to be written to the audit log."""
    return []


@pytest.fixture
def drain_door(sessions, facts, admin_key, rows) -> DrainDoor:
    gate = AdminGate(Admins(ConfiguredKeys([admin_key] if admin_key else []), KeyRing()), facts, Clock())
    return DrainDoor(sessions.drain, sessions, 30.0, gate, open_to_all=admin_key is None, write=rows.append)


@pytest.fixture
async def operations(sessions, facts, drain_door):
    app = create_operations_app(
        sessions=sessions,
        render_metrics=ready_metrics,
        telemetry=facts,
        details={"media_addresses": ["192.0.2.1 udp 8443 tcp 8443"]},
        drain=drain_door,
        started=lambda: sessions.started,
    )
    doors = Doors(sessions, facts, Clock(), EphemeralKeys())
    listener = Listener(app, host="127.0.0.1", port=0, telemetry=facts, grace_seconds=0.5)
    await listener.start()
    doors.port = listener.port
    async with aiohttp.ClientSession() as doors.http:
        yield doors
    await listener.stop()
