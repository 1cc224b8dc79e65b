"""Metrics: totals that never fall, labels from closed sets, one log line at each end of a session."""

from __future__ import annotations

import shutil
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from relay.api.door_names import Door
from relay.api.telemetry_port import AuthMethod
from relay.config_prices import PRICED
from relay.core.client_stats import ClientStats
from relay.core.lifecycle import Decided, Dialect, LegCounters, LegName, MediaSample, Phase, SessionCounters, Stage
from relay.core.prices import priced
from relay.core.record import Governed, SessionRecord
from relay.core.rtp import DropCause
from relay.core.turn_facts import TokenDirection, TokenKind
from relay.errors import EndReason, ErrorCode
from relay.telemetry import Telemetry, render_metrics
from relay.telemetry.lines import LINES_PER_SECOND
from relay.telemetry.words import AUTH_METHODS, DOORS, OPERATIONS, OTHER, OUTCOMES
from relay.upstream.service import Operation, ServiceRefusal

REVISION = "0123456789abcdef" * 4


@pytest.fixture
def registry():
    return CollectorRegistry()


@pytest.fixture
def telemetry(registry):
    return Telemetry(registry, clock=lambda: 1.0)


def counters(packets=0, events=None, dropped=None, **downstream):
    leg = LegCounters(packets_in=packets, bytes_in=packets * 100, dropped=dropped or {}, **downstream)
    return SessionCounters(downstream=leg, events=events or {})


def record(session_id, counted=None, reason=EndReason.CLIENT_LEFT, **changed):
    return SessionRecord(
        session_id=session_id,
        door="ga_calls",
        dialect=Dialect.GA,
        reason=reason,
        detail="",
        duration_seconds=12.3456,
        policy="default",
        revision=REVISION,
        counters=counted or SessionCounters(),
        **changed,
    )


def attach(telemetry, live, **extra):
    telemetry.sessions.attach(lambda: live, ready=lambda: True, draining=lambda: False, **extra)


def packets(registry):
    return registry.get_sample_value("relay_media_packets_total", {"leg": "downstream", "direction": "in"}) or 0


def series(registry):
    return {(s.name, tuple(sorted(s.labels.items()))) for family in registry.collect() for s in family.samples}


def test_live_and_ended_sessions_add_up(telemetry, registry):
    live = {"rs_1": counters(5, {("downstream", "session.update", "strip"): 2}, {"rate": 3})}
    attach(telemetry, live)
    for session_id in ("rs_1", "rs_2"):
        telemetry.sessions.opened(session_id, "ga_calls", Dialect.GA)
    telemetry.sessions.ended(record("rs_2", counters(7, {("downstream", "session.update", "strip"): 1}, {"rate": 1})))
    assert packets(registry) == 12
    event = {"leg": "downstream", "event": "session.update", "verdict": "strip"}
    assert registry.get_sample_value("relay_channel_events_total", event) == 3
    drop = {"leg": "downstream", "cause": DropCause.RATE.value}
    assert registry.get_sample_value("relay_media_packets_dropped_total", drop) == 4


def test_a_session_between_registry_and_record_is_neither_lost_nor_counted_twice(telemetry, registry):
    live = {"rs_1": counters(5)}
    attach(telemetry, live)
    telemetry.sessions.opened("rs_1", "ga_calls", Dialect.GA)
    assert packets(registry) == 5
    gone = live.pop("rs_1")
    assert packets(registry) == 5
    live["rs_1"] = gone
    telemetry.sessions.ended(record("rs_1", counters(6)))
    assert packets(registry) == 6
    live.clear()
    assert packets(registry) == 6


def test_a_second_end_is_reported_and_not_counted(telemetry, registry):
    attach(telemetry, {})
    telemetry.sessions.opened("rs_1", "ga_calls", Dialect.GA)
    telemetry.sessions.ended(record("rs_1", counters(5)))
    with capture_logs() as lines:
        telemetry.sessions.ended(record("rs_1", counters(5)))
    assert packets(registry) == 5
    assert registry.get_sample_value("relay_sessions_ended_total", {"side": "client", "reason": "client_left"}) == 1
    assert [line["event"] for line in lines] == ["session_ended_unopened"]


