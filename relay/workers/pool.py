"""The workers of one relay: each is kept running, and each new session goes to the one with most room."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence

from relay.core.headroom import Headroom
from relay.core.lifecycle import Fact, SessionStart
from relay.errors import ApiError, ErrorCode
from relay.rtc.advertise import AdvertisedAddress
from relay.rtc.front import Front
from relay.telemetry import Telemetry
from relay.telemetry.workers import WorkerFigures, WorkerState
from relay.workers.messages import SetUp
from relay.workers.remote_session import RemoteSession
from relay.workers.worker import Worker

# A worker that fails again and again is started after one second, two, four, up to so many; one that ran for a minute
# is started at once.
LONGEST_WAIT_SECONDS = 30.0
STEADY_SECONDS = 60.0
_RETRY_AFTER_SECONDS = "5"


class WorkerPool:
    """Runs media sides in worker processes; implements `relay.conversation.Host`.

    One worker for each of `set_ups`, numbered from 1. `front` is the main process's end of the public ports, None if
    each worker has its own; `headroom` is told what each has to carry.
    """

    def __init__(self, set_ups: Sequence[SetUp], telemetry: Telemetry, front: Front | None, headroom: Headroom) -> None:
        def worker(index: int) -> Worker:
            return Worker(index, telemetry, front, headroom)

        self._places = [_Place(worker, index, each, telemetry) for index, each in enumerate(set_ups, start=1)]

    async def open(self) -> None:
        """Start every worker and wait until they are ready.

        Raises OSError or ConfigError if one cannot be; then none is left.
        """
        for place in self._places:
            place.open()
        try:
            await asyncio.gather(*(place.first_ready for place in self._places))
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Stop every worker; sessions that are left end with it."""
        await asyncio.gather(*(place.close() for place in self._places))

    def start(self, start: SessionStart, emit: Callable[[Fact], None]) -> RemoteSession:
        """Begin a session in the worker with the fewest, of those that answer; of equals, in the one that works least.

        Raises ApiError while no worker is ready.
        """
        ready = [place.worker for place in self._places if place.worker.state is WorkerState.READY]
        if not ready:
            retry = {"retry-after": _RETRY_AFTER_SECONDS}
            raise ApiError(503, ErrorCode.AT_CAPACITY, "The relay is starting; try again.", headers=retry)
        return min(ready, key=lambda worker: (worker.silent, worker.sessions, worker.cpu_share)).start(start, emit)

    async def refresh(self, seconds: float) -> None:
        """Ask every worker for its counters, at most for so long; of a slower one the last figures stand."""
        asked = {asyncio.ensure_future(place.worker.measure()) for place in self._places}
        _, late = await asyncio.wait(asked, timeout=seconds)
        for each in late:
            each.cancel()

    def readiness(self) -> dict[str, str]:
        """Why no session can be begun, as `{check: reason}`; empty if one can."""
        if any(place.worker.state is WorkerState.READY for place in self._places):
            return {}
        return {"workers": f"none of {len(self._places)} workers is ready"}

    @property
    def addresses(self) -> tuple[AdvertisedAddress, ...]:
        """What browsers are told of the workers' own ports."""
        return tuple(address for place in self._places for address in place.worker.addresses)

    def figures(self) -> tuple[WorkerFigures, ...]:
        """One entry for each worker, as last told."""
        return tuple(place.figures() for place in self._places)

    def dropped(self) -> Counter[str]:
        """Datagrams that no session of any worker took, by cause."""
        return sum((place.dropped() for place in self._places), Counter())


class _Place:
    """Where one worker runs, and after it the next."""

    def __init__(self, make: Callable[[int], Worker], index: int, set_up: SetUp, telemetry: Telemetry) -> None:
        self.worker = make(index)
        self._make = make
        self.first_ready = self.worker.ready
        self._set_up = set_up
        self._telemetry = telemetry
        self._restarts = 0
        self._past_cpu_seconds = 0.0
        self._past_dropped: Counter[str] = Counter()
        self._keeping: asyncio.Task[None] | None = None
        self._closing = asyncio.Event()

    def open(self) -> None:
        self._keeping = asyncio.create_task(self._keep(), name=f"worker {self.worker.index}")

    async def close(self) -> None:
        if self._keeping is None:
            return
        self._closing.set()
        self.worker.stop()
        await asyncio.gather(self._keeping, return_exceptions=True)

    def figures(self) -> WorkerFigures:
        worker = self.worker
        return WorkerFigures(
            worker.index,
            worker.state,
            worker.sessions,
            self._restarts,
            self._past_cpu_seconds + worker.load.cpu_seconds,
            worker.load.resident_bytes,
            worker.load.loop_lag_seconds,
        )

    def dropped(self) -> Counter[str]:
        return self._past_dropped + self.worker.dropped

    async def _keep(self) -> None:
        loop = asyncio.get_running_loop()
        failures = 0
        while not self._closing.is_set():
            began = loop.time()
            why = await self._live()
            if self._closing.is_set():
                return
            failures = 0 if loop.time() - began >= STEADY_SECONDS else failures + 1
            wait = 0.0 if failures <= 1 else min(2.0 ** (failures - 2), LONGEST_WAIT_SECONDS)
            self._telemetry.warn("worker_lost", worker=self.worker.index, why=why, restart_seconds=wait)
            try:
                async with asyncio.timeout(wait):
                    await self._closing.wait()
            except TimeoutError:
                self._succeed()

    async def _live(self) -> str:
        try:
            return await self.worker.run(self._set_up)
        except OSError as error:
            return f"cannot start: {error.strerror}"
        except Exception as error:  # noqa: BLE001 - a place that nobody keeps would stay empty without a word
            return f"cannot start: {type(error).__name__}: {error}"

    def _succeed(self) -> None:
        """Put a new worker in the place of one that is gone, and keep what that one counted."""
        past = self.worker
        self._past_cpu_seconds += past.load.cpu_seconds
        self._past_dropped += past.dropped
        self._restarts += 1
        self.worker = self._make(past.index)
