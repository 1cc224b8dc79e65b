"""One worker process, as the main process sees it: from its start to its end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import relay
from relay.core.headroom import Headroom, LoadSample
from relay.core.lifecycle import EndSession, Fact, SessionStart
from relay.core.rtp import DropCause
from relay.core.stun import Address
from relay.errors import ConfigError, EndReason
from relay.load import available_cores
from relay.rtc.advertise import AdvertisedAddress
from relay.rtc.front import Front
from relay.telemetry import Telemetry
from relay.telemetry.workers import WorkerState
from relay.workers.channel import Channel
from relay.workers.codec import CodecError, decode_report, encode_order
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
    Load,
    Measure,
    Measured,
    Order,
    PortReport,
    Ready,
    Refused,
    Released,
    SendDatagram,
    SetUp,
    Stop,
    StrayDatagram,
    TakeConnection,
    TakeDatagram,
    Told,
)
from relay.workers.remote_session import RemoteSession

# A process has to load its libraries, on a machine that may be busy with as many others.
START_SECONDS = 60.0
BEAT_SECONDS = 1.0
# Counted in beats and not in time: while this process itself is held up it blames nobody.
MOST_UNANSWERED = 10
# One that leaves so many unanswered is given sessions only if all do.
SILENT_UNANSWERED = 3
STOP_SECONDS = 5.0
# A process that hung up by itself is leaving; what it exits with says why.
EXIT_SECONDS = 1.0
MOST_UFRAGS = 100_000
# RFC 8839 section 5.4.
MOST_UFRAG_CHARACTERS = 256
# With so many orders unread, what comes from the network is not sent to a worker: it may be lost, and a flood of it
# must not make the channel overflow, which would cost the worker its life, nor keep connections open in this process.
MOST_UNREAD = 256
_ROOT = str(Path(relay.__file__).resolve().parent.parent)
# -P: what lies in the working directory is not imported.
PROGRAM = ("-P", "-m", "relay.workers.process")
# What an interpreter needs of the environment. Everything else stays here, credentials above all.
_ENVIRONMENT = frozenset({
    "PATH", "LANG", "LANGUAGE", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "LD_PRELOAD", "SSL_CERT_FILE", "SSL_CERT_DIR",
    "OPENSSL_CONF", "VIRTUAL_ENV", "SYSTEMROOT",
})  # fmt: skip
_ENVIRONMENT_PREFIXES = ("LC_", "PYTHON", "MALLOC_")


class Worker:
    """One life of one worker; `load` and `dropped` are the figures it gave last.

    `run` starts the process and returns why it is gone; then nothing of it is left.
    """

    def __init__(self, index: int, telemetry: Telemetry, front: Front | None, headroom: Headroom) -> None:
        loop = asyncio.get_running_loop()
        self.index = index
        self._headroom = headroom
        self.state = WorkerState.STARTING
        self.addresses: tuple[AdvertisedAddress, ...] = ()
        self.load = Load()
        self.cpu_share = 0.0
        self.ready: asyncio.Future[None] = loop.create_future()
        self.pid: int | None = None
        self._telemetry = telemetry
        self._front = front
        self._channel: Channel | None = None
        self._sessions: dict[str, RemoteSession] = {}
        self._ufrags: set[str] = set()
        self._over: asyncio.Future[str] = loop.create_future()
        self._unanswered = 0
        self._measuring: asyncio.Future[None] | None = None
        self._measured = 0
        self._dropped: Counter[str] = Counter()
        self._not_sent = 0
        self._cpu_seconds_at_beat = 0.0
        self._stopping: asyncio.TimerHandle | None = None

    # --- for the pool ------------------------------------------------------------------------------------------------

    @property
    def sessions(self) -> int:
        """How many it has."""
        return len(self._sessions)

    @property
    def silent(self) -> bool:
        """Whether it has not answered for some seconds: it may be stuck, or about to be lost."""
        return self._unanswered >= SILENT_UNANSWERED

    @property
    def dropped(self) -> Counter[str]:
        """What no session of it took, by cause, and what was not even sent to it."""
        return self._dropped + Counter({DropCause.RATE.value: self._not_sent})

    def start(self, start: SessionStart, emit: Callable[[Fact], None]) -> RemoteSession:
        """Begin a session in this worker."""
        session = RemoteSession(start.session_id, emit, self._send)
        self._sessions[start.session_id] = session
        try:
            self._send(Begin(start))
        except Exception:
            del self._sessions[start.session_id]
            raise
        return session

    async def measure(self) -> None:
        """Return once figures are here that were taken about now; the deadline is the caller's."""
        if self.state is not WorkerState.READY:
            return
        if self._measuring is None:
            self._measuring = asyncio.get_running_loop().create_future()
            self._measured += 1
            self._send(Measure(self._measured))
        await asyncio.shield(self._measuring)

    def stop(self) -> None:
        """Ask it to end its sessions and leave; `run` sees to it that it does."""
        if self.state is not WorkerState.READY:
            self._lost("stopped")
            return
        self.state = WorkerState.STOPPING
        self._send(Stop())
        self._stopping = asyncio.get_running_loop().call_later(STOP_SECONDS, self._lost, "did not stop")

    async def run(self, set_up: SetUp) -> str:
        """Start the process, follow it to its end, clean up after it."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._channel = Channel(ours, self._on_message, self._lost, takes_sockets=False)
            process = await self._spawn(theirs)
        except BaseException:
            self._close()
            ours.close()
            raise
        finally:
            theirs.close()
        self.pid = process.pid
        beating = asyncio.create_task(self._beat(), name=f"beats of worker {self.index}")
        try:
            self._send(set_up)
            why = await self._over
        finally:
            beating.cancel()
            self._close()
            code = await _ended(process)
        return f"{why}, {_left_by(code)}"

    # --- Taker (relay/rtc/front.py) ----------------------------------------------------------------------------------

    def take_datagram(self, host_index: int, address: Address, datagram: bytes) -> None:
        """Take what came to the public port and is for a session here."""
        if self._is_behind():
            self._not_sent += 1
        else:
            self._send(TakeDatagram(host_index, address, datagram))

    def take_connection(self, sock: socket.socket, address: Address, first: bytes) -> None:
        """Take a connection and what was read of it."""
        if self._channel is None or self._channel.closed:
            sock.close()
        elif self._is_behind():
            self._not_sent += 1
            sock.close()
        else:
            self._channel.send(encode_order(TakeConnection(address, first)), sock)

    def give_up(self, host_index: int, address: Address) -> None:
        """Tell it that an address is another worker's now."""
        self._send(GiveUp(host_index, address))

    def _is_behind(self) -> bool:
        return self._channel is not None and self._channel.waiting >= MOST_UNREAD

    # --- the process -------------------------------------------------------------------------------------------------

    async def _spawn(self, theirs: socket.socket) -> asyncio.subprocess.Process:
        environment = {
            name: value
            for name, value in os.environ.items()
            if name in _ENVIRONMENT or name.startswith(_ENVIRONMENT_PREFIXES)
        }
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, (_ROOT, os.environ.get("PYTHONPATH"))))
        return await asyncio.create_subprocess_exec(
            *(sys.executable, *PROGRAM, str(self.index), str(theirs.fileno())),
            stdin=asyncio.subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
            env=environment,
        )

    async def _beat(self) -> None:
        await asyncio.wait({self.ready}, timeout=START_SECONDS)
        if not self.ready.done() or (refused := self.ready.exception()) is not None:
            self._lost(f"cannot start: {refused}" if self.ready.done() else "did not start")
            return
        number = 0
        while self._unanswered < MOST_UNANSWERED:
            self._unanswered += 1
            number += 1
            self._send(Beat(number))
            await asyncio.sleep(BEAT_SECONDS)
        self._lost("does not answer")

    def _lost(self, why: str) -> None:
        if not self._over.done():
            self._over.set_result(why)

    def _close(self) -> None:
        """Nothing comes from it any more: its sessions are over, its addresses are strangers'."""
        self.state = WorkerState.DOWN
        self._headroom.forget(self._name)
        if self._stopping is not None:
            self._stopping.cancel()
        if self._channel is not None:
            self._channel.close()
        if self._front is not None:
            self._front.lose(self)
        if self._measuring is not None:
            self._measuring.set_result(None)
            self._measuring = None
        if not self.ready.done():
            self.ready.set_exception(ConfigError(f"worker {self.index} did not start"))
            # Who waits for it may be gone.
            self.ready.exception()
        for session_id, session in self._sessions.items():
            try:
                session.lose(f"worker {self.index} is gone")
            except Exception as error:  # noqa: BLE001 - nor must it keep the end from the others
                self._telemetry.warn("fact_not_taken", session_id=session_id, error=type(error).__name__)
        self._sessions.clear()

    # --- messages ----------------------------------------------------------------------------------------------------

    def _send(self, order: Order) -> None:
        if self._channel is not None:
            self._channel.send(encode_order(order))

    def _on_message(self, message: bytes, _passed: socket.socket | None) -> None:
        """Take a report. What raises here is a fault of the worker's, and costs it its life (Channel)."""
        match decode_report(message):
            case Told(session_id, fact):
                self._on_told(session_id, fact)
            case Alive(_, load):
                self._unanswered = 0
                self.cpu_share = (load.cpu_seconds - self._cpu_seconds_at_beat) / BEAT_SECONDS
                self._cpu_seconds_at_beat = load.cpu_seconds
                self._take_load(load)
                self._tell_headroom(load)
            case Counted(session_id, counters):
                # One that is over since it was counted has its last figures.
                if session_id in self._sessions:
                    self._sessions[session_id].counted(counters)
            case Measured(number, load, dropped):
                self._on_measured(number, load, dropped)
            case Ready() | Refused() | Leaving() as report:
                self._on_life(report)
            case report:
                self._on_ports(report)

    def _on_life(self, report: Ready | Refused | Leaving) -> None:
        if self.ready.done() != isinstance(report, Leaving):
            raise CodecError(f"{type(report).__name__} at the wrong time")
        match report:
            case Ready(addresses):
                self.addresses = addresses
                self.state = WorkerState.READY
                self.ready.set_result(None)
            case Refused(text, number):
                self.ready.set_exception(ConfigError(text) if number is None else OSError(number, text))
            case Leaving():
                self.state = WorkerState.STOPPING

    def _on_told(self, session_id: str, fact: Fact) -> None:
        session = self._sessions.get(session_id)
        if session is None:
            raise CodecError("a fact of a session that there is not")
        try:
            session.take(fact)
        except CodecError:
            raise
        except Exception as error:  # noqa: BLE001 - a fault of ours with one fact must not cost the worker's other sessions
            self._telemetry.warn("fact_not_taken", session_id=session_id, error=type(error).__name__)
            session.command(EndSession(EndReason.RELAY_FAILED, "a fact could not be taken"))
        if session.over:
            del self._sessions[session_id]

    def _on_ports(self, report: PortReport) -> None:
        front = self._front
        if front is None:
            raise CodecError("a worker with ports of its own asks for the public ones")
        match report:
            case ListenFor(ufrag):
                self._ufrags.add(ufrag)
                if len(self._ufrags) > MOST_UFRAGS or len(ufrag) > MOST_UFRAG_CHARACTERS:
                    raise CodecError("too many sessions to listen for, or none")
                front.listen_for(ufrag, self)
            case Forget(ufrag):
                self._ufrags.discard(ufrag)
                front.forget(ufrag, self)
            case Claimed(host_index, address):
                front.claimed(host_index, address, self)
            case Released(host_index, address):
                front.released(host_index, address, self)
            case SendDatagram(host_index, address, datagram):
                front.send(host_index, address, datagram, self)
            case StrayDatagram(host_index, address, datagram):
                front.stray(host_index, address, datagram, self)

    def _on_measured(self, number: int, load: Load, dropped: dict[str, int]) -> None:
        if self._measuring is None or number != self._measured:
            raise CodecError("figures nobody asked for")
        self._dropped = Counter(dropped)
        self._take_load(load)
        self._measuring.set_result(None)
        self._measuring = None

    @property
    def _name(self) -> str:
        return f"worker-{self.index}"

    def _tell_headroom(self, load: Load) -> None:
        if self.state is not WorkerState.READY:
            return
        sample = LoadSample(self.cpu_share, available_cores(), load.loop_lag_seconds, load.open_files, load.max_files)
        self._headroom.take(sample, time.monotonic(), self._name)

    def _take_load(self, load: Load) -> None:
        if load.cpu_seconds < self.load.cpu_seconds:
            raise CodecError("processor time that goes back")
        self.load = load


async def _ended(process: asyncio.subprocess.Process) -> int:
    """What the process exited with, killed if it does not leave by itself."""
    try:
        async with asyncio.timeout(EXIT_SECONDS):
            return await process.wait()
    except TimeoutError:
        return await _killed(process)
    except asyncio.CancelledError:
        await _killed(process)
        raise


async def _killed(process: asyncio.subprocess.Process) -> int:
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    return await process.wait()


def _left_by(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"signal {signal.Signals(-code).name}"
    except ValueError:
        return f"signal {-code}"
