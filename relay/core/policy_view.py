"""A policy made ready for judging the events of one session: the acting rules, and what is private under them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from relay.core.canary import CanaryDetector
from relay.core.policy import EffectivePolicy, acting, deployments
from relay.core.policy_rules import Mode
from relay.core.redaction import MessageScrubber
from relay.core.server_events import Publisher
from relay.core.tool_rules import hidden_names


@dataclass(frozen=True, slots=True)
class PolicyView:
    """`written` is the policy, `acting` what is carried out of it, `judged` what is written down besides (or None)."""

    written: EffectivePolicy
    acting: EffectivePolicy
    judged: EffectivePolicy | None
    publisher: Publisher
    canary: CanaryDetector


def view_of(
    policy: EffectivePolicy, model: str, transcription_name: str, former: EffectivePolicy | None = None
) -> PolicyView:
    """Make a policy ready. What was private under a `former` one stays so: the service may still speak of it."""
    rules = acting(policy)
    both = (policy,) if former is None else (policy, former)
    texts = [text for each in both for text in _private_texts(each)]
    names = frozenset().union(*map(deployments, both))
    scrubber = MessageScrubber(texts, names, frozenset({model, transcription_name}))
    return PolicyView(
        written=policy,
        acting=rules,
        judged=policy if policy.mode is Mode.AUDIT else None,
        publisher=Publisher(scrubber, model, hidden_names(rules.tools), rules.tools.mcp_approvals),
        canary=CanaryDetector(policy.canary, policy.instructions.text),
    )


def _private_texts(policy: EffectivePolicy) -> Iterator[str]:
    """The instructions, and what the administrator's tools say of themselves."""
    yield policy.instructions.text
    for tool in policy.tools.admin:
        yield from _descriptions(tool)
    for listed in policy.tools.client:
        yield from _descriptions(listed.definition)


def _descriptions(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for name, entry in value.items():
            if name == "description" and isinstance(entry, str):
                yield entry
            else:
                yield from _descriptions(entry)
    elif isinstance(value, list):
        for entry in value:
            yield from _descriptions(entry)
