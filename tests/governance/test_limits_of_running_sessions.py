"""What a running session takes of changed policies."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

from relay.conversation import Conversation
from relay.core.kill_switch import KillSwitch
from relay.core.lifecycle import ReplaceLimits
from relay.core.policy import policy_from_instructions, policy_revision
from relay.core.policy_resolve import Identity
from relay.core.policy_rules import LimitRules


def limited(seconds):
    policy = replace(policy_from_instructions("Hello.", "rt"), limits=LimitRules(session_seconds=seconds))
    return replace(policy, revision=policy_revision(policy))


async def test_limits_that_are_changed_and_changed_back_are_taken_both_times():
    first, other = limited(3_600), limited(10)
    request = SimpleNamespace(owner="o", offer="v=0", identity=Identity(), model_asked=None)
    conversation = Conversation("rs_1", request, first, None, None, None)
    for policy in (first, other, other, first):
        set_of = SimpleNamespace(switch=KillSwitch(), now_for=lambda _identity, _model, policy=policy: policy)
        conversation.take_policies(set_of)
    assert conversation._unsent == [ReplaceLimits(other.limits), ReplaceLimits(first.limits)]
