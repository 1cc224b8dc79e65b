"""A call is hung up whatever the service answers at first, after a restart too, and given up when it must be over."""

from __future__ import annotations

import asyncio

import pytest
from structlog.testing import capture_logs
from support.pool import pool_of
from support.resources import held, nothing_left_since, settled

from relay.core.pool import PoolFacts
from relay.hang_up_list import HangUpList, Patience
from relay.kept_calls import KeptCall, KeptCalls
from relay.upstream import Member, Operation, ServiceCall, ServiceError, ServiceKey, ServiceRefusal, UpstreamPool

HERE = "https://one.example"
KEY = ServiceKey("ek_1")
QUICK = Patience(first_seconds=0.01, most_seconds=0.02)


@pytest.fixture
def clock():
    """Unix time as the test wants it: `clock.now`."""

    class Clock:
        now = 10_000.0

        def __call__(self) -> float:
            return self.now

    return Clock()


@pytest.fixture
async def listed(service, telemetry, clock, tmp_path):
    """A function that starts a list on the same directory; all are closed at the end."""
    made = []

    def start(directory=tmp_path / "state", **changed) -> HangUpList:
        kept = KeptCalls(directory)
        made.append(
            HangUpList(
                pool_of(telemetry, one=service), kept, telemetry, **{"patience": QUICK, "clock": clock} | changed
            )
        )
        return made[-1]

    yield start
    for each in made:
        await each.close()


def late(metrics, result):
    return metrics.get_sample_value("relay_late_hang_ups_total", {"result": result}) or 0


async def called(hang_ups: HangUpList, member: int = 0) -> ServiceCall:
    return await hang_ups.call(hang_ups.pool.members[member], KEY, "v=0", "d")


async def until_over(hang_ups: HangUpList) -> None:
    assert not await settled(lambda: hang_ups._trying or hang_ups._kept.calls)


async def test_a_call_is_kept_until_it_is_hung_up(service, listed):
    hang_ups = listed()
    call = await called(hang_ups)
    assert list(hang_ups._kept.calls) == ["rtc_1"]
    await hang_ups.hang_up(call)
    assert hang_ups._kept.calls == {}
    assert service.asked == ["rtc_1"]


async def test_a_call_that_was_accepted_with_a_useless_answer_is_hung_up(service, listed, metrics, monkeypatch):
    async def accept(*_):
        error = ServiceError(ServiceRefusal.INVALID_ANSWER, Operation.CALL, "no SDP", status=201)
        error.call_id = "rtc_7"
        raise error

    monkeypatch.setattr(service, "call", accept)
    service.answers = [500]
    hang_ups = listed()
    with pytest.raises(ServiceError):
        await called(hang_ups)
    await until_over(hang_ups)
    assert service.asked == ["rtc_7"] * 2
    assert late(metrics, "done") == 1


async def test_a_hang_up_that_fails_is_tried_until_it_does_not(service, listed, metrics):
    before = held()
    service.answers = [500, None, 503]
    hang_ups = listed()
    call = await called(hang_ups)
    with pytest.raises(ServiceError):
        await hang_ups.hang_up(call)
    assert metrics.get_sample_value("relay_late_hang_ups_waiting") == 1
    await until_over(hang_ups)
    assert service.asked == ["rtc_1"] * 4
    assert late(metrics, "done") == 1
    assert metrics.get_sample_value("relay_late_hang_ups_waiting") == 0
    assert (
        metrics.get_sample_value("relay_upstream_requests_total", {"operation": "hangup", "outcome": "failed"}) == 2
    )  # the first try is counted by the session
    await nothing_left_since(before)


@pytest.mark.parametrize("answers", [[404], [500, 404]])
async def test_a_call_that_the_service_does_not_know_is_over(service, listed, answers):
    service.answers = answers
    asked = len(answers)
    hang_ups = listed()
    with pytest.raises(ServiceError):
        await hang_ups.hang_up(await called(hang_ups))
    await until_over(hang_ups)
    assert service.asked == ["rtc_1"] * asked


@pytest.mark.parametrize("answers", [[405], [503, 400]])
async def test_a_service_that_takes_no_hang_ups_is_not_asked_for_an_hour(service, listed, metrics, answers):
    service.answers = answers
    asked = len(answers)
    hang_ups = listed()
    with pytest.raises(ServiceError):
        await hang_ups.hang_up(await called(hang_ups))
    await until_over(hang_ups)
    assert service.asked == ["rtc_1"] * asked
    assert late(metrics, "given_up") == 1


async def test_what_the_service_must_have_ended_by_itself_is_given_up(service, listed, metrics, clock):
    service.answers = [500] * 1000
    hang_ups = listed()
    call = await called(hang_ups)
    clock.now += 3500
    with capture_logs() as logs:
        with pytest.raises(ServiceError):
            await hang_ups.hang_up(call)
        while len(service.asked) < 3:
            service.news.clear()
            await service.news.wait()
        clock.now += 101
        await until_over(hang_ups)
    assert late(metrics, "given_up") == 1
    [line] = [line for line in logs if line["event"] == "hang_up_given_up"]
    assert (line["log_level"], line["call_id"], line["detail"]) == ("warning", "rtc_1", "told to")


