"""How much room the relay has, and whether one more session may come in: samples in, verdict out, time as an argument.

A ratio is what is used of what may be used before sessions are refused: at 1 they are. CPU, loop and files are
smoothed, so that one pause refuses nobody, and let sessions in again only below 0.9, so that the verdict does not flap.
A set-up costs CPU before that shows in any sample: set-ups are let in as fast as the free CPU pays for them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

MAIN = "main"
SAMPLE_SECONDS = 1.0
_SMOOTHING_SECONDS = 3.0
_AGAIN_BELOW = 0.9
# A process that sent nothing for so long does not turn its loop: what is longer counts as its lag.
_SILENT_SECONDS = 3.0
# With no CPU to spare and none refused yet, set-ups are paid for by this share of a core.
_LEAST_CORES = 0.05
_RETRY_SECONDS = 5.0
_LONGEST_RETRY_SECONDS = 30.0


class Resource(StrEnum):
    """What can run short; `setups` is the number of sessions begun in a short time."""

    SESSIONS = "sessions"
    CPU = "cpu"
    LOOP = "loop"
    PORTS = "ports"
    FILES = "files"
    SETUPS = "setups"


_SMOOTHED = (Resource.CPU, Resource.LOOP, Resource.FILES)


@dataclass(frozen=True, slots=True)
class LoadSample:
    """One process in the last second.

    `cpu` is in cores (1: all of one), `cores` how many it and its siblings may use together, `loop_lag_seconds` how
    late timers ran on average, `max_files` its limit on open files, 0 for none.
    """

    cpu: float
    cores: float
    loop_lag_seconds: float
    open_files: int = 0
    max_files: int = 0


@dataclass(frozen=True, slots=True)
class AdmissionLimits:
    """When sessions are refused; 0 switches the limit off.

    `cpu` is a share of one core for each process, and of all `cores` for all together; `files` a share of the open
    files; `ports` how many there are for sessions; `setups` how many may begin at one time, each expected to cost
    `setup_cpu_seconds`.
    """

    max_sessions: int
    ports: int = 0
    cpu: float = 0.85
    loop_lag_seconds: float = 0.03
    files: float = 0.9
    setups: int = 10
    setup_cpu_seconds: float = 0.02


@dataclass(frozen=True, slots=True)
class Shortage:
    """Why a session is refused, and after how many seconds it is worth asking again."""

    resource: Resource
    retry_seconds: float


@dataclass(slots=True)
class _Process:
    """Smoothed figures of one process."""

    at: float
    cores: float = 1.0
    cpu: float = 0.0
    lag: float = 0.0
    files: float = 0.0


class Headroom:
    """The room of one relay: of its process `main`, which every session needs, and of one of its workers, if any."""

    def __init__(self, limits: AdmissionLimits, now: float) -> None:
        self._limits = limits
        self._processes: dict[str, _Process] = {MAIN: _Process(now)}
        self._short: set[Resource] = set()
        self._now = now
        # CPU seconds: of set-ups let in and not paid for; of those refused, who shall come back one after the other;
        # paid since the last sample; and the smoothed share of the measured CPU that set-ups have.
        self._owed = 0.0
        self._refused = 0.0
        self._paid = 0.0
        self._setup_cpu = 0.0

    def take(self, sample: LoadSample, now: float, process: str = MAIN) -> None:
        """Take a sample of a process; a name not seen before is a new worker."""
        self._pay(now)
        known = self._processes.setdefault(process, _Process(now))
        weight = 1 - math.exp(-max(now - known.at, SAMPLE_SECONDS / 10) / _SMOOTHING_SECONDS)
        if process == MAIN:
            self._setup_cpu += weight * (self._paid / max(now - known.at, SAMPLE_SECONDS / 10) - self._setup_cpu)
            self._paid = 0.0
        files = sample.open_files / sample.max_files if sample.max_files else 0.0
        known.at, known.cores = now, sample.cores
        known.cpu += weight * (sample.cpu - known.cpu)
        known.lag += weight * (sample.loop_lag_seconds - known.lag)
        known.files += weight * (files - known.files)

    def forget(self, process: str) -> None:
        """A worker is gone."""
        self._processes.pop(process, None)

    def judge(self, sessions: int, now: float) -> Shortage | None:
        """Whether one more than so many sessions may come in: None, or what is short."""
        lacking = self.lacks(sessions, now)
        if lacking is not Resource.SETUPS:
            return None if lacking is None else Shortage(lacking, _RETRY_SECONDS)
        free = self._free_cores()
        # A line longer than the longest wait is none: whoever asks again and again moves nobody further back.
        self._refused = min(self._refused + self._cost, _LONGEST_RETRY_SECONDS * free)
        return Shortage(Resource.SETUPS, min(1 + (self._owed + self._refused) / free, _LONGEST_RETRY_SECONDS))

    def lacks(self, sessions: int, now: float) -> Resource | None:
        """What one more than so many sessions would lack now, if nobody is told to come back for it."""
        short = self.short(sessions, now)
        if short:
            return short[0]
        limits = self._limits
        fits = not limits.setups or self._owed + self._cost <= limits.setups * self._cost
        return None if fits else Resource.SETUPS

    def begin(self, now: float) -> None:
        """A session that was let in begins to be set up."""
        self._pay(now)
        self._owed += self._cost

    def short(self, sessions: int, now: float) -> tuple[Resource, ...]:
        """What stands against new sessions; not set-ups, which are short for moments only."""
        ratios = self.ratios(sessions, now)
        for resource in _SMOOTHED:
            if ratios[resource] >= 1:
                self._short.add(resource)
            elif ratios[resource] < _AGAIN_BELOW:
                self._short.discard(resource)
        exact = {each for each in (Resource.SESSIONS, Resource.PORTS) if ratios[each] >= 1}
        return tuple(each for each in Resource if each in exact | self._short)

    def ratios(self, sessions: int, now: float) -> dict[Resource, float]:
        """What is used of each resource, 1 being where sessions are refused; 0 where nothing limits it."""
        self._pay(now)
        limits = self._limits
        main, worker = self._processes[MAIN], self._roomiest(now)
        everything = sum(each.cpu for each in self._processes.values())
        return {
            Resource.SESSIONS: _share(sessions, limits.max_sessions),
            Resource.CPU: max(
                self._cpu_ratio(main), self._cpu_ratio(worker), _share(everything, limits.cpu * main.cores)
            ),
            Resource.LOOP: max(self._lag_ratio(main, now), self._lag_ratio(worker, now)),
            Resource.PORTS: _share(sessions, limits.ports),
            Resource.FILES: max(_share(main.files, limits.files), _share(worker.files, limits.files)),
            Resource.SETUPS: _share(self._owed, limits.setups * self._cost),
        }

    @property
    def _cost(self) -> float:
        return self._limits.setup_cpu_seconds

    def _roomiest(self, now: float) -> _Process:
        """The worker a session would go to; without workers, main."""
        workers = [each for name, each in self._processes.items() if name != MAIN]
        if not workers:
            return self._processes[MAIN]
        return min(workers, key=lambda each: max(self._cpu_ratio(each), self._lag_ratio(each, now)))

    def _cpu_ratio(self, process: _Process) -> float:
        return _share(process.cpu, self._limits.cpu)

    def _lag_ratio(self, process: _Process, now: float) -> float:
        return _share(max(process.lag, now - process.at - _SILENT_SECONDS), self._limits.loop_lag_seconds)

    def _free_cores(self) -> float:
        """The CPU that pays for set-ups: up to where refused sessions are let in again, less what sessions need."""
        main = self._processes[MAIN]
        target = _AGAIN_BELOW * (self._limits.cpu or 1.0)
        places = max(1, len(self._processes) - 1)
        used = sum(each.cpu for each in self._processes.values()) - self._setup_cpu
        return max(_LEAST_CORES, target * min(places, main.cores) - max(0.0, used))

    def _pay(self, now: float) -> None:
        """Let the time since the last look pay for set-ups, and move up who was refused."""
        earned = max(0.0, now - self._now) * self._free_cores()
        paid = min(earned, self._owed)
        self._now = max(now, self._now)
        self._owed -= paid
        self._paid += paid
        self._refused = max(0.0, self._refused - earned)


def _share(used: float, limit: float) -> float:
    return used / limit if limit else 0.0
