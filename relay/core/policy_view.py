"""A policy made ready for judging the events of one session: the acting rules, and what is private under them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from relay.core.canary import CanaryDetector
from relay.core.policy import EffectivePolicy, acting, deployments
from relay.core.policy_rules import Mode
from relay.core.redaction import MessageScrubber
from relay.core.server_events import Publisher
from relay.core.tool_rules import hidden_names

# Of the policies that a session has had, so many texts and names stay private.
_MOST_TEXTS = 4_096
_MOST_NAMES = 4_096


@dataclass(frozen=True, slots=True)
class Private:
    """What must not be told of all policies that a session has had: texts, deployments, functions; newest first."""

    texts: tuple[str, ...] = field(default=(), repr=False)
    deployments: frozenset[str] = frozenset()
    functions: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class PolicyView:
    """`written` is the policy, `acting` what is carried out of it, `judged` what is written down besides (or None)."""

    written: EffectivePolicy
    acting: EffectivePolicy
    judged: EffectivePolicy | None
    publisher: Publisher
    canary: CanaryDetector
    private: Private

    def replaced_by(self, policy: EffectivePolicy, model: str) -> PolicyView:
        """The view of another policy; what was private stays so: the service may still speak of it."""
        return view_of(policy, model, self.private)


def view_of(policy: EffectivePolicy, model: str, former: Private | None = None) -> PolicyView:
    """Make a policy ready, for a session whose client calls its model so."""
    rules = acting(policy)
    private = _private(policy, former or Private())
    hidden = private.functions - {tool.name for tool in rules.tools.client}
    scrubber = MessageScrubber(private.texts, private.deployments)
    return PolicyView(
        written=policy,
        acting=rules,
        judged=policy if policy.mode is Mode.AUDIT else None,
        publisher=Publisher(scrubber, model, hidden, rules.tools.mcp_approvals),
        canary=CanaryDetector(policy.canary, policy.instructions.text),
        private=private,
    )


def _private(policy: EffectivePolicy, former: Private) -> Private:
    texts = dict.fromkeys((*_private_texts(policy), *former.texts))
    names = deployments(policy) | former.deployments
    functions = hidden_names(policy.tools) | former.functions
    return Private(
        tuple(texts)[:_MOST_TEXTS],
        names if len(names) <= _MOST_NAMES else deployments(policy),
        functions if len(functions) <= _MOST_NAMES else hidden_names(policy.tools),
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