async def test_whose_time_is_over_before_its_turn_comes_is_given_up_without_asking(service, listed, metrics, clock):
    service.answers = [500] * 1000
    hang_ups = listed()
    calls = [await called(hang_ups) for _ in range(20)]
    service.hold.clear()
    first = [asyncio.create_task(hang_ups.hang_up(call)) for call in calls]
    assert not await settled(lambda: service.under_way < 20)
    # It answers those that ask now, and hangs again.
    service.hold.set()
    service.hold.clear()
    await asyncio.gather(*first, return_exceptions=True)
    assert not await settled(lambda: service.under_way < 4)
    clock.now += 3601
    with capture_logs() as logs:
        service.hold.set()
        await until_over(hang_ups)
    assert len(service.asked) == 20 + 4
    assert late(metrics, "given_up") == 20
    given_up = [line for line in logs if line["event"] == "hang_up_given_up"]
    assert sorted(line["attempts"] for line in given_up) == [1] * 16 + [2] * 4
    assert {line["detail"] for line in given_up} == {"told to"}


async def test_a_call_that_is_forgotten_is_not_tried_any_more(service, listed, metrics, tmp_path, monkeypatch):
    monkeypatch.setattr("relay.kept_calls.MOST_CALLS", 6)
    dead = KeptCalls(tmp_path / "state")
    for number in range(6):
        dead.add(KeptCall(f"old_{number}", HERE, 9_990.0))
    dead.close()
    service.answers = [500] * 1000
    service.hold.clear()
    hang_ups = listed()
    hang_ups.hang_up_what_was_left()
    assert not await settled(lambda: service.under_way < 4)
    for _ in range(6):
        await called(hang_ups)
    with capture_logs() as logs:
        service.hold.set()
        assert not await settled(lambda: hang_ups._trying)
    assert service.asked == [f"old_{number}" for number in range(4)]
    assert late(metrics, "given_up") == 6
    details = {line["detail"] for line in logs if line["event"] == "hang_up_given_up"}
    assert details == {"it was forgotten for newer calls"}
    assert list(hang_ups._kept.calls) == [f"rtc_{number}" for number in range(1, 7)]


async def test_after_a_restart_only_what_may_still_run_is_hung_up(service, listed, metrics, clock, tmp_path):
    dead = KeptCalls(tmp_path / "state")
    dead.add(KeptCall("rtc_old", HERE, clock.now - 3601))
    dead.add(KeptCall("rtc_new", HERE, clock.now - 3500))
    dead.close()
    hang_ups = listed()
    hang_ups.hang_up_what_was_left()
    await until_over(hang_ups)
    assert service.asked == ["rtc_new"]
    assert (late(metrics, "done"), late(metrics, "given_up")) == (1, 1)


async def test_a_call_of_a_clock_that_was_ahead_is_not_tried_until_then(service, listed, metrics, clock, tmp_path):
    dead = KeptCalls(tmp_path / "state")
    dead.add(KeptCall("rtc_1", HERE, clock.now + 1e9))
    dead.close()
    service.answers = [500] * 1000
    hang_ups = listed()
    hang_ups.hang_up_what_was_left()
    await service.news.wait()
    clock.now += 3601
    await until_over(hang_ups)
    assert late(metrics, "given_up") == 1


async def test_after_a_restart_what_was_left_is_hung_up_a_few_at_a_time(service, listed, metrics, tmp_path):
    dead = KeptCalls(tmp_path / "state")
    for number in range(30):
        dead.add(KeptCall(f"rtc_{number}", HERE, 9_990.0))
    dead.close()
    service.answers = [500, 404]
    service.hold.clear()
    hang_ups = listed()
    with capture_logs() as logs:
        hang_ups.hang_up_what_was_left()
        assert metrics.get_sample_value("relay_late_hang_ups_waiting") == 30
        await settled(lambda: len(service.asked) < 4)
        service.hold.set()
        await until_over(hang_ups)
    assert set(service.asked) == {f"rtc_{number}" for number in range(30)}
    assert service.most_under_way == 4
    assert late(metrics, "done") == 30
    assert [line["calls"] for line in logs if line["event"] == "calls_left_over"] == [30]
    await hang_ups.close()
    assert KeptCalls(tmp_path / "state").calls == {}


async def test_calls_of_another_service_are_given_up_and_it_never_sees_the_credential(
    service, listed, metrics, tmp_path
):
    dead = KeptCalls(tmp_path / "state")
    dead.add(KeptCall("rtc_1", "https://other.example", 9_990.0))
    dead.close()
    hang_ups = listed()
    hang_ups.hang_up_what_was_left()
    await until_over(hang_ups)
    assert service.asked == []
    assert late(metrics, "given_up") == 1


