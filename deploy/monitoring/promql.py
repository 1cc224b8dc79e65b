"""Expressions in PromQL, put together from a metric's name so that panels and alerts read as what they ask."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Scope:
    """Whom expressions are about (`matchers`) and over which time (`window`, in PromQL's or Grafana's words).

    `kept` are the labels of the scrape that every sum keeps.
    """

    window: str
    matchers: str = ""
    kept: tuple[str, ...] = ()

    def per_second(self, metric: str, *by: str, where: str = "") -> str:
        """Sum up what a counter grows by in a second."""
        return self._sum(f"rate({self._over(metric, where)})", by)

    def counted(self, metric: str, *by: str, where: str = "") -> str:
        """Sum up what a counter grew by in the window."""
        return self._sum(f"increase({self._over(metric, where)})", by)

    def value(self, metric: str, *by: str, where: str = "") -> str:
        """Sum up a gauge as it is now."""
        return self._sum(f"{metric}{self._selector(where)}", by)

    def quantile(self, share: float, histogram: str, *by: str, where: str = "") -> str:
        """Estimate a quantile of a histogram; `histogram` is its name without `_bucket`."""
        buckets = self._sum(f"rate({self._over(histogram + '_bucket', where)})", ("le", *by))
        return f"histogram_quantile({share:g}, {buckets})"

    def above(self, bound: str, histogram: str, *by: str, where: str = "") -> str:
        """Share of observations above the bucket bound `bound`, which must be one of the histogram's."""
        within = f'le="{bound}"' if not where else f'{where},le="{bound}"'
        below = self.per_second(f"{histogram}_bucket", *by, where=within)
        return f"1 - {ratio(below, self.per_second(f'{histogram}_count', *by, where=where))}"

    def _over(self, metric: str, where: str) -> str:
        return f"{metric}{self._selector(where)}[{self.window}]"

    def _selector(self, where: str) -> str:
        inside = ",".join(part for part in (where, self.matchers) if part)
        return f"{{{inside}}}" if inside else ""

    def _sum(self, what: str, by: tuple[str, ...]) -> str:
        labels = (*self.kept, *by)
        return f"sum by ({', '.join(labels)}) ({what})" if labels else f"sum({what})"


def ratio(part: str, whole: str) -> str:
    """Divide; nothing is said where `whole` is 0, because 0 of 0 is no share."""
    return f"{part} / ({whole} > 0)"


def or_nothing(part: str, whole: str) -> str:
    """Read `part` as 0 where it has no series yet although `whole` has: a counter is born with its first count."""
    return f"({part} or 0 * {whole})"