steps = st.lists(
    st.tuples(st.sampled_from(["open", "count", "leave", "end", "scrape"]), st.integers(0, 3)), max_size=40
)


@settings(deadline=None, max_examples=30)
@given(steps)
def test_totals_never_fall_whatever_the_order(todo):
    registry = CollectorRegistry()
    telemetry = Telemetry(registry)
    live, counted, opened = {}, {}, set()
    attach(telemetry, live)
    seen = 0
    for action, number in todo:
        session_id = f"rs_{number}"
        match action:
            case "open" if session_id not in counted:
                telemetry.sessions.opened(session_id, "ga_calls", Dialect.GA)
                opened.add(session_id)
                counted[session_id] = 0
                live[session_id] = counters(0)
            case "count" if session_id in live and session_id in opened:
                counted[session_id] += 1
                live[session_id] = counters(counted[session_id])
            case "leave":
                live.pop(session_id, None)
            case "end" if session_id in opened:
                opened.remove(session_id)
                telemetry.sessions.ended(record(session_id, counters(counted[session_id])))
        now = packets(registry)
        assert seen <= now <= sum(counted.values())
        seen = now
    for session_id in opened:
        telemetry.sessions.ended(record(session_id, counters(counted[session_id])))
    assert packets(registry) == sum(counted.values())


def test_phases_are_those_of_open_sessions(telemetry, registry):
    attach(telemetry, {})
    telemetry.sessions.opened("rs_1", "ga_calls", Dialect.GA)
    telemetry.sessions.phase_changed("rs_1", Phase.ACTIVE)
    telemetry.sessions.phase_changed("rs_unknown", Phase.ACTIVE)
    assert registry.get_sample_value("relay_sessions_active", {"phase": "active"}) == 1
    telemetry.sessions.ended(record("rs_1"))
    telemetry.sessions.phase_changed("rs_1", Phase.ACTIVE)
    assert registry.get_sample_value("relay_sessions_active", {"phase": "active"}) == 0


def test_state_and_drops_before_any_session_are_read_when_scraped(telemetry, registry):
    state = {"ready": False}
    drops = {"stranger": 2, "invented": 1}
    telemetry.sessions.attach(
        dict, ready=lambda: state["ready"], draining=lambda: not state["ready"], endpoint_drops=lambda: drops
    )
    assert registry.get_sample_value("relay_ready") == 0
    assert registry.get_sample_value("relay_draining") == 1
    state["ready"] = True
    assert registry.get_sample_value("relay_ready") == 1
    dropped = "relay_media_packets_dropped_total"
    assert registry.get_sample_value(dropped, {"leg": "downstream", "cause": "stranger"}) == 2
    assert registry.get_sample_value(dropped, {"leg": "downstream", "cause": OTHER}) == 1


def test_facts_move_their_metrics(telemetry, registry):
    telemetry.sessions.stage_done(LegName.UPSTREAM, Stage.MINT, 0.2)
    telemetry.sessions.setup_failed(LegName.DOWNSTREAM, Stage.ICE, EndReason.CLIENT_UNREACHABLE)
    telemetry.policies.policies_loaded({"desk": "f" * 64}, ())
    decided = Decided(LegName.DOWNSTREAM, "session.update", "strip", "session.instructions")
    telemetry.decisions.decided("rs_1", decided, Governed("desk", "f" * 64, "default", "ab"))
    telemetry.doors.door_refused("ga_calls", 401, ErrorCode.INVALID_API_KEY)
    telemetry.doors.auth_failed("client_key")
    telemetry.service.requested("mint", "rate_limited", 0.5)
    expected = {
        "relay_setup_stage_seconds_count": {"leg": "upstream", "stage": "mint"},
        "relay_setup_failures_total": {"leg": "downstream", "stage": "ice", "reason": "client_unreachable"},
        "relay_policy_decisions_total": {
            "policy": "desk",
            "rule": "session.instructions",
            "verdict": "strip",
            "mode": "enforce",
        },
        "relay_policy_info": {"policy": "desk", "hash12": "f" * 12},
        "relay_policy_reload_total": {"result": "loaded"},
        "relay_admission_total": {"result": "refused", "reason": "invalid_api_key"},
        "relay_auth_failures_total": {"method": "client_key"},
        "relay_upstream_requests_total": {"operation": "mint", "outcome": "rate_limited"},
        "relay_upstream_request_seconds_count": {"operation": "mint"},
    }
    for name, labels in expected.items():
        assert registry.get_sample_value(name, labels) == 1, name