async def test_what_a_stopping_relay_could_not_hang_up_the_next_one_does(service, listed, clock):
    service.answers = [500]
    first = listed(patience=Patience(first_seconds=100, most_seconds=100))
    with pytest.raises(ServiceError):
        await first.hang_up(await called(first))
    with capture_logs() as logs:
        await first.close()
    assert [(line["calls"], line["kept"]) for line in logs if line["event"] == "calls_not_hung_up"] == [(1, True)]
    second = listed()
    second.hang_up_what_was_left()
    await until_over(second)
    assert service.asked == ["rtc_1", "rtc_1"]


async def test_without_a_directory_it_tries_again_too(service, listed, metrics):
    service.answers = [500]
    hang_ups = listed(directory=None)
    with pytest.raises(ServiceError):
        await hang_ups.hang_up(await called(hang_ups))
    await until_over(hang_ups)
    assert late(metrics, "done") == 1


async def test_a_hang_up_that_is_cancelled_is_not_forgotten(service, listed):
    service.hold.clear()
    hang_ups = listed()
    task = asyncio.create_task(hang_ups.hang_up(await called(hang_ups)))
    await service.news.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert list(hang_ups._kept.calls) == ["rtc_1"]


async def test_a_disk_that_is_full_is_told_once_and_ends_no_session(service, listed, tmp_path, monkeypatch):
    hang_ups = listed()
    await called(hang_ups)
    (tmp_path / "state" / "calls.jsonl").unlink()

    def full(*_):
        raise OSError(28, "No space left on device")

    with capture_logs() as logs:
        with monkeypatch.context() as patch:
            patch.setattr("relay.kept_calls._write", full)
            await called(hang_ups)
            await called(hang_ups)
        await called(hang_ups)
    assert [line["error"] for line in logs if line["event"] == "hang_up_list_not_written"] == [
        "No space left on device"
    ]
    await hang_ups.close()
    assert list(KeptCalls(tmp_path / "state").calls) == ["rtc_1", "rtc_2", "rtc_3", "rtc_4"]


# --- several members


@pytest.fixture
async def list_of_two(service, other, telemetry, clock, tmp_path):
    """A list over the members `one` and `two` on the same directory, as often as it is asked for."""
    made = []

    def start(**services) -> HangUpList:
        pool = pool_of(telemetry, **(services or {"one": service, "two": other}))
        made.append(HangUpList(pool, KeptCalls(tmp_path / "state"), telemetry, QUICK, clock))
        return made[-1]

    yield start
    for each in made:
        await each.close()


async def test_a_call_is_hung_up_at_the_member_that_has_it(service, other, list_of_two):
    hang_ups = list_of_two()
    other.answers = [500]
    call = await called(hang_ups, member=1)
    assert [each.sessions for each in hang_ups.pool_state()] == [0, 1]
    with pytest.raises(ServiceError):
        await hang_ups.hang_up(call)
    await until_over(hang_ups)
    assert (service.asked, other.asked) == ([], ["rtc_1", "rtc_1"])
    assert [each.sessions for each in hang_ups.pool_state()] == [0, 0]


async def test_after_a_restart_each_member_is_asked_for_its_own_and_one_that_is_gone_nobody(
    service, other, list_of_two, clock, tmp_path, metrics
):
    dead = KeptCalls(tmp_path / "state")
    for place in ("two", "one", "three"):
        dead.add(KeptCall(f"rtc_{place}", f"https://{place}.example", clock.now))
    dead.close()
    hang_ups = list_of_two()
    hang_ups.hang_up_what_was_left()
    await until_over(hang_ups)
    assert (service.asked, other.asked) == (["rtc_one"], ["rtc_two"])
    assert (late(metrics, "done"), late(metrics, "given_up")) == (2, 1)


async def test_a_fault_of_the_relay_s_own_loses_no_call(listed, service):
    hang_ups = listed()
    call = await called(hang_ups)
    hang_up, left = service.hang_up, 2

    async def broken(asked):
        nonlocal left
        if left:
            left -= 1
            raise RuntimeError("not the service's")
        await hang_up(asked)

    service.hang_up = broken
    with pytest.raises(ServiceError, match="RuntimeError"):
        await hang_ups.hang_up(call)
    await service.news.wait()
    assert not await settled(lambda: list(hang_ups._kept.calls))
    assert service.asked == ["rtc_1"]


async def test_of_two_members_at_one_address_the_one_that_has_the_call_is_asked(service, other, telemetry, tmp_path):
    def two() -> HangUpList:
        facts = {"one": service, "two": other}
        members = [Member(PoolFacts(name), HERE, each) for name, each in facts.items()]
        pool = UpstreamPool(members, "d", 15.0, telemetry.members)
        return HangUpList(pool, KeptCalls(tmp_path / "state"), telemetry, QUICK)

    before = two()
    await called(before, 1)
    await before.close()
    after = two()
    after.hang_up_what_was_left()
    await other.news.wait()
    assert not await settled(lambda: list(after._kept.calls))
    assert (service.asked, other.asked) == ([], ["rtc_1"])
    await after.close()
