"""Sessions that wait for their clients, as the place that keeps them sees it."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from relay.conversation import Conversation
from relay.core.doors import OpenRequest
from relay.core.kill_switch import KillSwitch
from relay.core.lifecycle import Dialect, SessionLimits
from relay.core.policy import policy_from_instructions
from relay.early import EarlySessions
from relay.errors import ApiError, ErrorCode

POLICY = policy_from_instructions("Hello.", "rt")
REQUEST = OpenRequest(None, Dialect.GA, webrtc_filter=False, model="m", client_session=None, owner="o", key_id="k")
REFUSAL = ApiError(429, ErrorCode.SERVICE_RATE_LIMITED, "The service is busy.")


class Outcomes:
    def __init__(self):
        self.seen = []

    def early(self, outcome, session_id=""):
        self.seen.append((outcome.value, session_id))


def begin(early, key_id="k", owner="o"):
    request = replace(REQUEST, key_id=key_id, owner=owner)
    conversation = Conversation(f"rs_{key_id}", request, POLICY, SessionLimits(), None, None)
    early.keep(key_id, request, conversation, 60.0)
    return conversation


async def test_a_session_is_given_once_and_for_its_key_alone():
    early = EarlySessions(outcomes := Outcomes(), 4)
    conversation = begin(early)
    assert early.take(replace(REQUEST, key_id="another"), POLICY) is None
    assert early.take(replace(REQUEST, key_id=None), POLICY) is None
    assert early.take(REQUEST, POLICY) is conversation
    assert early.take(REQUEST, POLICY) is None
    assert outcomes.seen == [("started", "rs_k"), ("used", "rs_k")]


async def test_a_refusal_in_this_very_moment_is_the_answer_and_told_once():
    early = EarlySessions(outcomes := Outcomes(), 4)
    begin(early)._refuse(REFUSAL)
    # Nobody has been called back yet.
    with pytest.raises(ApiError) as raised:
        early.take(REQUEST, POLICY)
    assert raised.value is REFUSAL
    await asyncio.sleep(0)
    assert early.take(REQUEST, POLICY) is None
    assert outcomes.seen == [("started", "rs_k"), ("failed", "rs_k")]


async def test_who_comes_to_a_session_that_is_over_does_not_wait():
    early = EarlySessions(Outcomes(), 4)
    conversation = begin(early)
    taken = early.take(REQUEST, POLICY)
    conversation._refuse(REFUSAL)
    with pytest.raises(ApiError) as raised:
        await taken.meet(REQUEST, "v=0")
    assert raised.value is REFUSAL


DIFFERENT = {
    "owner": {"owner": "another"},
    "dialect": {"dialect": Dialect.PREVIEW},
    "shown model": {"model": "n"},
    "model": {"model_asked": "m"},
    "configuration": {"client_session": {"type": "realtime"}},
}


@pytest.mark.parametrize("change", DIFFERENT.values(), ids=DIFFERENT)
async def test_another_request_does_not_get_it(change):
    early = EarlySessions(outcomes := Outcomes(), 4)
    conversation = begin(early)
    assert early.take(replace(REQUEST, **change), POLICY) is None
    assert conversation._unsent[0].reason == "early_unused"
    assert outcomes.seen[1:] == [("other_request", "rs_k")]


OTHER_POLICIES = {
    "revision": replace(POLICY, revision="another"),
    "deployment": replace(POLICY, deployment="another"),
    "transcription": replace(POLICY, transcription_deployment="another"),
    "text for this page": replace(POLICY, instructions=replace(POLICY.instructions, text="Hello, page.")),
}


@pytest.mark.parametrize("policy", OTHER_POLICIES.values(), ids=OTHER_POLICIES)
async def test_nor_does_anybody_under_another_policy(policy):
    early = EarlySessions(outcomes := Outcomes(), 4)
    begin(early)
    assert early.take(REQUEST, policy) is None
    assert outcomes.seen[1:] == [("other_policy", "rs_k")]


@pytest.mark.parametrize(("most", "owned"), [(1, 1), (2, 1), (3, 1), (4, 2), (10, 5)])
async def test_one_owner_has_half_the_room_and_one_place_at_least(most, owned):
    early = EarlySessions(Outcomes(), most)
    for number in range(owned):
        assert early.has_room("o")
        begin(early, f"k{number}")
    assert not early.has_room("o")
    assert early.has_room("another") is (most > owned)
    for number in range(most - owned):
        begin(early, f"l{number}", f"owner {number}")
    assert not early.has_room("one more")
    early.drain()
    assert len(early) == 0


async def test_a_fault_with_one_does_not_keep_the_kill_switch_from_the_others():
    class Faulty:
        switch = KillSwitch(policies=frozenset({"stopped"}))

        def now_for(self, identity, model):
            raise LookupError

    early = EarlySessions(outcomes := Outcomes(), 4)
    begin(early, "k1")
    stopped = begin(early, "k2")
    stopped.policy = replace(POLICY, name="stopped")
    early.take_policies(Faulty())
    assert stopped._unsent[0].reason == "policy_killed"
    assert sorted(outcomes.seen[2:]) == [("other_policy", "rs_k1"), ("stopped", "rs_k2")]