def test_the_record_becomes_one_line_with_short_revision_and_no_empty_figures(telemetry):
    counted = counters(5, {("upstream", "error", "forward"): 2, ("upstream", "session.created", "rewrite"): 1})
    with capture_logs() as lines:
        telemetry.sessions.opened("rs_1", "ga_calls", Dialect.GA)
        telemetry.sessions.ended(
            record(
                "rs_1", counted, stages={"upstream.ice": 0.123456}, request_ids=("abc",), reason=EndReason.SERVICE_LOST
            )
        )
    opened, ended = lines
    assert (opened["event"], opened["session_id"], opened["door"]) == ("session_opened", "rs_1", "ga_calls")
    assert (ended["event"], ended["side"], ended["reason"]) == ("session_ended", "service", "service_lost")
    assert ended["revision"] == REVISION[:12]
    assert ended["duration_seconds"] == 12.346
    assert ended["stages"] == {"upstream.ice": 0.1235}
    assert ended["downstream"] == {"packets_in": 5, "bytes_in": 500}
    assert ended["upstream"] == {}
    assert ended["events"] == {"upstream.forward": 2, "upstream.rewrite": 1}
    assert ended["service_request_ids"] == ("abc",)


def test_of_a_sample_only_what_is_known_is_observed(telemetry, registry):
    telemetry.media.sampled(MediaSample(LegName.DOWNSTREAM, jitter_seconds=0.004, forward_seconds=(0.0002, 0.0003)))
    telemetry.media.sampled(MediaSample(LegName.UPSTREAM, loss_in=0.5, loss_out=0.0, rtt_seconds=0.02))
    found = {
        (sample.name, sample.labels["leg"], sample.labels.get("direction")): sample.value
        for family in registry.collect()
        if family.name.startswith("relay_media_")
        for sample in family.samples
        if sample.name.endswith("_count")
    }
    assert found == {
        ("relay_media_jitter_seconds_count", "downstream", None): 1,
        ("relay_media_forward_seconds_count", "downstream", None): 2,
        ("relay_media_loss_ratio_count", "upstream", "in"): 1,
        ("relay_media_loss_ratio_count", "upstream", "out"): 1,
        ("relay_media_rtt_seconds_count", "upstream", None): 1,
    }


def test_tokens_have_a_price_where_one_was_given(registry):
    telemetry = Telemetry(registry, prices={"contoso-rt": {"input_audio": 32.0, "cached_audio": 0.4, "minute": 0.6}})
    telemetry.deployments.add({"contoso-rt", "free"})
    tokens = {("input", "audio"): 500_000, ("input", "cached_audio"): 1_000_000, ("output", "text"): 7}
    for deployment in ("contoso-rt", "free", "invented"):
        telemetry.turns.used(deployment, tokens, 30.0)
    assert registry.get_sample_value("relay_cost_estimate_usd_total", {"deployment": "contoso-rt"}) == 16.0 + 0.4 + 0.3
    assert registry.get_sample_value("relay_cost_estimate_usd_total", {"deployment": "free"}) is None
    for deployment in ("free", OTHER):
        labels = {"deployment": deployment, "direction": "output", "kind": "text"}
        assert registry.get_sample_value("relay_tokens_total", labels) == 7
        assert registry.get_sample_value("relay_transcription_seconds_total", {"deployment": deployment}) == 30


