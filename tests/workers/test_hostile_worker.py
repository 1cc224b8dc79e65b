"""What the main process makes of workers that crash, lie, or are somebody else by now."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time

import pytest
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs
from support.resources import held, nothing_left_since
from support.workers import eventually

from relay.config import EgressSettings, IceSettings, LogSettings
from relay.core.headroom import AdmissionLimits, Headroom, Resource
from relay.core.lifecycle import (
    Dialect,
    Ended,
    Ending,
    EndSession,
    LegCounters,
    Negotiated,
    Phase,
    PhaseChanged,
    SessionCounters,
    SessionStart,
)
from relay.core.policy import policy_from_instructions
from relay.core.rtp import DropCause
from relay.errors import ApiError, ConfigError, EndReason
from relay.load import open_files
from relay.telemetry import Telemetry
from relay.workers import pool as pool_module
from relay.workers import worker as worker_module
from relay.workers.channel import MAX_WAITING_BYTES
from relay.workers.codec import CodecError, encode_report
from relay.workers.messages import (
    Alive,
    Counted,
    Leaving,
    ListenFor,
    Load,
    Measured,
    OwnPorts,
    Ready,
    Refused,
    SetUp,
    Tell,
    Told,
)
from relay.workers.pool import WorkerPool
from relay.workers.remote_session import RemoteSession

SET_UP = SetUp(OwnPorts(IceSettings()), EgressSettings(), LogSettings())
COUNTED = SessionCounters(upstream=LegCounters(packets_in=7))
READY = encode_report(Ready(()))
START = SessionStart(
    "rs_1", "v=0", Dialect.GA, Dialect.GA, False, "gpt-realtime", policy_from_instructions("Be brief.", "rt")
)


def frame(message: bytes) -> bytes:
    return len(message).to_bytes(4, "big") + b"\0" + message


def program(first: bytes, then: str = "while end.recv(65536): pass", *, on_begin: bytes = b"") -> tuple[str, str]:
    """A worker that sends bytes, then others once it is given a session, and then does something else."""
    lines = [
        "import os, socket, sys, time",
        "end = socket.socket(fileno=int(sys.argv[2]))",
        f"end.sendall({first!r})",
        f"while {bool(on_begin)} and b'rs_1' not in (seen := locals().get('seen', b'') + end.recv(65536)): pass",
        f"end.sendall({on_begin!r})",
        "end.settimeout(60)",
        then,
    ]
    return "-c", "\n".join(lines)


@contextlib.asynccontextmanager
async def pool_of(monkeypatch, worker: tuple[str, ...], headroom: Headroom | None = None):
    monkeypatch.setattr(worker_module, "PROGRAM", worker)
    before = held()
    headroom = headroom or Headroom(AdmissionLimits(100), 0.0)
    pool = WorkerPool([SET_UP], Telemetry(CollectorRegistry()), None, headroom)
    try:
        yield pool
    finally:
        await pool.close()
    await nothing_left_since(before)


def lost(lines):
    return [line for line in lines if line["event"] == "worker_lost"]


LIES = {
    "no report": b"Jnonsense",
    "a pickle": b"\x80\x04c__main__\nx\n.",
    "a fact of nobody's session": encode_report(Told("rs_2", Ending(EndReason.RELAY_FAILED))),
    "over before it ended": encode_report(Told("rs_1", Ended(EndReason.CLIENT_LEFT, "", COUNTED))),
    "ready twice": READY,
    "refused late": encode_report(Refused("no", None)),
    "figures nobody asked for": encode_report(Measured(1, Load())),
    "public ports that are not shared": encode_report(ListenFor("abcd")),
}


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES)
async def test_a_worker_that_lies_is_lost_and_its_session_ends_once(monkeypatch, lie):
    facts = []
    counted = frame(encode_report(Counted("rs_1", COUNTED)))
    async with pool_of(monkeypatch, program(frame(READY), on_begin=counted + frame(lie))) as pool:
        with capture_logs() as lines:
            await pool.open()
            pool.start(START, facts.append)
            await eventually(lambda: lost(lines))
        assert "Error" in lost(lines)[0]["why"]
    assert facts == [Ending(EndReason.WORKER_LOST), Ended(EndReason.WORKER_LOST, "worker 1 is gone", COUNTED)]


async def test_a_worker_that_never_ends_what_it_began_to_end(monkeypatch):
    facts = []
    ending = frame(encode_report(Told("rs_1", Ending(EndReason.CLIENT_LEFT))))
    async with pool_of(monkeypatch, program(frame(READY), "os._exit(7)", on_begin=ending)) as pool:
        with capture_logs() as lines:
            await pool.open()
            session = pool.start(START, facts.append)
            await eventually(lambda: lost(lines))
            session.command(EndSession(EndReason.OPERATOR_ENDED))
        assert lost(lines)[0]["why"] == "closed, exit code 7"
    assert [type(fact) for fact in facts] == [Ending, Ended]
    assert facts[1].reason is EndReason.CLIENT_LEFT


async def test_a_worker_that_is_leaving_is_given_no_session(monkeypatch):
    async with pool_of(monkeypatch, program(frame(READY) + frame(encode_report(Leaving())))) as pool:
        await pool.open()
        await eventually(pool.readiness)
        assert pool.figures()[0].state == "stopping"
        with pytest.raises(ApiError, match="at_capacity"):
            pool.start(START, [].append)


async def test_a_worker_that_does_not_leave_is_killed(monkeypatch):
    monkeypatch.setattr(worker_module, "EXIT_SECONDS", 0.2)
    deaf = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
    async with pool_of(monkeypatch, program(frame(READY), deaf)) as pool:
        await pool.open()
        pid = pool._places[0].worker.pid
        await pool.close()
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


async def test_a_worker_that_crashes_again_and_again_is_waited_for_longer_and_longer(monkeypatch):
    monkeypatch.setattr(pool_module, "LONGEST_WAIT_SECONDS", 1.5)
    async with pool_of(monkeypatch, program(frame(READY), "os._exit(1)")) as pool:
        with capture_logs() as lines:
            await pool.open()
            await eventually(lambda: len(lost(lines)) == 4)
        assert [line["restart_seconds"] for line in lost(lines)] == [0, 1, 1.5, 1.5]
        assert pool.figures()[0].restarts == 3
        assert pool.readiness() == {"workers": "none of 1 workers is ready"}
        with pytest.raises(ApiError, match="at_capacity"):
            pool.start(START, [].append)


REFUSALS = {
    "by the system": (encode_report(Refused("UDP 192.0.2.1 port 9: no", 99)), OSError, r"UDP 192\.0\.2\.1"),
    "by the settings": (encode_report(Refused("ice.advertise: no", None)), ConfigError, "ice.advertise"),
    "by a crash": (b"", ConfigError, "worker 1 did not start"),
}


@pytest.mark.parametrize(("report", "kind", "words"), REFUSALS.values(), ids=REFUSALS)
async def test_a_worker_that_cannot_start_is_an_error_at_the_start(monkeypatch, report, kind, words):
    async with pool_of(monkeypatch, program(frame(report) if report else b"", "os._exit(1)")) as pool:
        with pytest.raises(kind, match=words):
            await pool.open()


async def test_a_worker_that_says_nothing_is_not_waited_for_for_ever(monkeypatch):
    monkeypatch.setattr(worker_module, "START_SECONDS", 0.2)
    async with pool_of(monkeypatch, program(b"")) as pool:
        with pytest.raises(ConfigError, match="did not start"):
            await pool.open()


async def test_a_worker_that_does_not_answer_is_lost(monkeypatch):
    monkeypatch.setattr(worker_module, "BEAT_SECONDS", 0.05)
    alive = frame(encode_report(Alive(1, Load(1.0, 2, 0.5))))
    async with pool_of(monkeypatch, program(frame(READY) + alive, "time.sleep(600)")) as pool:
        with capture_logs() as lines:
            await pool.open()
            await eventually(lambda: pool.figures()[0].cpu_seconds == 1)
            await eventually(lambda: lost(lines))
        assert lost(lines)[0]["why"] == "does not answer, signal SIGKILL"
        # What it used is not forgotten with it.
        await eventually(lambda: pool.figures()[0].restarts)
        assert pool.figures()[0].cpu_seconds >= 1


async def test_a_worker_that_is_stuck_is_given_no_session_while_another_answers(monkeypatch):
    """It has the fewest as soon as it is stuck: all that is opened until it is found lost would go there."""
    monkeypatch.setattr(worker_module, "BEAT_SECONDS", 0.05)
    monkeypatch.setattr(worker_module, "MOST_UNANSWERED", 10**6)
    answers = (
        f"while int(sys.argv[1]) == 2 and end.recv(65536): end.sendall({frame(encode_report(Alive(1, Load())))!r})"
    )
    monkeypatch.setattr(worker_module, "PROGRAM", program(frame(READY), f"{answers}\ntime.sleep(600)"))
    pool = WorkerPool([SET_UP] * 2, Telemetry(CollectorRegistry()), None, Headroom(AdmissionLimits(100), 0.0))
    await pool.open()
    stuck, well = [place.worker for place in pool._places]
    await eventually(lambda: stuck.silent and not well.silent)
    for number in range(3):
        pool.start(_named(number), [].append)
    assert (stuck.sessions, well.sessions) == (0, 3)
    await pool.close()


async def test_what_a_worker_has_to_carry_counts_while_it_lives(monkeypatch):
    headroom = Headroom(AdmissionLimits(100), time.monotonic())
    alive = frame(encode_report(Alive(1, Load(open_files=50, max_files=100))))

    def in_use() -> float:
        return headroom.ratios(0, time.monotonic())[Resource.FILES]

    async with pool_of(monkeypatch, program(frame(READY) + alive), headroom) as pool:
        await pool.open()
        await eventually(in_use)
        pool._places[0].worker.stop()
        await eventually(lambda: not in_use())


async def test_a_worker_that_does_not_read_is_sent_no_more_from_the_network(monkeypatch):
    """A flood is dropped and counted: it costs neither the worker its life nor this process its descriptors."""
    address = ("192.0.2.1", 9)
    async with pool_of(monkeypatch, program(frame(READY), "time.sleep(600)")) as pool:
        await pool.open()
        worker = pool._places[0].worker
        datagram, floods = os.urandom(1200), 2 * MAX_WAITING_BYTES // 1200
        before = open_files()
        with capture_logs() as lines:
            for _ in range(floods):
                worker.take_datagram(0, address, datagram)
            for _ in range(100):
                ours, theirs = socket.socketpair()
                worker.take_connection(ours, address, b"")
                assert theirs.recv(1) == b""
                theirs.close()
            await asyncio.sleep(0)
        assert not lost(lines)
        assert not worker._channel.closed
        waiting = worker._channel.waiting
        assert worker_module.MOST_UNREAD <= waiting < worker_module.MOST_UNREAD + 10  # and beats
        assert open_files() == before
        assert pool.dropped()[DropCause.RATE] > floods / 2
        # What sessions are told goes through all the same.
        pool.start(START, [].append)
        assert worker._channel.waiting == waiting + 1


async def test_a_worker_cannot_fill_memory_with_names_of_sessions():
    room = Headroom(AdmissionLimits(100), 0.0)
    worker = worker_module.Worker(1, Telemetry(CollectorRegistry()), object(), room)
    with pytest.raises(CodecError):
        worker._on_message(encode_report(ListenFor("a" * 257)), None)


async def test_a_place_is_kept_whatever_stands_against_a_start(monkeypatch):
    async with pool_of(monkeypatch, program(frame(READY), "os._exit(1)")) as pool:
        await pool.open()
        spawn, failed = worker_module.Worker._spawn, []

        async def no_thread(self, theirs):
            failed.append(self)
            if len(failed) == 1:
                raise RuntimeError("can't start new thread")
            return await spawn(self, theirs)

        monkeypatch.setattr(worker_module.Worker, "_spawn", no_thread)
        with capture_logs() as lines:
            await eventually(lambda: len(failed) == 2)
        assert "cannot start: RuntimeError: can't start new thread" in [line["why"] for line in lost(lines)]


async def test_a_fault_of_ours_with_one_fact_ends_that_session_alone(monkeypatch):
    told = [Told("rs_1", PhaseChanged(Phase.NEGOTIATING)), Told("rs_1", PhaseChanged(Phase.CONNECTING))]
    facts = b"".join(frame(encode_report(each)) for each in told)
    seen = []

    def emit(fact):
        seen.append(fact)
        raise LookupError

    async with pool_of(monkeypatch, program(frame(READY), on_begin=facts)) as pool:
        with capture_logs() as lines:
            await pool.open()
            pool.start(START, emit)
            await eventually(lambda: len(seen) == 2)
        assert not lost(lines)
        assert {line["event"] for line in lines} == {"fact_not_taken"}
        assert pool.figures()[0].sessions == 1


async def test_sessions_go_to_the_worker_with_the_fewest_and_then_to_the_one_that_works_least(monkeypatch):
    monkeypatch.setattr(worker_module, "PROGRAM", program(frame(READY)))
    pool = WorkerPool([SET_UP] * 3, Telemetry(CollectorRegistry()), None, Headroom(AdmissionLimits(100), 0.0))
    await pool.open()
    workers = [place.worker for place in pool._places]
    for worker, share in zip(workers, (0.5, 0.2, 0.9), strict=True):
        worker.cpu_share = share
    for number in range(7):
        pool.start(_named(number), [].append)
    assert [worker.sessions for worker in workers] == [2, 3, 2]
    workers[1].stop()
    pool.start(_named(7), [].append)
    assert [worker.sessions for worker in workers] == [3, 3, 2]
    await pool.close()


def _named(number: int) -> SessionStart:
    return SessionStart(f"rs_{number}", "v=0", Dialect.GA, Dialect.GA, False, "m", START.policy)


def test_what_a_session_cannot_tell_is_refused():
    sent, facts = [], []
    session = RemoteSession("rs_1", facts.append, sent.append)
    with pytest.raises(CodecError):
        session.take(Ended(EndReason.CLIENT_LEFT, "", COUNTED))
    session.take(Negotiated("a", "b"))
    with pytest.raises(CodecError):
        session.take(Negotiated("a", "b"))
    session.take(Ending(EndReason.CLIENT_LEFT))
    with pytest.raises(CodecError):
        session.take(Ending(EndReason.CLIENT_LEFT))
    session.command(EndSession(EndReason.OPERATOR_ENDED))
    session.take(Ended(EndReason.CLIENT_LEFT, "", COUNTED))
    session.command(EndSession(EndReason.OPERATOR_ENDED))
    session.lose("the worker is gone")
    assert sent == [Tell("rs_1", EndSession(EndReason.OPERATOR_ENDED))]
    assert [type(fact) for fact in facts] == [Negotiated, Ending, Ended]
    assert session.counters() == COUNTED


@pytest.fixture(autouse=True)
async def nobody_waits_forever(monkeypatch):
    # These workers do not know how to leave.
    monkeypatch.setattr(worker_module, "STOP_SECONDS", 0.2)
    async with asyncio.timeout(60):
        yield
