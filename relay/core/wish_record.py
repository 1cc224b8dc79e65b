"""What a policy makes of the configuration that comes with a key, as a record for the decision log."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from relay.core.lifecycle import Decided, Dialect, LegName
from relay.core.policy import ConfigRefusal, EffectivePolicy, judge_wish
from relay.core.policy_rules import Mode
from relay.core.verdicts import Rule, Verdict


def wish_decision(policy: EffectivePolicy, wish: dict[str, Any] | None, dialect: Dialect) -> Decided | None:
    """The decision about a session configuration; None where there is nothing to write down."""
    if wish is None or policy.mode is Mode.DISABLED:
        return None
    try:
        judged = judge_wish(policy, wish, dialect)
        verdict, rule = judged.verdict, judged.rule
    except ConfigRefusal as refusal:
        verdict, rule = Verdict.REFUSE, refusal.rule
    if rule is Rule.ALLOWED:
        return None
    digest = hashlib.sha256(json.dumps(wish, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
    done, would_be = (verdict, None) if policy.mode is Mode.ENFORCE else (Verdict.FORWARD, verdict.value)
    return Decided(LegName.DOWNSTREAM, "session.mint", done.value, rule, policy.mode, would_be, digest)