def test_every_kind_of_token_can_have_a_price():
    kinds = {priced(direction, kind) for direction in TokenDirection for kind in TokenKind}
    assert kinds - {"output_image"} == set(PRICED) - {"minute"}


def test_an_expiry_is_told_while_there_is_one(telemetry, registry):
    at = {"entra": None}
    telemetry.service.watch_expiry("entra", lambda: at["entra"])
    name = "relay_credential_expiry_timestamp_seconds"
    assert registry.get_sample_value(name, {"credential": "entra"}) is None
    at["entra"] = 1_800_000_000
    assert registry.get_sample_value(name, {"credential": "entra"}) == 1_800_000_000


def test_a_refused_report_is_no_refused_session(telemetry, registry):
    telemetry.doors.door_refused("ga_stats", 429, ErrorCode.RATE_LIMIT_EXCEEDED)
    assert registry.get_sample_value("relay_client_reports_total", {"result": "refused"}) == 1
    refused = {"result": "refused", "reason": "rate_limit_exceeded"}
    assert registry.get_sample_value("relay_admission_total", refused) == 0


def hostile(telemetry, live, number):
    """One session whose every free word is new."""
    word = f'{number}"\n}} x{{evil="1"'
    telemetry.sessions.opened(f"rs_{number}", word, Dialect.GA)
    telemetry.sessions.phase_changed(f"rs_{number}", Phase.ACTIVE)
    telemetry.sessions.stage_done(word, word, 1.0)
    telemetry.sessions.setup_failed(word, word, word)
    decided = Decided(LegName.DOWNSTREAM, word, word, word, mode=word, would_be=word)
    telemetry.decisions.decided(f"rs_{number}", decided, Governed(word, word, word, word))
    telemetry.policies.policy_unresolved(word, word)
    telemetry.decisions.decision_log_failed(word, word)
    telemetry.doors.door_refused(word, 400, word)
    telemetry.doors.auth_failed(word)
    telemetry.service.requested(word, word, 0.1)
    telemetry.service.erred(word, word)
    telemetry.service.limits_told(word, {word: 0.5})
    telemetry.media.sampled(MediaSample(word, 0.1, 0.1, 0.1, 0.1, (0.1,)))
    telemetry.turns.answer_began(word, 0.5)
    telemetry.turns.answered(word, word)
    telemetry.turns.interrupted(word)
    telemetry.turns.used(word, {(word, word): 3}, 1.0)
    telemetry.clients.transport_used(word, word)
    telemetry.clients.consent_lost(word)
    telemetry.clients.gone(f"rs_{number}", word, word, 1.0)
    telemetry.clients.reattach_failed(f"rs_{number}", word, word)
    telemetry.browsers.reported(ClientStats(0.1, 0.1, 0.1, 0.1, 0.1, 0.1))
    telemetry.policies.policy_replaced(f"rs_{number}", word, word)
    telemetry.policies.policy_taken(f"rs_{number}", word, word)
    counted = counters(1, {(word, word, word): 1}, {word: 1})
    live[f"rs_{number}"] = counted
    if number % 2:
        telemetry.sessions.ended(record(f"rs_{number}", live.pop(f"rs_{number}")))


def test_a_thousand_hostile_sessions_add_no_series(telemetry, registry):
    live = {}
    attach(telemetry, live)
    for number in range(2):
        hostile(telemetry, live, number)
    before = series(registry)
    with capture_logs():
        for number in range(2, 1000):
            hostile(telemetry, live, number)
    assert series(registry) == before
    text = render_metrics(registry)[0].decode()
    assert "evil" not in text
    assert 'relay_channel_events_total{event="other",leg="other",verdict="other"} 1000.0' in text


