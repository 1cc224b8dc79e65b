"""One session's facts, as they become metrics and its record."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from relay.core.client_stats import ClientStats
from relay.core.doors import OpenRequest
from relay.core.lifecycle import (
    ClientGone,
    Dialect,
    Ended,
    LegName,
    MediaSample,
    Reattached,
    SessionCounters,
    Stage,
    StageDone,
)
from relay.core.policy import policy_from_instructions
from relay.core.record import FAILED_STAGES
from relay.core.turn_facts import AnswerBegan, Answered, Interrupted, LimitsTold, ServiceErred, Transcribed
from relay.diary import Diary
from relay.errors import EndReason
from relay.telemetry import Telemetry

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


@pytest.fixture
def registry():
    return CollectorRegistry()


@pytest.fixture
def telemetry(registry):
    return Telemetry(registry)


def diary_of(telemetry, session_id="rs_1", deployment="contoso-rt", traceparent=None):
    request = OpenRequest("v=0", Dialect.GA, False, "m", None, "owner", "ga_calls", traceparent=traceparent)
    policy = policy_from_instructions("CANARY", deployment, "contoso-transcribe")
    return Diary(session_id, request, policy, telemetry)


def ended(diary, reason=EndReason.CLIENT_LEFT):
    with capture_logs() as lines:
        diary.ended(Ended(reason, "", SessionCounters()))
    return next(line for line in lines if line["event"] == "session_ended")


def test_facts_of_turns_move_metrics_and_stand_in_the_line(telemetry, registry):
    diary = diary_of(telemetry, traceparent=f"00-{TRACE}-00f067aa0ba902b7-01")
    with capture_logs() as lines:
        diary.opened()
    assert lines[0]["trace_id"] == TRACE
    for fact in (
        StageDone(LegName.UPSTREAM, Stage.ICE, 0.1),
        AnswerBegan(0.4),
        Answered("completed", 2.0, {("output", "audio"): 50}),
        Answered("cancelled", 1.0, {("output", "audio"): 5}),
        Interrupted(),
        Transcribed({}, 3.5),
        ServiceErred("rate_limit_exceeded"),
        LimitsTold({"requests": 0.25}),
        MediaSample(LegName.DOWNSTREAM, loss_in=0.02),
    ):
        diary.tell(fact)
    diary.client_reported(ClientStats(rtt_seconds=0.2))
    diary.client_reported(ClientStats(rtt_seconds=0.03, loss_in=0.5))
    line = ended(diary)
    assert line["turns"] == {"completed": 1, "cancelled": 1, "interrupted": 1}
    assert line["usage"] == {"output.audio": 55}
    assert line["client"] == {"rtt_seconds": 0.03, "loss_in": 0.5}
    assert line["trace_id"] == TRACE
    deployment = {"deployment": "contoso-rt"}
    for name, labels, value in (
        ("relay_turn_latency_seconds_count", deployment, 1),
        ("relay_turns_total", {**deployment, "status": "cancelled"}, 1),
        ("relay_interruptions_total", deployment, 1),
        ("relay_tokens_total", {**deployment, "direction": "output", "kind": "audio"}, 55),
        ("relay_transcription_seconds_total", {"deployment": "contoso-transcribe"}, 3.5),
        ("relay_upstream_errors_total", {**deployment, "code": "rate_limit_exceeded"}, 1),
        ("relay_upstream_limit_remaining_ratio", {**deployment, "limit": "requests"}, 0.25),
        ("relay_media_loss_ratio_count", {"leg": "downstream", "direction": "in"}, 1),
        ("relay_client_rtt_seconds_count", {}, 2),
    ):
        assert registry.get_sample_value(name, labels) == value, name


def test_a_line_of_a_session_in_which_nothing_happened_has_no_empty_fields(telemetry):
    diary = diary_of(telemetry)
    diary.opened()
    assert not {"turns", "usage", "client", "trace_id"} & set(ended(diary))


def consent_lost(registry, leg):
    return registry.get_sample_value("relay_ice_consent_lost_total", {"leg": leg}) or 0


def test_a_client_that_is_lost_counts_once_whether_it_comes_back_or_not(telemetry, registry):
    gone = ClientGone(EndReason.CLIENT_LOST, "no checks", 15.0)
    first = diary_of(telemetry, "rs_1")
    first.opened()
    first.tell(gone)
    assert consent_lost(registry, "downstream") == 1
    ended(first, EndReason.CLIENT_LOST)
    assert consent_lost(registry, "downstream") == 1
    second = diary_of(telemetry, "rs_2")
    second.opened()
    second.tell(gone)
    second.tell(Reattached(0.2))
    ended(second, EndReason.CLIENT_LOST)
    assert consent_lost(registry, "downstream") == 3
    third = diary_of(telemetry, "rs_3")
    third.opened()
    ended(third, EndReason.SERVICE_LOST)
    assert consent_lost(registry, "upstream") == 1


def test_deployments_beyond_twenty_share_one_label(telemetry, registry):
    with capture_logs():
        for number in range(100):
            diary = diary_of(telemetry, f"rs_{number}", f"deployment-{number}")
            diary.opened()
            diary.tell(Answered("completed"))
            diary.ended(Ended(EndReason.CLIENT_LEFT, "", SessionCounters()))
    labels = {
        sample.labels["deployment"]
        for family in registry.collect()
        for sample in family.samples
        if sample.name == "relay_turns_total"
    }
    assert len(labels) <= 21
    assert registry.get_sample_value("relay_turns_total", {"deployment": "other", "status": "completed"}) > 70


def failures(registry):
    return {
        tuple(sample.labels[name] for name in ("leg", "stage", "reason")): sample.value
        for family in registry.collect()
        for sample in family.samples
        if sample.name == "relay_setup_failures_total"
    }


def test_what_a_failed_set_up_is_counted_as_is_there_from_the_start(registry, telemetry):
    expected = {(leg, stage, reason): 0 for reason, (leg, stage) in FAILED_STAGES.items()}
    assert failures(registry) == expected


@pytest.mark.parametrize(
    ("stages", "reason", "counted"),
    [
        # The service's leg is up long before a browser without a way is given up.
        (["upstream.ice", "upstream.policy"], EndReason.CLIENT_UNREACHABLE, True),
        (["upstream.policy", "downstream.ice"], EndReason.CLIENT_DTLS_FAILED, True),
        (["upstream.call"], EndReason.SERVICE_REFUSED, True),
        (["upstream.call", "upstream.policy"], EndReason.SERVICE_REFUSED, False),
        (["upstream.policy"], EndReason.POLICY_NOT_IN_FORCE, False),
        (["upstream.ice", "downstream.ice"], EndReason.CLIENT_UNREACHABLE, False),
        ([], EndReason.CLIENT_LEFT, False),
    ],
)
def test_a_leg_that_did_not_come_up_is_a_failed_set_up(registry, telemetry, stages, reason, counted):
    diary = diary_of(telemetry)
    diary.opened()
    for stage in stages:
        leg, _, name = stage.partition(".")
        diary.tell(StageDone(LegName(leg), Stage(name), 0.1))
    ended(diary, reason)
    assert sum(failures(registry).values()) == counted
