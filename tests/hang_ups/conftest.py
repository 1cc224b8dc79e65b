"""A service that is asked to hang up, and says what a test tells it to."""

from __future__ import annotations

import asyncio

import pytest
from prometheus_client import CollectorRegistry

from relay.core.lifecycle import Dialect
from relay.telemetry import Telemetry
from relay.upstream import Operation, ServiceCall, ServiceError, ServiceKey, ServiceRefusal

HERE = "https://one.example"


class FakeService:
    """Accepts `rtc_1`, `rtc_2`, …; `answers` are the statuses of hang-ups to come, 200 when there are none."""

    def __init__(self) -> None:
        self.dialect = Dialect.GA
        self.calls = 0
        self.answers: list[int | None] = []
        self.asked: list[str] = []
        self.news = asyncio.Event()
        self.hold = asyncio.Event()
        self.hold.set()
        self.under_way = self.most_under_way = 0

    async def mint(self, session):
        return ServiceKey("ek_1")

    async def call(self, key, offer, deployment):
        self.calls += 1
        return ServiceCall("v=0", f"rtc_{self.calls}")

    async def hang_up(self, call):
        self.asked.append(call.call_id)
        self.news.set()
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            await self.hold.wait()
        finally:
            self.under_way -= 1
        status = self.answers.pop(0) if self.answers else 200
        if status != 200:
            raise ServiceError(ServiceRefusal.FAILED, Operation.HANG_UP, "told to", status=status)

    async def close(self):
        pass


@pytest.fixture
def service():
    return FakeService()


@pytest.fixture
def metrics():
    return CollectorRegistry()


@pytest.fixture
def telemetry(metrics):
    return Telemetry(metrics)


@pytest.fixture
def other():
    return FakeService()
