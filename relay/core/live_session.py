"""One session as an administrator sees it, while it runs and when it is over. Nothing in it is content."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from relay.core.lifecycle import Dialect, LegCounters, MediaSample, Phase, SessionCounters

_MILLISECONDS = 1000


@dataclass(frozen=True, slots=True)
class LiveSession:
    """What is known of a session now. Times are Unix seconds; `subject` is a hash; `member` the upstream pool's.

    `turns` counts answers by how they ended, `transports` names what carries each leg now, `quality` is by leg.
    """

    id: str
    tenant: str
    subject: str
    policy: str
    revision: str
    door: str
    dialect: Dialect
    phase: Phase
    started_at: float
    seconds: float
    deployment: str
    member: str
    transports: Mapping[str, str]
    quality: Mapping[str, Mapping[str, float | int | None]]
    turns: Mapping[str, int]
    tokens: int
    dollars: float

    def as_json(self) -> dict[str, Any]:
        """The session as the admin API shows it."""
        return {
            "id": self.id,
            "tenant": self.tenant,
            "subject": self.subject,
            "policy": self.policy,
            "revision": self.revision,
            "door": self.door,
            "dialect": self.dialect.value,
            "phase": self.phase.value,
            "started_at": round(self.started_at, 3),
            "seconds": round(self.seconds, 1),
            "deployment": self.deployment,
            "member": self.member,
            "transports": dict(self.transports),
            "quality": {leg: dict(figures) for leg, figures in self.quality.items()},
            "turns": dict(self.turns),
            "tokens": self.tokens,
            "dollars": round(self.dollars, 6),
        }


def quality(counters: SessionCounters, samples: Mapping[str, MediaSample]) -> dict[str, dict[str, float | int | None]]:
    """Both legs' figures by name of leg, from what was counted and the last sample of each."""
    legs = {"downstream": counters.downstream, "upstream": counters.upstream}
    return {name: _leg_quality(figures, samples.get(name)) for name, figures in legs.items()}


def _leg_quality(figures: LegCounters, sample: MediaSample | None) -> dict[str, float | int | None]:
    """The sample is of the last seconds, where the counters tell of the whole session."""
    expected = figures.packets_in + max(0, figures.packets_lost)
    whole = max(0, figures.packets_lost) / expected if expected else None
    recent = None if sample is None else sample.loss_in
    return {
        "loss": _rounded(whole if recent is None else recent),
        "jitter_ms": _milliseconds(figures.jitter_seconds, None if sample is None else sample.jitter_seconds),
        "rtt_ms": _milliseconds(figures.rtt_seconds, None if sample is None else sample.rtt_seconds),
        "packets_in": figures.packets_in,
        "packets_out": figures.packets_out,
    }


def _milliseconds(counted: float | None, sampled: float | None) -> float | None:
    seconds = sampled if counted is None else counted
    return None if seconds is None else round(seconds * _MILLISECONDS, 1)


def _rounded(share: float | None) -> float | None:
    return None if share is None else round(share, 4)
