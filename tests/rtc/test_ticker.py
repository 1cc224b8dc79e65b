"""The second of all sessions: each is called once in it, together with others, and no fault of one reaches another."""

from __future__ import annotations

import asyncio

import pytest

from relay.rtc.ticker import Ticker


class Clock:
    """A loop's clock and timers, moved by hand."""

    def __init__(self, monkeypatch) -> None:
        self.now = 100.0
        self.rings = 0
        self.faults: list[dict[str, object]] = []
        self._timers: list[tuple[float, asyncio.TimerHandle]] = []
        loop = asyncio.get_running_loop()
        monkeypatch.setattr(loop, "time", lambda: self.now)
        monkeypatch.setattr(loop, "call_at", self._call_at)
        monkeypatch.setattr(loop, "call_exception_handler", self.faults.append)
        self._loop = loop

    def _call_at(self, at, callback, *args):
        handle = asyncio.TimerHandle(at, callback, args, self._loop)
        self._timers.append((at, handle))
        return handle

    @property
    def waiting(self) -> int:
        return sum(not handle.cancelled() for _, handle in self._timers)

    def move(self, seconds: float) -> None:
        """Let time pass, and every timer ring that is due in it."""
        until = self.now + seconds
        while due := [each for each in self._timers if each[0] <= until and not each[1].cancelled()]:
            first = min(due, key=lambda each: each[0])
            self._timers.remove(first)
            self.now = max(self.now, first[0])
            self.rings += 1
            first[1]._run()
        self.now = until


@pytest.fixture
async def clock(monkeypatch):
    return Clock(monkeypatch)


@pytest.mark.parametrize("many", [1, 3, 40, 1_000])
async def test_each_is_called_once_a_second(clock, many):
    ticker, called = Ticker(), [0] * many

    def count(number):
        called[number] += 1

    for number in range(many):
        ticker.add(lambda number=number: count(number))
    clock.move(10.01)
    assert set(called) <= {10, 11}
    assert clock.waiting == 1


async def test_a_few_share_a_ring_and_many_are_spread(clock):
    ticker = Ticker()
    at: list[float] = []
    for _ in range(4):
        ticker.add(lambda: at.append(clock.now))
    clock.move(1.01)
    assert clock.rings == 1
    at.clear()
    for _ in range(396):
        ticker.add(lambda: at.append(clock.now))
    clock.move(1.01)
    clock.rings = 0
    at.clear()
    clock.move(1.0)
    assert max(at.count(moment) for moment in set(at)) == 10


async def test_what_is_removed_is_called_no_more(clock):
    ticker, called = Ticker(), []
    first = ticker.add(lambda: called.append(1))
    second = ticker.add(lambda: called.append(2))
    ticker.remove(first)
    ticker.remove(first)
    clock.move(1.01)
    assert called == [2]
    ticker.remove(second)
    assert clock.waiting == 0
    clock.move(5)
    assert called == [2]
    ticker.add(lambda: called.append(3))
    clock.move(1.01)
    assert called == [2, 3]


async def test_one_may_go_and_another_come_while_a_ring_is_under_way(clock):
    ticker, called = Ticker(), []
    key = ticker.add(lambda: (ticker.remove(key), ticker.add(lambda: called.append("new"))))
    clock.move(3.01)
    assert len(called) >= 2
    assert clock.waiting == 1


async def test_one_that_another_has_just_removed_is_not_called(clock):
    ticker, called = Ticker(), []
    keys = []
    ticker.add(lambda: ticker.remove(keys[0]))
    keys.append(ticker.add(lambda: called.append(1)))
    clock.move(2.01)
    assert called == []


async def test_a_fault_is_told_and_costs_nobody_else_theirs(clock):
    ticker, called = Ticker(), []
    ticker.add(lambda: 1 / 0)
    ticker.add(lambda: called.append(1))
    clock.move(2.01)
    assert len(called) == 2
    assert [type(fault["exception"]) for fault in clock.faults] == [ZeroDivisionError] * 2


async def test_seconds_that_were_slept_through_are_not_made_up_for(clock):
    ticker, called = Ticker(), []
    ticker.add(lambda: called.append(clock.now))
    clock.now += 30
    clock.move(1.01)
    assert len(called) == 2
