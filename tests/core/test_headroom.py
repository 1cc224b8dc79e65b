"""Who is let in: smoothed load with hysteresis, exact counts, and set-ups at the rate that free CPU pays for."""

from __future__ import annotations

import itertools

import pytest

from relay.core.headroom import MAIN, AdmissionLimits, Headroom, LoadSample, Resource, Shortage

LIMITS = AdmissionLimits(max_sessions=500)
IDLE = LoadSample(cpu=0.05, cores=2.0, loop_lag_seconds=0.0005, open_files=50, max_files=1000)


def sample(**changed: float) -> LoadSample:
    values = {name: getattr(IDLE, name) for name in LoadSample.__slots__}
    return LoadSample(**(values | changed))


def run(room: Headroom, taken: LoadSample, start: int, seconds: int, process: str = MAIN) -> int:
    """Give the same sample for so many seconds; returns the second after the last."""
    for second in range(start, start + seconds):
        room.take(taken, float(second + 1), process)
    return start + seconds


SHORT = [
    (sample(cpu=0.95), Resource.CPU),
    (sample(loop_lag_seconds=0.05), Resource.LOOP),
    (sample(open_files=950), Resource.FILES),
]


@pytest.mark.parametrize(("load", "resource"), SHORT, ids=[resource for _, resource in SHORT])
def test_lasting_load_refuses_one_second_of_it_does_not_and_it_ends_with_the_load(load, resource):
    room = Headroom(LIMITS, 0.0)
    now = run(room, IDLE, 0, 10)
    now = run(room, load, now, 1)
    assert room.judge(1, now) is None
    now = run(room, load, now, 14)
    assert room.judge(1, now) == Shortage(resource, 5)
    assert room.short(1, now) == (resource,)
    assert room.ratios(1, now)[resource] >= 1
    now = run(room, IDLE, now, 10)
    assert room.judge(1, now) is None


def test_a_pause_of_the_collector_refuses_nobody():
    room = Headroom(LIMITS, 0.0)
    now = run(room, IDLE, 0, 10)
    # 300 ms in which nothing ran: one timer of ten was that late, the next ones less.
    now = run(room, sample(loop_lag_seconds=0.045, cpu=0.4), now, 1)
    assert room.short(0, now) == ()


def test_around_the_limit_the_verdict_changes_once_and_not_with_every_sample():
    room = Headroom(LIMITS, 0.0)
    now, verdicts = 0, []
    for cpu in itertools.islice(itertools.cycle([0.84, 0.88, 0.83, 0.87]), 60):
        now = run(room, sample(cpu=cpu), now, 1)
        verdicts.append(bool(room.short(0, now)))
    assert sum(before != after for before, after in itertools.pairwise(verdicts)) == 1
    assert verdicts[-1]


@pytest.mark.parametrize(
    ("limits", "sessions", "resource"),
    [
        (AdmissionLimits(max_sessions=3), 3, Resource.SESSIONS),
        (AdmissionLimits(max_sessions=9, ports=3), 3, Resource.PORTS),
    ],
)
def test_counts_are_exact(limits, sessions, resource):
    room = Headroom(limits, 0.0)
    assert room.judge(sessions - 1, 0.0) is None
    assert room.judge(sessions, 0.0) == Shortage(resource, 5)
    assert room.judge(sessions - 1, 0.0) is None


def test_limits_of_zero_are_off_and_their_ratios_zero():
    room = Headroom(AdmissionLimits(max_sessions=5, cpu=0, loop_lag_seconds=0, files=0, setups=0), 0.0)
    now = run(room, sample(cpu=4.0, loop_lag_seconds=3.0, open_files=1000), 0, 20)
    for _ in range(100):
        assert room.judge(1, now) is None
        room.begin(now)
    ratios = room.ratios(1, now)
    assert ratios.pop(Resource.SESSIONS) == pytest.approx(0.2)
    assert set(ratios.values()) == {0.0}
    assert set(ratios) == set(Resource) - {Resource.SESSIONS}


def test_a_share_of_a_core_is_all_that_a_container_with_a_quota_has():
    room = Headroom(LIMITS, 0.0)
    now = run(room, sample(cpu=0.45, cores=0.5), 0, 20)
    assert room.short(0, now) == (Resource.CPU,)


def burst(room: Headroom, now: float, clicks: int) -> list[Shortage]:
    """So many clicks at one moment; those refused."""
    refused = []
    for _ in range(clicks):
        if (short := room.judge(100, now)) is None:
            room.begin(now)
        else:
            refused.append(short)
    return refused


def test_a_burst_is_let_in_at_the_rate_that_free_cpu_pays_for():
    room = Headroom(LIMITS, 0.0)
    now = float(run(room, sample(cpu=0.365), 0, 30))
    refused = burst(room, now, 200)
    assert 200 - len(refused) == LIMITS.setups
    assert {each.resource for each in refused} == {Resource.SETUPS}
    assert room.short(100, now) == ()  # a burst is no reason to take the relay out of a load balancer
    # 0.9 of 0.85 less 0.365 is 0.4 of a core, 20 set-ups of 20 ms a second.
    let_in = 0
    for tick in range(1, 101):
        let_in += 1 - len(burst(room, now + tick / 100, 1))
    assert 19 <= let_in <= 21