def test_policies_that_come_and_go_for_ever_take_fifty_names_at_most(telemetry, registry):
    with capture_logs():
        for number in range(40):
            revisions = {f"policy-{number}-{each}": "f" * 64 for each in range(5)}
            telemetry.policies.policies_loaded(revisions, ())
            for name in revisions:
                decided = Decided(LegName.DOWNSTREAM, "response.create", "strip", "responses.overrides")
                telemetry.decisions.decided("rs_1", decided, Governed(name, "f" * 64, "default", "ab"))
    labels = [
        sample.labels["policy"]
        for family in registry.collect()
        for sample in family.samples
        if sample.name == "relay_policy_decisions_total"
    ]
    assert len(labels) == 51
    assert labels.count("other") == 1
    current = [
        sample for family in registry.collect() for sample in family.samples if sample.name == "relay_policy_info"
    ]
    assert {sample.labels["policy"] for sample in current} == set(revisions)


def test_lines_that_strangers_cause_are_limited_and_the_rest_counted(registry):
    now = [1.0]
    telemetry = Telemetry(registry, clock=lambda: now[0])
    with capture_logs() as lines:
        for _ in range(LINES_PER_SECOND + 5):
            telemetry.doors.door_refused("ga_calls", 401, "invalid_api_key")
        assert len(lines) == LINES_PER_SECOND
        now[0] = 2.0
        telemetry.doors.door_refused("ga_calls", 502, "service_failed")
    assert lines[-1]["lines_left_out"] == 5
    assert lines[-1]["log_level"] == "warning"
    refused = {"result": "refused", "reason": "invalid_api_key"}
    assert registry.get_sample_value("relay_admission_total", refused) == LINES_PER_SECOND + 5


def test_how_late_a_timer_was_is_a_metric(telemetry, registry):
    telemetry.timer_late(0.02)
    assert registry.get_sample_value("relay_event_loop_lag_seconds_sum") == 0.02


def test_the_words_repeated_from_the_layers_above_are_still_theirs():
    assert DOORS | {OTHER} == frozenset(Door) | frozenset(Dialect)
    assert frozenset(AuthMethod) == AUTH_METHODS
    assert frozenset(Operation) == OPERATIONS
    assert frozenset(ServiceRefusal) | {"ok"} == OUTCOMES


def test_names_follow_the_conventions_of_prometheus(telemetry, registry):
    attach(telemetry, {})
    for family in registry.collect():
        if family.name.startswith("relay_"):
            assert family.documentation
            assert not family.name.endswith("_total")
            assert family.type != "histogram" or family.name.endswith(("_seconds", "_ratio")), family.name


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool (Debian's prometheus) is not installed")
def test_promtool_finds_nothing_to_say(telemetry, registry):
    live = {}
    attach(telemetry, live)
    telemetry.service.watch_expiry("entra", lambda: 1.0)
    with capture_logs():
        hostile(telemetry, live, 0)
        hostile(telemetry, live, 1)
    checked = subprocess.run(
        ["promtool", "check", "metrics"], input=render_metrics(registry)[0], capture_output=True, check=False
    )
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, b"")


def test_what_alerts_are_on_is_there_before_it_happens(telemetry, registry):
    attach(telemetry, {})
    for name, labels in (
        ("relay_policy_reload_total", {"result": "refused"}),
        ("relay_audit_failures_total", {"reason": "overflow"}),
        ("relay_auth_failures_total", {"method": "client_key"}),
        ("relay_upstream_requests_total", {"operation": "mint", "outcome": "unauthorized"}),
        ("relay_sessions_ended_total", {"side": "service", "reason": "service_lost"}),
        ("relay_sessions_started_total", {"door": "ga_calls"}),
        ("relay_admission_total", {"result": "refused", "reason": "at_capacity"}),
        ("relay_ice_consent_lost_total", {"leg": "upstream"}),
        ("relay_media_one_way_seconds_total", {"leg": "upstream"}),
        ("relay_policy_pending", {}),
    ):
        assert registry.get_sample_value(name, labels) == 0, name


def test_refused_policies_are_pending_until_some_are_loaded(telemetry, registry):
    with capture_logs():
        telemetry.policies.policies_refused("base.yaml: line 1")
        assert registry.get_sample_value("relay_policy_pending") == 1
        telemetry.policies.policies_loaded({"base": "f" * 64}, ())
    assert registry.get_sample_value("relay_policy_pending") == 0
