"""One call placed over members that answer what a test tells them: who is asked, when it stops, what stays."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from prometheus_client import CollectorRegistry
from support.pool import pool_of

from relay.core.doors import OpenRequest
from relay.core.lifecycle import Dialect
from relay.core.policy import policy_from_instructions
from relay.core.policy_rules import ResidencyRules
from relay.core.pool import Condition
from relay.diary import Diary
from relay.errors import ApiError, ErrorCode
from relay.hang_up_list import HangUpList
from relay.kept_calls import KeptCalls
from relay.placing import CallWish, NoRegion, Placing
from relay.telemetry import Telemetry
from relay.upstream import Operation, ServiceCall, ServiceError, ServiceKey, ServiceRefusal

WISH = CallWish({"type": "realtime", "model": "d"}, "v=0", "d")
ANYWHERE = ResidencyRules()


class Service:
    """Refuses what is in its lists, one each time, and then gives what is asked; `hold` keeps mints waiting."""

    dialect = Dialect.GA

    def __init__(self) -> None:
        self.credential_expires_at: float | None = None
        self.mint_refusals: list[ServiceRefusal] = []
        self.call_refusals: list[ServiceRefusal] = []
        self.asked: list[str] = []
        self.hold = asyncio.Event()
        self.hold.set()
        self.reached = asyncio.Event()

    async def mint(self, session):
        self.asked.append("mint")
        self.reached.set()
        await self.hold.wait()
        self._answer(self.mint_refusals, Operation.MINT)
        return ServiceKey("ek")

    async def call(self, key, offer, deployment):
        self.asked.append("call")
        self._answer(self.call_refusals, Operation.CALL)
        return ServiceCall("v=0", "rtc_1")

    async def hang_up(self, call):
        self.asked.append("hang up")

    async def close(self):
        pass

    def _answer(self, refusals, operation):
        if refusals:
            raise ServiceError(refusals.pop(0), operation, "told to")


class World:
    """Members, a clock of their own, and what places calls with them."""

    def __init__(self, members: int) -> None:
        self.services = {f"m{number}": Service() for number in range(members)}
        self.telemetry = Telemetry(CollectorRegistry())
        self.now = 1_000.0
        self.over = asyncio.Event()
        self.pool = pool_of(self.telemetry, **self.services)
        self.pool._draw = lambda: 0.0
        self.pool.now = lambda: self.now
        self.list = HangUpList(self.pool, KeptCalls(None), self.telemetry)

    def __getitem__(self, number: int) -> Service:
        return self.services[f"m{number}"]

    async def place(self, residency: ResidencyRules = ANYWHERE) -> ServiceCall:
        request = OpenRequest("v=0", Dialect.GA, False, "m", None, "o")
        diary = Diary("rs_1", request, policy_from_instructions("x", "d"), self.telemetry)
        placing = Placing("rs_1", self.list, diary, self.telemetry, self.over.is_set, self._unless_ended)
        return await placing.place(WISH, lambda: residency)

    async def _unless_ended(self, wanted):
        ending = asyncio.create_task(self.over.wait())
        await asyncio.wait({wanted, ending}, return_when=asyncio.FIRST_COMPLETED)
        ending.cancel()
        if wanted.done():
            return wanted.result()
        raise ApiError(500, ErrorCode.INTERNAL_ERROR, "over")

    def asked(self) -> list[list[str]]:
        return [service.asked for service in self.services.values()]


@pytest.fixture
def four() -> World:
    return World(4)


async def test_three_members_are_asked_and_no_fourth(four):
    for number in range(3):
        four[number].mint_refusals = [ServiceRefusal.FAILED]
    four[2].mint_refusals = [ServiceRefusal.RATE_LIMITED]
    with pytest.raises(ServiceError) as error:
        await four.place()
    assert error.value.refusal is ServiceRefusal.RATE_LIMITED, "the last one's word"
    assert four.asked() == [["mint"], ["mint"], ["mint"], []]
    assert (await four.place()).member == "m3"


@pytest.mark.parametrize(("seconds", "asked"), [(29.0, ["mint", "call"]), (31.0, [])])
async def test_nobody_is_begun_with_when_it_took_too_long_already(four, seconds, asked):
    answer = four[0].mint
    four[0].mint_refusals = [ServiceRefusal.TIMEOUT]

    async def mint(session):
        four.now += seconds
        return await answer(session)

    four[0].mint = mint
    with contextlib.nullcontext() if asked else pytest.raises(ServiceError):
        await four.place()
    assert four.asked() == [["mint"], asked, [], []]


@pytest.mark.parametrize("refusal", [ServiceRefusal.REJECTED, ServiceRefusal.BAD_OFFER, ServiceRefusal.CONTENT_FILTER])
async def test_a_request_at_fault_goes_nowhere_else_and_is_held_against_nobody(four, refusal):
    four[0].call_refusals = [refusal]
    with pytest.raises(ServiceError):
        await four.place(ResidencyRules(deployments=frozenset({"d"})))
    assert four.asked()[1:] == [[], [], []]
    assert {each.state for each in four.pool.state()} == {Condition.READY}


@pytest.mark.parametrize("refusal", [ServiceRefusal.UNAUTHORIZED, ServiceRefusal.NO_DEPLOYMENT])
async def test_a_misconfigured_member_is_down_for_five_minutes(four, refusal):
    four[0].mint_refusals = [refusal]
    assert (await four.place()).member == "m1"
    [state, *_] = four.pool.state()
    assert (state.state, state.last_error) == (Condition.DOWN, refusal.value)
    four.now += 299
    assert (await four.place()).member == "m1"
    four.now += 2
    assert (await four.place()).member == "m0"


async def test_under_a_rule_the_refusal_is_one_of_its_own(four):
    for number in range(4):
        four[number].mint_refusals = [ServiceRefusal.FAILED]
    with pytest.raises(NoRegion) as error:
        await four.place(ResidencyRules(deployments=frozenset({"d"})))
    assert error.value.headers == {"retry-after": "2"}
    with pytest.raises(NoRegion) as error:
        await four.place(ResidencyRules(regions=frozenset({"north"})))
    assert error.value.headers == {"x-should-retry": "false"}


async def test_a_session_that_ends_is_carried_no_further_and_its_trial_is_had_by_the_next(four):
    four[0].mint_refusals = [ServiceRefusal.FAILED]
    await four.place()
    four.now += 2
    four[0].hold.clear()
    four[0].reached.clear()
    placing = asyncio.create_task(four.place())
    await four[0].reached.wait()
    assert (await four.place()).member == "m1", "one set-up tries"
    four.over.set()
    with pytest.raises(ApiError):
        await placing
    four.over.clear()
    four[0].hold.set()
    assert (await four.place()).member == "m0"
    assert four.asked()[2:] == [[], []]


async def test_a_session_that_ended_while_its_call_failed_is_told_nobody_else(four):
    four[0].call_refusals = [ServiceRefusal.FAILED]
    answer = four[0].call

    async def call(*arguments):
        four.over.set()
        return await answer(*arguments)

    four[0].call = call
    with pytest.raises(ServiceError):
        await four.place()
    assert four.asked() == [["mint", "call"], [], [], []]


async def test_the_first_credential_to_end_is_the_one_that_is_told(four):
    assert four.pool.credential_expires_at is None
    four[1].credential_expires_at, four[3].credential_expires_at = 30.0, 20.0
    assert four.pool.credential_expires_at == 20.0
