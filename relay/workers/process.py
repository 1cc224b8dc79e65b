"""A worker's own program, `python -m relay.workers.process INDEX DESCRIPTOR`: started by the pool, and by nobody else.

It owns sessions and what they need, and knows neither the service's credentials nor who its clients are. It leaves when
it is told to, and when its main process is gone; it does not outlive it.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import socket
import sys
from collections.abc import Callable
from typing import Any

import structlog

from relay import event_loop, garbage
from relay.core.lifecycle import Command, Ended, Ending, Fact, SessionCounters, SessionStart
from relay.core.rtp import DropCause
from relay.core.stun import Address
from relay.errors import ConfigError, EndReason
from relay.rtc.advertise import AdvertisedAddress
from relay.rtc.dtls import SharedCertificate
from relay.rtc.outpost import Outpost
from relay.rtc.plane import MediaPlane
from relay.rtc.public_ports import PublicPorts
from relay.session import Session, SessionHost
from relay.telemetry.log import configure_logging
from relay.workers.channel import Channel
from relay.workers.codec import decode_order, encode_report
from relay.workers.figures import ProcessFigures
from relay.workers.messages import (
    Alive,
    Beat,
    Begin,
    Claimed,
    Counted,
    Forget,
    GiveUp,
    Leaving,
    ListenFor,
    Measure,
    Measured,
    OwnPorts,
    Ready,
    Refused,
    Released,
    Report,
    SendDatagram,
    SetUp,
    SharedPorts,
    Stop,
    StrayDatagram,
    TakeConnection,
    TakeDatagram,
    Tell,
    Told,
)

# What ending sessions may take in all. When it is over the kernel ends the process, whatever that is busy with.
LEAVE_SECONDS = 4
# Sessions counted at a time; between them packets are forwarded.
_COUNTED_AT_ONCE = 20
_LOGGED_FAILURES = 10
# linux/prctl.h
_PR_SET_PDEATHSIG = 1


class MainProcessLink:
    """What an outpost tells the main process, as reports; implements `relay.rtc.outpost.MainProcess`."""

    def __init__(self, report: Callable[[Report], None]) -> None:
        self._report = report

    def listen_for(self, ufrag: str) -> None:
        """Ask for checks that name `ufrag`."""
        self._report(ListenFor(ufrag))

    def forget(self, ufrag: str) -> None:
        """Ask for them no more."""
        self._report(Forget(ufrag))

    def claimed(self, host_index: int, address: Address) -> None:
        """Tell that a session here proved an address."""
        self._report(Claimed(host_index, address))

    def released(self, host_index: int, address: Address) -> None:
        """Tell that it has no more use for it."""
        self._report(Released(host_index, address))

    def send(self, host_index: int, address: Address, datagram: bytes) -> None:
        """Have a datagram sent from the public port."""
        self._report(SendDatagram(host_index, address, bytes(datagram)))

    def stray(self, host_index: int, address: Address, datagram: bytes) -> None:
        """Give back a datagram that is not for a session here."""
        self._report(StrayDatagram(host_index, address, bytes(datagram)))


class WorkerProcess:
    """Everything of one worker. `run` returns when it is to leave, every session ended and every socket closed."""

    def __init__(self, end: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        self._channel = Channel(end, self._on_message, self._on_lost, takes_sockets=True)
        self._log = structlog.get_logger("relay")
        self._set_up: asyncio.Future[SetUp] = loop.create_future()
        self._leaving: asyncio.Future[tuple[EndReason, str]] = loop.create_future()
        self._sessions: dict[str, Session] = {}
        self._empty = asyncio.Event()
        self._empty.set()
        self._plane: MediaPlane | None = None
        self._host: SessionHost | None = None
        self._measuring: asyncio.Task[None] | None = None
        self._figures = ProcessFigures()

    def leave(self, reason: EndReason, detail: str) -> None:
        """End every session for this reason and return from `run`."""
        if not self._leaving.done():
            # From here on the process has so long, even if nothing of Python runs any more.
            signal.alarm(LEAVE_SECONDS)
            self._leaving.set_result((reason, detail))

    async def run(self) -> None:
        """Serve until told to leave."""
        waiting: set[asyncio.Future[Any]] = {self._set_up, self._leaving}
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        with contextlib.ExitStack() as stack:
            stack.callback(self._channel.close)
            if self._set_up.done():
                try:
                    addresses = self._open(self._set_up.result(), stack)
                except (OSError, ConfigError) as error:
                    self._report(_refused(error))
                    await self._told()
                    return
                garbage.settle()
                self._report(Ready(addresses))
                self._log.info("worker_ready", pid=os.getpid())
                reason, detail = await self._leaving
                self._report(Leaving())
                await self._end_sessions(reason, detail)
                await self._told()

    def _open(self, set_up: SetUp, stack: contextlib.ExitStack) -> tuple[AdvertisedAddress, ...]:
        configure_logging(set_up.log.level, set_up.log.format)
        certificate = SharedCertificate()
        match set_up.ports:
            case SharedPorts(hosts, port, candidates):
                outpost = Outpost(MainProcessLink(self._report), hosts, port)
                stack.callback(outpost.close)
                self._plane = MediaPlane(outpost, candidates, certificate, set_up.egress)
                addresses: tuple[AdvertisedAddress, ...] = ()
            case OwnPorts(ice):
                ports = PublicPorts(ice)
                stack.callback(ports.close)
                self._plane = MediaPlane(ports.endpoint, ports.candidates, certificate, set_up.egress)
                addresses = ports.addresses
        self._host = SessionHost(self._plane)
        return addresses

    async def _end_sessions(self, reason: EndReason, detail: str) -> None:
        for session in tuple(self._sessions.values()):
            session.end(reason, detail)
        await self._empty.wait()
        if self._measuring is not None:
            self._measuring.cancel()
            await asyncio.gather(self._measuring, return_exceptions=True)

    async def _told(self) -> None:
        """Wait until the main process has read what it was told; the alarm is the deadline."""
        signal.alarm(LEAVE_SECONDS)
        await self._channel.drained()

    # --- the main process --------------------------------------------------------------------------------------------

    def _report(self, report: Report) -> None:
        self._channel.send(encode_report(report))

    def _on_lost(self, why: str) -> None:
        self._log.warning("main_process_lost", why=why)
        self.leave(EndReason.RELAY_FAILED, "the main process is gone")

    def _on_message(self, message: bytes, passed: socket.socket | None) -> None:
        match decode_order(message):
            case SetUp() as set_up:
                self._set_up.set_result(set_up)
            case Begin(start):
                self._begin(start)
            case Tell(session_id, command):
                # A command can cross the end of its session.
                if (session := self._sessions.get(session_id)) is not None:
                    self._tell(session, command)
            case Beat(number):
                self._report(Alive(number, self._figures.load()))
            case Measure(number):
                self._measuring = asyncio.create_task(self._measure(number), name="measure")
            case Stop():
                self.leave(EndReason.RELAY_DRAINING, "")
            case order:
                self._on_ports(order, passed)

    def _on_ports(self, order: TakeDatagram | TakeConnection | GiveUp, passed: socket.socket | None) -> None:
        if self._plane is None or not isinstance(self._plane.endpoint, Outpost):
            return
        outpost = self._plane.endpoint
        try:
            match order:
                case TakeDatagram(host_index, address, datagram):
                    outpost.on_datagram_from_front(host_index, address, datagram)
                case TakeConnection(address, first) if passed is not None:
                    outpost.on_connection_from_front(passed, address, first)
                case GiveUp(host_index, address):
                    outpost.on_give_up(host_index, address)
        except Exception as error:  # noqa: BLE001 - as with our own sockets: it must not cost anybody else theirs
            outpost.drop(DropCause.INTERNAL)
            if outpost.dropped[DropCause.INTERNAL] <= _LOGGED_FAILURES:
                self._log.exception("datagram_handler_failed", error=type(error).__name__)

    # --- sessions ----------------------------------------------------------------------------------------------------

    def _begin(self, start: SessionStart) -> None:
        if self._host is None:
            raise RuntimeError("a session before `Ready`")
        session_id = start.session_id

        def emit(fact: Fact) -> None:
            self._report(Told(session_id, fact))
            if isinstance(fact, Ended):
                del self._sessions[session_id]
                if not self._sessions:
                    self._empty.set()

        try:
            self._sessions[session_id] = self._host.start(start, emit)
        except Exception as error:  # noqa: BLE001 - one session that cannot begin must not end the others
            self._report(Told(session_id, Ending(EndReason.RELAY_FAILED)))
            self._report(Told(session_id, Ended(EndReason.RELAY_FAILED, type(error).__name__, SessionCounters())))
            return
        self._empty.clear()
        if self._leaving.done():
            self._sessions[session_id].end(*self._leaving.result())

    def _tell(self, session: Session, command: Command) -> None:
        try:
            session.command(command)
        except Exception as error:  # noqa: BLE001 - as above
            self._log.warning("command_not_taken", command=type(command).__name__, error=type(error).__name__)
            session.end(EndReason.RELAY_FAILED, "a command could not be taken")

    async def _measure(self, number: int) -> None:
        if self._plane is None:
            raise RuntimeError("a measurement before `Ready`")
        for at, (session_id, session) in enumerate(tuple(self._sessions.items()), start=1):
            self._report(Counted(session_id, session.counters()))
            if at % _COUNTED_AT_ONCE == 0:
                await asyncio.sleep(0)
        dropped = {cause.value: count for cause, count in self._plane.endpoint.dropped.items()}
        self._report(Measured(number, self._figures.load(), dropped))


def _refused(error: OSError | ConfigError) -> Refused:
    if isinstance(error, OSError):
        return Refused(error.strerror or type(error).__name__, error.errno)
    return Refused(str(error), None)


async def _run(end: socket.socket, parent: int) -> None:
    worker = WorkerProcess(end)
    loop = asyncio.get_running_loop()

    def leave(reason: EndReason, detail: str) -> None:
        # Not through the loop alone: it may be busy for ever.
        signal.alarm(LEAVE_SECONDS)
        loop.call_soon_threadsafe(worker.leave, reason, detail)

    def on_continued(*_: object) -> None:
        if os.getppid() != parent:
            leave(EndReason.RELAY_FAILED, "the main process is gone")

    signal.signal(signal.SIGTERM, lambda *_: leave(EndReason.RELAY_DRAINING, "the worker was told to leave"))
    signal.signal(signal.SIGCONT, on_continued)
    _wake_when_parent_dies()
    await worker.run()


def _wake_when_parent_dies() -> None:
    """Ask the kernel for SIGCONT when the main process dies (Linux): it wakes even who is stopped, to leave."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(signal.SIGCONT), 0, 0, 0)


def main() -> None:
    """Run the worker whose number and end of the channel are on the command line."""
    # Ctrl-C and a closed terminal reach the whole group: the main process decides what they mean.
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    index, descriptor = map(int, sys.argv[1:])
    structlog.contextvars.bind_contextvars(worker=index)
    event_loop.run(_run(socket.socket(fileno=descriptor), os.getppid()))


if __name__ == "__main__":
    main()