def test_those_refused_in_a_burst_are_told_to_come_back_one_after_the_other():
    room = Headroom(LIMITS, 0.0)
    now = float(run(room, sample(cpu=0.365), 0, 30))
    waits = [each.retry_seconds for each in burst(room, now, 200)]
    assert waits == sorted(waits)
    # 20 a second: the first in a second, the others 50 ms apart.
    assert 1.0 <= waits[0] < 2.0
    assert waits[-1] == pytest.approx(1 + 200 / 20, abs=0.2)
    gaps = [after - before for before, after in itertools.pairwise(waits)]
    assert min(gaps) == pytest.approx(max(gaps))
    assert max(each.retry_seconds for each in burst(room, now, 2000)) == 30


def test_who_asks_again_and_again_moves_nobody_further_back_than_the_longest_wait():
    room = Headroom(LIMITS, 0.0)
    now = float(run(room, sample(cpu=0.365), 0, 30))
    burst(room, now, 10_000)
    now = float(run(room, sample(cpu=0.365), int(now), 31))
    [*_, last] = burst(room, now, LIMITS.setups + 1)
    assert last.retry_seconds < 2


def test_whoever_only_looks_leaves_no_trace():
    room = Headroom(LIMITS, 0.0)
    now = float(run(room, sample(cpu=0.365), 0, 30))
    assert room.lacks(LIMITS.max_sessions, now) is Resource.SESSIONS
    for _ in range(LIMITS.setups):
        assert room.lacks(0, now) is None
        room.begin(now)
    assert [room.lacks(0, now) for _ in range(1000)] == [Resource.SETUPS] * 1000
    assert room.judge(0, now).retry_seconds < 2


def test_the_rate_holds_while_set_ups_themselves_are_the_load():
    """What set-ups cost shows in the samples: it must not count against them a second time, nor be forgotten."""
    room = Headroom(LIMITS, 0.0)
    now, media, let_in, used = 0.0, 0.3, [], 0.0
    for second in range(40):
        begun = 0
        for tick in range(100):
            if not burst(room, second + tick / 100, 1):
                begun += 1
        let_in.append(begun)
        used = media + begun * 0.02
        now = second + 1.0
        room.take(sample(cpu=used), now)
    assert room.short(100, now) == ()
    # (0.9 * 0.85 - 0.3) / 0.02 is 23 a second.
    assert all(20 <= each <= 26 for each in let_in[10:]), let_in


def test_set_ups_dearer_than_expected_end_in_the_limit_of_the_cpu():
    room = Headroom(LIMITS, 0.0)
    now, media, highest = 0.0, 0.3, 0.0
    for second in range(60):
        begun = sum(not burst(room, second + tick / 100, 1) for tick in range(100))
        now = second + 1.0
        room.take(sample(cpu=min(1.0, media + begun * 0.05)), now)
        highest = max(highest, room.ratios(100, now)[Resource.CPU])
    assert 1.0 <= highest < 1.2


def test_one_full_worker_refuses_nobody_all_of_them_do():
    room = Headroom(LIMITS, 0.0)
    for second in range(20):
        room.take(sample(cores=4.0), second + 1.0)
        room.take(sample(cpu=0.99, cores=4.0), second + 1.0, "1")
        room.take(sample(cpu=0.30, cores=4.0), second + 1.0, "2")
    assert room.judge(1, 20.0) is None
    assert room.ratios(1, 20.0)[Resource.CPU] < 0.6
    for second in range(20, 40):
        room.take(sample(cores=4.0), second + 1.0)
        room.take(sample(cpu=0.99, cores=4.0), second + 1.0, "1")
        room.take(sample(cpu=0.99, cores=4.0), second + 1.0, "2")
    assert room.judge(1, 40.0) == Shortage(Resource.CPU, 5)


def test_main_is_needed_whatever_room_the_workers_have():
    room = Headroom(LIMITS, 0.0)
    for second in range(20):
        room.take(sample(cpu=0.97, cores=4.0), second + 1.0)
        room.take(IDLE, second + 1.0, "1")
    assert room.judge(1, 20.0) == Shortage(Resource.CPU, 5)


def test_a_worker_that_went_silent_has_no_room_until_it_is_forgotten_or_heard():
    room = Headroom(LIMITS, 0.0)
    run(room, IDLE, 0, 10, "1")
    run(room, IDLE, 0, 20)
    assert room.judge(1, 20.0) == Shortage(Resource.LOOP, 5)
    run(room, IDLE, 19, 1, "2")
    assert room.judge(1, 20.0) is None
    room.forget("2")
    assert room.judge(1, 20.0) == Shortage(Resource.LOOP, 5)
    room.forget("1")
    assert room.judge(1, 20.0) is None
