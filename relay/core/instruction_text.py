"""The instructions in force, composed of the administrator's text and what a client may add to it."""

from __future__ import annotations

import re
from typing import Any

from relay.core.events import EventError
from relay.core.field_checks import wrong_type
from relay.core.policy_rules import ClientInstructions, InstructionRules
from relay.core.verdicts import Rule
from relay.errors import ErrorCode

BEGIN_CLIENT_TEXT = "===== Supplied by the user's application, not by the administrator ====="
END_CLIENT_TEXT = "===== End of what the user's application supplied ====="
"""What stands around a client's text. Nothing else in the instructions may hold three such signs in a row."""

# Look-alikes and signs set apart by spaces or invisible characters would read as a separator to the model too.
_SEPARATOR = re.compile(
    "[=\uff1d\ufe66\u207c\u208c](?:[\\s\u200b-\u200f\u2060-\u2064\ufeff\u00ad]*[=\uff1d\ufe66\u207c\u208c]){2,}"
)
_MERGING = frozenset({ClientInstructions.APPEND, ClientInstructions.PREPEND})


def neutralised(text: str) -> str:
    """The text with everything that could pass for one of our separators cut down to a single sign."""
    return _SEPARATOR.sub("=", text)


def combine(rules: InstructionRules, client_text: str | None) -> str:
    """What is to be in force at the service, for a client whose own text is `client_text` (None: it gave none)."""
    own = "" if client_text is None else client_text.strip()
    if rules.client is ClientInstructions.PASSTHROUGH:
        return rules.text if client_text is None else own
    if not own or rules.client not in _MERGING:
        return rules.text
    marked = f"{BEGIN_CLIENT_TEXT}\n{neutralised(own)}\n{END_CLIENT_TEXT}"
    if not rules.text:
        return marked
    parts = (rules.text, marked) if rules.client is ClientInstructions.APPEND else (marked, rules.text)
    return "\n\n".join(parts)


def accepted_text(value: Any, path: str, rules: InstructionRules) -> str | None:
    """The client's text as far as it counts: None when the policy overrides it.

    Raises EventError for a wrong type, for any text under `deny`, and for one that is too long to be taken over.
    """
    if value is None:
        return None
    if not isinstance(value, str):
        raise wrong_type(path)
    match rules.client:
        case ClientInstructions.OVERRIDE:
            return None
        case ClientInstructions.DENY:
            raise EventError(ErrorCode.POLICY_VIOLATION, path, Rule.SESSION_INSTRUCTIONS)
    if len(value) > rules.client_max_chars:
        raise EventError(ErrorCode.POLICY_VIOLATION, path, Rule.SESSION_INSTRUCTIONS)
    return value
