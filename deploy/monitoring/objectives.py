"""What users are promised, as recording rules, and alerts on how fast a promise's allowance is used up.

An objective's `bad` share is recorded over several windows. The pairs of windows and the factors are those of the
Site Reliability Workbook, chapter 5: the long window says that it matters, the short one that it still goes on.
"""

from __future__ import annotations

from dataclasses import dataclass

from deploy.monitoring.promql import Scope, or_nothing, ratio
from deploy.monitoring.rules import Alert, Recorded, Severity
from deploy.monitoring.timing import Timing

WINDOWS = ("5m", "30m", "1h", "6h", "3d")
# Ends and failures that nobody's fault but the user's own will, or the operator's.
WANTED = "client_hung_up|client_left|offer_refused|operator_ended|policy_killed|relay_draining|request_cancelled"
# What a session's end is called when the relay itself let it down.
OUR_FAULTS = "relay_failed|worker_lost"
DELAY_BOUND = "0.01"


@dataclass(frozen=True, slots=True)
class Objective:
    """One promise: at most `allowed` of `whole` is bad. Its series: `job:relay_<subject>:bad_share_<window>`."""

    subject: str
    alert: str
    allowed: float
    words: str
    page_at: int
    """So many bad ones must there be in the long window before somebody is paged."""

    def bad(self, scope: Scope) -> str:
        """How many were bad in the scope's window."""
        match self.subject:
            case "setup":
                return scope.counted("relay_setup_failures_total", where=f'reason!~"{WANTED}"')
            case _:
                return scope.counted("relay_sessions_ended_total", where=f'reason=~"{OUR_FAULTS}"')

    def whole(self, scope: Scope) -> str:
        """Of how many."""
        match self.subject:
            case "setup":
                return scope.counted("relay_sessions_started_total")
            case _:
                return scope.counted("relay_sessions_ended_total")

    def share(self, scope: Scope) -> str:
        """The bad share; 0 when something happened and nothing was bad."""
        whole = self.whole(scope)
        return ratio(or_nothing(self.bad(scope), whole), whole)

    def recorded(self, window: str) -> str:
        """Name of the series with the bad share over a window."""
        return f"job:relay_{self.subject}:bad_share_{window}"


SETUP = Objective("setup", "SetupBudgetBurning", 0.005, "of sessions do not come up", page_at=5)
DROPS = Objective("drops", "DropBudgetBurning", 0.001, "of sessions are dropped by the relay", page_at=2)
OBJECTIVES = (SETUP, DROPS)


def delay_above(scope: Scope) -> str:
    """Share of forwarded packets that the relay held longer than promised (10 ms for 99 of 100)."""
    return scope.above(DELAY_BOUND, "relay_media_forward_seconds")


def recordings(timing: Timing) -> list[Recorded]:
    """Record each objective's bad share over every window, and the tail of the added delay."""
    rules = [
        Recorded(objective.recorded(window), objective.share(Scope(timing.window(window), kept=("job",))))
        for objective in OBJECTIVES
        for window in WINDOWS
    ]
    for window in ("5m", "1h"):
        scope = Scope(timing.window(window), kept=("job",))
        rules.append(Recorded(f"job:relay_delay:above_10ms_share_{window}", delay_above(scope)))
        rules.append(
            Recorded(f"job:relay_delay:p99_seconds_{window}", scope.quantile(0.99, "relay_media_forward_seconds"))
        )
    return rules


def budget_alerts(timing: Timing) -> list[Alert]:
    """Page when an allowance is used up within days, write a ticket when it is being used up at all."""
    alerts = []
    for objective in OBJECTIVES:
        enough = f"{objective.bad(Scope(timing.window('6h'), kept=('job',)))} >= {timing.needed(objective.page_at)}"
        page = " or ".join(_both(objective, *pair) for pair in ((14.4, "1h", "5m"), (6.0, "6h", "30m")))
        words = f"{{{{ $value | humanizePercentage }}}} {objective.words}; allowed are {objective.allowed:.1%}"
        alerts += [
            Alert(objective.alert, Severity.PAGE, f"{words} a month.", f"({page}) and {enough}", hold="2m"),
            Alert(
                objective.alert,
                Severity.TICKET,
                f"{words} in the long run.",
                _both(objective, 1.0, "3d", "6h"),
                hold="1h",
            ),
        ]
    return alerts


def _both(objective: Objective, factor: float, long: str, short: str) -> str:
    bound = f"{factor * objective.allowed:g}"
    return f"({objective.recorded(long)} > {bound} and {objective.recorded(short)} > {bound})"
