"""What happens to the deployment: twenty sessions, and one fault after another.

Each fault is awaited under the name that dashboards and alerts know it by, within SEEN_SECONDS of happening.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

from support.client import Client

from deploy.monitoring.dashboards import DASHBOARDS
from operations import callers
from operations.callers import talking, together
from operations.programs import Deployment, Program, deployed, put_policies

SEEN_SECONDS = 8.0
"""Scrapes come each second: two of them, and patience with a busy machine."""
RELOAD_SECONDS = 10.0
"""Files are looked at once a second, twice alike, and read by a process of its own."""
ALERT_SECONDS = 25.0
CONSENT_SECONDS = 30.0
SESSIONS = 20
MOST_SECONDS = 150.0
"""About 70 on a quiet machine."""
WINDOW = "10s"
REFUSALS = 16


@dataclass(slots=True)
class Report:
    """What Prometheus said. `seen` is how many seconds each fault took to show."""

    seen: dict[str, float] = field(default_factory=dict)
    fired_when_well: set[tuple[str, str]] = field(default_factory=set)
    fired: set[tuple[str, str]] = field(default_factory=set)
    empty_panels: dict[str, list[str]] = field(default_factory=dict)
    error: str = ""


async def told(directory: Path, pictures: Path | None = None) -> Report:
    """Run it all. What goes wrong on the way is in the report, with the programs' logs, beside what was seen before.

    With `pictures` the dashboards are drawn there as well.
    """
    report = Report()
    async with deployed(directory) as deployment:
        try:
            async with asyncio.timeout(MOST_SECONDS):
                await _Story(deployment, report).run()
            if pictures is not None:
                await deployment.draw(pictures)
        except Exception as error:  # noqa: BLE001 - each test says what it misses; this is why
            report.error = f"{_causes(error)}\n{deployment.logs()}"
    return report


def _causes(error: BaseException) -> str:
    if isinstance(error, BaseExceptionGroup):
        return "; ".join(_causes(each) for each in error.exceptions)
    return f"{type(error).__name__}: {error}"


class _Story:
    def __init__(self, deployment: Deployment, report: Report) -> None:
        self._world = deployment
        self._report = report
        self._ask = deployment.prometheus

    async def run(self) -> None:
        service, relay = await asyncio.gather(self._world.start_service(), self._world.start_relay())
        await self._world.start_prometheus()
        await self._ask.until("relay_ready", lambda ready: ready == 1, 20)
        await self._all_is_well()
        self._report.fired_when_well = await self._ask.fired()
        async with talking(self._world) as witness:  # session 5
            async with self._vanished():
                await self._service_is_slow()
                await self._service_refuses()
                await self._media_is_blocked()
                await self._policies_are_broken()
                await self._somebody_tries(witness)
            await self._disk_is_full(relay, witness)
        # Sessions 17 and 18, which stay until they are cut off.
        async with talking(self._world), talking(self._world):
            await self._service_falls_silent_and_dies(service)
            await self._drain_does_not_end(relay)
        await self._look_back()

    async def _all_is_well(self) -> None:
        """Sessions 1 to 4."""
        await callers.looks_at_the_admin_api(self._world)
        async with contextlib.AsyncExitStack() as stack:
            enter = stack.enter_async_context
            first, second = await enter(talking(self._world)), await enter(talking(self._world))
            watched = await enter(talking(self._world, "watched"))
            async with self._shows("a decision that was only watched", 'relay_policy_decisions_total{mode="audit"}'):
                callers.slips_unhindered(watched)
                await together(callers.speaks(first), callers.slips_instructions(second, 1))
            for client in (first, second):
                await callers.reports(client)
            async with self._shows(
                "a policy changed live", 'relay_policy_live_total{result="confirmed"}', RELOAD_SECONDS
            ):
                put_policies(self._world.policies, "You are the second.")
            # One comes back with another peer connection, one hangs up, one goes away and is waited for.
            async with callers.caller(self._world) as again:
                await again.take_over(second.location, second.minted["value"])
                assert await again.hang_up() == 200
            assert await watched.hang_up() == 200
            async with self._shows("a client that went away", "relay_session_waits_total"):
                await first.peer.close()
        async with talking(self._world) as fourth:
            assert await fourth.hang_up() == 200

    @contextlib.asynccontextmanager
    async def _vanished(self) -> AsyncIterator[None]:
        """Session 6: its far end is gone without a word, which shows only when consent runs out."""
        await self._world.fault(peer_vanishes_after=0.5)
        async with talking(self._world):
            lost = 'relay_sessions_ended_total{reason="service_lost"}'
            async with self._shows("a session that lost the service", lost, seconds=CONSENT_SECONDS):
                yield

    async def _service_is_slow(self) -> None:
        """Sessions 7 and 8; the second runs under other instructions at first."""
        await self._world.fault(mint_delay_ms=3000)
        took = 'relay_upstream_request_seconds_bucket{operation="mint",le="%s"}'
        slow = f"{took % '+Inf'} - on (instance) {took % '2.5'}"
        async with self._shows("a slow mint", slow), talking(self._world) as client:
            await client.hang_up()
        await self._world.fault(wrong_instructions="Be rude.")
        async with self._shows("drift", "relay_policy_drift_total"), talking(self._world) as client:
            error = {"type": "server_error", "code": "rate_limit_exceeded", "message": "Later."}
            await self._world.say({"type": "error", "event_id": "event_1", "error": error})
            await client.hang_up()
        await self._world.fault()

    async def _service_refuses(self) -> None:
        """Sessions 9 to 12."""
        for fault, status, outcome in (("429", 429, "rate_limited"), ("401", 401, "unauthorized")):
            await self._world.fault(mint=fault)
            async with self._shows(
                f"a {fault} of the service", f'relay_upstream_requests_total{{outcome="{outcome}"}}'
            ):
                await together(*(callers.refused(self._world, status) for _ in range(2)))
        await self._world.fault()

    async def _media_is_blocked(self) -> None:
        """Sessions 13 to 16, two on each side."""
        async with self._shows(
            "browsers blocked", 'relay_setup_failures_total{leg="downstream",stage="ice"}', seconds=2.0
        ):
            await together(*(callers.never_connects(self._world) for _ in range(2)))
        await self._world.fault(never_opens="ice")
        async with self._shows("the service's media blocked", 'relay_setup_failures_total{leg="upstream",stage="ice"}'):
            await together(*(callers.unreached(self._world) for _ in range(2)))
        await self._world.fault()

    async def _policies_are_broken(self) -> None:
        async with self._shows(
            "a policy reload that failed", 'relay_policy_reload_total{result="refused"}', seconds=RELOAD_SECONDS
        ):
            put_policies(self._world.policies, "You are the second.", broken="spec: [")
        await self._ask.firing("PolicyReloadFailed", ALERT_SECONDS)
        (self._world.policies / "broken.yaml").unlink()
        switch = self._world.policies / "KILL"
        async with self._shows("the kill switch", "relay_policy_kill_switch", seconds=RELOAD_SECONDS):
            switch.write_text("tenant nobody\n")
        await self._ask.firing("KillSwitchOn", ALERT_SECONDS)
        switch.unlink()

    async def _somebody_tries(self, witness: Client) -> None:
        async with self._shows("guessed keys", 'relay_auth_failures_total{method="client_key"}'):
            await callers.guesses_keys(self._world, REFUSALS)
        async with self._shows("a model without a policy", "relay_policy_unresolved_total"):
            await callers.asks_without_policy(self._world)
        async with self._shows("refused events", 'relay_policy_decisions_total{rule="items.role",verdict="refuse"}'):
            await callers.slips_instructions(witness, REFUSALS)

    async def _disk_is_full(self, relay: Program, witness: Client) -> None:
        async with self._shows("a full audit disk", 'relay_audit_failures_total{reason="write"}'):
            ballast = self._world.fill_disk(relay)
            await callers.slips_instructions(witness, REFUSALS)
        await self._ask.firing("RelayNotReady", ALERT_SECONDS)  # nothing may happen unrecorded
        async with self._shows("the audit disk emptied", "relay_audit_records_total"):
            ballast.unlink()

    async def _service_falls_silent_and_dies(self, service: Program) -> None:
        """Sessions 19 and 20 are tried when it is gone."""
        await self._world.fault(media_stops_after=0, live=True)
        await self._ask.firing("OneWayAudio", ALERT_SECONDS)
        await service.kill()
        async with self._shows("a service that is gone", 'relay_upstream_requests_total{outcome="unreachable"}'):
            await together(*(callers.refused(self._world, 502) for _ in range(2)))

    async def _drain_does_not_end(self, relay: Program) -> None:
        await self._ask.until("sum(relay_sessions_started_total)", lambda count: count == SESSIONS, SEEN_SECONDS)
        async with self._shows("a drain", "relay_draining"):
            relay.process.terminate()
        await self._ask.firing("DrainStuck", ALERT_SECONDS)
        async with self._shows("a relay that is gone", "1 - up", seconds=10):
            relay.process.terminate()
        await self._ask.firing("RelayDown", ALERT_SECONDS)

    async def _look_back(self) -> None:
        """Ask what every panel asks, over the whole run."""
        self._report.fired = await self._ask.fired()
        for dashboard in DASHBOARDS:
            asked = [(panel.title, query.expr) for panel in dashboard.panels() for query in panel.queries]
            exprs = [expr.replace("$__rate_interval", WINDOW).replace("$instance", ".*") for _, expr in asked]
            found = await asyncio.gather(*(self._ask.has_data(expr) for expr in exprs))
            self._report.empty_panels[dashboard.uid] = [
                f"{title}: {expr}" for (title, expr), there in zip(asked, found, strict=True) if not there
            ]

    @contextlib.asynccontextmanager
    async def _shows(self, fault: str, counted: str, seconds: float = 0.0) -> AsyncIterator[None]:
        """What happens inside must make `counted` rise within two scrapes; `seconds` is what the relay itself takes."""
        before = await self._ask.number(f"sum({counted})")
        yield
        self._report.seen[fault] = await self._ask.until(
            f"sum({counted})", lambda now: now > before, SEEN_SECONDS + seconds
        )
