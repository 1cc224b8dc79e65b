"""What the soak looks at, and when it calls something grown."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

# Growth over the run that is taken for noise: a share of the level it began at, and at least so many. RSS in kB.
_NOISE_SHARE = 0.05
_NOISE_LEAST = {"rss_kb": 2_048.0, "descriptors": 8.0, "threads": 2.0, "tasks": 20.0, "objects": 2_000.0}
# The first part of a run fills caches and pools.
_WARM_UP_SHARE = 0.25
_FEWEST_SAMPLES = 4


@dataclass(frozen=True, slots=True)
class Sample:
    """What was seen at one time, `at` seconds after the beginning; lag and latency are since the sample before.

    `lost_percent` is of all packets so far, those under way included; `objects` are those of the relay's and its
    libraries' classes, `living` those that a session is made of.
    """

    at: float
    opened: int
    failed: int
    rss_kb: int
    descriptors: int
    threads: int
    tasks: int
    objects: int
    living: dict[str, int]
    loop_lag_ms: float
    lost_percent: float
    p99_ms: float

    def line(self) -> str:
        """The sample, for a reader; `HEAD` says what is what."""
        return (
            f"{self.at:>8.0f}{self.opened:>9}{self.failed:>8}{self.rss_kb / 1024:>9.1f}{self.descriptors:>13}"
            f"{self.threads:>9}{self.tasks:>7}{self.objects:>9}{self.loop_lag_ms:>9.1f}{self.lost_percent:>8.2f}"
            f"{self.p99_ms:>9.1f}"
        )


HEAD = (
    f"{'seconds':>8}{'opened':>9}{'failed':>8}{'RSS MB':>9}{'descriptors':>13}{'threads':>9}{'tasks':>7}{'objects':>9}"
    f"{'lag ms':>9}{'lost %':>8}{'p99 ms':>9}"
)


@dataclass(frozen=True, slots=True)
class Growth:
    """How much one figure grew from the warm-up to the end, by the median slope, and how much is taken for noise."""

    name: str
    began: float
    grew: float
    an_hour: float
    bound: float

    @property
    def kept(self) -> bool:
        """Whether it stayed within its bound."""
        return self.grew <= self.bound

    def line(self) -> str:
        """The verdict, for a reader."""
        verdict = "steady" if self.kept else "GROWS"
        return (
            f"{self.name:<12} began at {self.began:.0f}, grew by {self.grew:.1f} (bound {self.bound:.1f}), "
            f"{self.an_hour:.0f} an hour: {verdict}"
        )


def growths(samples: Sequence[Sample]) -> list[Growth]:
    """Judge every figure of a run; an empty list when there are too few samples to tell a slope."""
    after = [each for each in samples if each.at >= samples[-1].at * _WARM_UP_SHARE]
    if len(after) < _FEWEST_SAMPLES:
        return []
    return [_growth(name, [(each.at, float(getattr(each, name))) for each in after]) for name in _NOISE_LEAST]


def _growth(name: str, points: Sequence[tuple[float, float]]) -> Growth:
    # Theil and Sen's estimate: single samples taken at a bad moment do not move it.
    slope = statistics.median((y2 - y1) / (x2 - x1) for (x1, y1), (x2, y2) in itertools.combinations(points, 2))
    began = statistics.median(value for _, value in points[:3])
    bound = max(_NOISE_LEAST[name], _NOISE_SHARE * began)
    return Growth(name, began, slope * (points[-1][0] - points[0][0]), slope * 3_600, bound)
