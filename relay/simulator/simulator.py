"""The stand-in for the service: one HTTP listener, many sessions, one record."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import asdict
from enum import Enum
from types import TracebackType
from typing import Any, Self

from aiohttp import web
from aiortc import RTCCertificate

from relay.simulator.api_error import too_many
from relay.simulator.control import Control
from relay.simulator.faults import FaultRequest, Faults
from relay.simulator.http_surface import MAX_BODY_BYTES, HttpSurface, answer_everything
from relay.simulator.keys import KeyRing
from relay.simulator.peer import SharedPorts
from relay.simulator.peer_ice import SharedUdpPort
from relay.simulator.peer_tcp import PassiveTcpPort
from relay.simulator.record import MAX_SESSIONS, Record, SessionEnd, SessionRecord, State
from relay.simulator.session import Call, Session
from relay.simulator.settings import SimulatorSettings


class Simulator:
    """Start it, point a relay or a browser at `url`, look at `state()`, close it."""

    def __init__(self, settings: SimulatorSettings) -> None:
        self.settings = settings
        self.keys = KeyRing(settings.single_use_keys)
        self.record = Record(self.state)
        self.faults = Faults()
        self.closing = asyncio.Event()
        self.url = ""
        self._certificate = RTCCertificate.generateCertificate()
        self._udp: list[SharedUdpPort] = []
        self._tcp: list[PassiveTcpPort] = []
        self._seen: dict[str, SessionRecord] = {}
        self._live: dict[str, Session] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Bind and listen. Raises OSError when an address or port is not to be had."""
        if self._runner is not None:
            raise RuntimeError("The simulator has been started already.")
        app = web.Application(client_max_size=MAX_BODY_BYTES, middlewares=[answer_everything])
        HttpSurface(self).add_routes(app)
        Control(self).add_routes(app)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, self.settings.host, self.settings.port).start()
            await self._open_shared_ports()
        except OSError:
            await self.close()
            raise
        port = self._runner.addresses[0][1]
        host = f"[{self.settings.host}]" if ":" in self.settings.host else self.settings.host
        self.url = f"http://{host}:{port}"

    async def close(self) -> None:
        """End every session, free every socket and task. Can be called twice."""
        self.closing.set()
        if self._runner is not None:
            await self._runner.cleanup()
        for session in self._live.values():
            session.end(SessionEnd.SERVICE_CLOSED)
        if self._tasks:
            await asyncio.wait(self._tasks)
        while self._udp:
            await self._udp.pop().close()
        while self._tcp:
            await self._tcp.pop().close()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def state(self) -> State:
        """Everything seen so far, as plain JSON values: `mints`, `calls`, `sessions`, `faults`."""
        return {
            "mints": [asdict(mint) for mint in self.record.mints],
            "calls": [asdict(call) for call in self.record.calls],
            "sessions": [seen.snapshot() for seen in self._seen.values()],
            "faults": asdict(self.faults, dict_factory=_plain),
        }

    async def until(self, predicate: Callable[[State], Any], timeout: float = 20.0) -> State:
        """Wait until `predicate(state())` is true and return that state. Raises TimeoutError."""
        return await self.record.until(predicate, timeout)

    def fault(self, **wanted: Any) -> None:
        """Set faults: the keys of `/_fault`. Raises FaultError on an unknown key or value."""
        request = FaultRequest.parse(wanted, self.faults)
        self.faults = request.faults
        if request.live:
            for session in self._live.values():
                session.apply_faults(request.faults.session)

    async def say(self, event: dict[str, Any], session_id: str | None = None) -> None:
        """Send any event from a session (default: the newest live one). Raises LookupError without an open one."""
        wanted = session_id or next(reversed(self._live), None)
        if wanted is None or wanted not in self._live or not self._live[wanted].say(event):
            raise LookupError("There is no such session with an open channel.")

    # What the HTTP doors use (Service).

    async def open_session(self, call: Call) -> str:
        """Start a session and return its answer. Raises ApiError 429 above `max_sessions`."""
        if len(self._live) >= self.settings.max_sessions:
            raise too_many(5.0)
        session = Session(self.settings, self._certificate, call, self.record.touch)
        try:
            answer = await session.answer(SharedPorts(self._udp, self._tcp))
        except BaseException:
            await session.close()
            raise
        self._live[call.record.id] = session
        self._seen[call.record.id] = call.record
        if len(self._seen) > MAX_SESSIONS:
            del self._seen[next(iter(self._seen))]
        task = asyncio.get_running_loop().create_task(self._run(session))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return answer

    def hang_up(self, call_id: str) -> bool:
        """End the call; False when no live call has this id."""
        for session in self._live.values():
            if session.record.call_id == call_id:
                session.end(SessionEnd.HUNG_UP)
                for seen in self.record.calls:
                    seen.hung_up = seen.hung_up or seen.call_id == call_id
                return True
        return False

    async def _run(self, session: Session) -> None:
        try:
            await session.run()
        finally:
            del self._live[session.record.id]

    async def _open_shared_ports(self) -> None:
        port = self.settings.udp_port
        for address in self.settings.ice_addresses:
            if port is not None:
                shared = await SharedUdpPort.open(address, port)
                self._udp.append(shared)
                port = shared.address[1]
            if self.settings.tcp_candidates:
                self._tcp.append(await self._open_tcp(address, port or 0))

    async def _open_tcp(self, address: str, port: int) -> PassiveTcpPort:
        try:
            return await PassiveTcpPort.open(address, port)
        except OSError:
            # The number that was free for UDP is another's for TCP: only one that was asked for must be had.
            if self.settings.udp_port:
                raise
            return await PassiveTcpPort.open(address, 0)


def _plain(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    return {name: value.value if isinstance(value, Enum) else value for name, value in pairs}
