"""What is told of the policies themselves: loaded, refused, replaced, and the kill switch beside them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from relay.telemetry.lines import MOST_LINES
from relay.telemetry.words import UNRESOLVED, Names, fold

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from structlog.typing import FilteringBoundLogger

    from relay.core.kill_switch import KillSwitch
    from relay.telemetry.families import Families
    from relay.telemetry.lines import LineBudget

MOST_POLICIES = 50


class PolicyTelemetry:
    """The facts of policies. `names` are those that labels may hold."""

    def __init__(self, families: Families, log: FilteringBoundLogger, refusal_lines: LineBudget) -> None:
        self.names = Names(MOST_POLICIES)
        self._log = log
        self._refusal_lines = refusal_lines
        self._reloads = families.counter(
            "relay_policy_reload_total", "Policies loaded or refused", "result", each=[["loaded"], ["refused"]]
        )
        self._loaded_at = families.gauge(
            "relay_policy_loaded_timestamp_seconds", "When the policies in force were loaded"
        )
        self._pending = families.gauge(
            "relay_policy_pending", "1 while changed policies were refused and older ones are in force"
        )
        self._info = families.gauge("relay_policy_info", "Policies in force", "policy", "hash12")
        self._kill_switch = families.gauge("relay_policy_kill_switch", "1 while it stops somebody")
        self._live = families.counter(
            "relay_policy_live_total", "Policies replaced in running sessions", "result", each=[["sent"], ["confirmed"]]
        )
        self._unresolved = families.counter(
            "relay_policy_unresolved_total",
            "Sessions without a policy",
            "reason",
            each=[[reason] for reason in sorted(UNRESOLVED)],
        )

    def policies_loaded(self, revisions: Mapping[str, str], warnings: Sequence[str]) -> None:
        """Record which policies are in force, and what their administrator should know of."""
        self.names.add(revisions)
        self._reloads.labels("loaded").inc()
        self._pending.set(0)
        self._loaded_at.set_to_current_time()
        self._info.clear()
        for name in sorted(revisions)[:MOST_POLICIES]:
            self._info.labels(name, revisions[name][:12]).set(1)
        self._log.info("policies_loaded", policies={name: found[:12] for name, found in sorted(revisions.items())})
        for warning in warnings[:MOST_LINES]:
            self._log.warning("policy_warning", message=warning)

    def policies_refused(self, problems: str) -> None:
        """Record that changed policies cannot be put in force, and why; the last good ones stay."""
        self._reloads.labels("refused").inc()
        self._pending.set(1)
        lines = problems.splitlines()
        self._log.error("policies_refused", problems=lines[:MOST_LINES], problems_in_all=len(lines))

    def kill_switch_changed(self, switch: KillSwitch, unknown: tuple[str, ...] = ()) -> None:
        """Record whom the kill switch stops from now on; `unknown` are names in it that no policy knows."""
        self._kill_switch.set(switch.active)
        self._log.warning(
            "kill_switch_changed",
            everybody=switch.everybody,
            tenants=sorted(switch.tenants),
            policies=sorted(switch.policies),
        )
        for name in unknown[:MOST_LINES]:
            self._log.warning("kill_switch_unknown", name=name)

    def policy_unresolved(self, reason: str, detail: str) -> None:
        """Record that a session or key was refused because there is no policy for it."""
        self._unresolved.labels(fold(reason, UNRESOLVED)).inc()
        if (suppressed := self._refusal_lines.spend()) is not None:
            self._log.info("policy_unresolved", reason=reason, detail=detail, **suppressed)

    def policy_replaced(self, session_id: str, policy: str, revision: str) -> None:
        """Record that a running session was given another policy."""
        self._live.labels("sent").inc()
        self._log.info("policy_replaced", session_id=session_id, policy=policy, revision=revision[:12])

    def policy_taken(self, session_id: str, policy: str, revision: str) -> None:
        """Record that the service confirmed the policy a running session was given."""
        self._live.labels("confirmed").inc()
        self._log.info("policy_taken", session_id=session_id, policy=policy, revision=revision[:12])
