"""The instructions in force, composed of the administrator's text and what a client may add to it."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from typing import Any

from relay.core.events import EventError
from relay.core.field_checks import wrong_type
from relay.core.policy_rules import ClientInstructions, InstructionRules
from relay.core.verdicts import Rule
from relay.errors import ErrorCode

BEGIN_CLIENT_TEXT = "===== Supplied by the user's application, not by the administrator ====="
END_CLIENT_TEXT = "===== End of what the user's application supplied ====="
"""What stands around a client's text. Nothing else in the instructions may hold three such signs in a row."""

# Bytes of UTF-8 that a character may take on average: what counts as one can be written with many.
_BYTES_PER_CHAR = 4
_KEPT_CONTROLS = "\n\t"
# Controls, format characters (bidirectional marks, tags, zero widths), private use, unassigned, surrogates.
_UNSEEN = frozenset({"Cc", "Cf", "Co", "Cn", "Cs"})
_FILLERS = "\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\uffa0\ufe00-\ufe0f\U000e0000-\U000e0fff"
_FILLER = re.compile(f"[{_FILLERS}]")
# Signs that draw the same bars as ours, whatever they are called; those that NFKC knows as `=` are `=` by then, and
# a double low line (U+2017) is a mark (U+0333) behind a space.
_BARS = "=\u0333\u1400\u2260\u2e40\u3013\u30a0\ua4ff\ua78a\u2550\u2261\u2263\u268c\u2630\U0001f7f0"
_MARKS = "\u0300-\u036f\u0483-\u0489\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\u3099\u309a\ufe20-\ufe2f"
_SEPARATOR = re.compile(rf"[{_BARS}](?:[\s{_MARKS}]*[{_BARS}]){{2,}}")
_CONTROL_TOKEN = re.compile(
    r"<\|+|\|+>|\[(?=/?(?:INST|SYS)\])|<(?=[</\s]*(?:s|sys|system|developer|assistant|user|instructions?|policy)\b)",
    re.IGNORECASE,
)
_ASCII_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
_MERGING = frozenset({ClientInstructions.APPEND, ClientInstructions.PREPEND})


@lru_cache(maxsize=64)
def neutralised(text: str) -> str:
    """The text as it may stand between our separators.

    In compatibility form (NFKC), so that nothing becomes a separator by being normalised later; without characters that
    are not seen; bars cut down to a single sign; and without what opens or closes a part in the templates of models.
    """
    text = text.replace("\r\n", "\n")
    if text.isascii():
        text = _ASCII_CONTROL.sub("", text)
    else:
        text = unicodedata.normalize("NFKC", _FILLER.sub("", text))
        text = "".join(char for char in text if char in _KEPT_CONTROLS or unicodedata.category(char) not in _UNSEEN)
        text = unicodedata.normalize("NFKC", _FILLER.sub("", text))
    text = _SEPARATOR.sub("=", text)
    while (shorter := _CONTROL_TOKEN.sub("", text)) != text:
        text = shorter
    # What stood between a sign and a mark is gone: the two may be one sign now.
    return unicodedata.normalize("NFKC", _SEPARATOR.sub("=", text))


def combine(rules: InstructionRules, client_text: str | None) -> str:
    """What is to be in force at the service, for a client whose own text is `client_text` (None: it gave none)."""
    own = "" if client_text is None else client_text.strip()
    if rules.client is ClientInstructions.PASSTHROUGH:
        return rules.text if client_text is None else own
    if not own or rules.client not in _MERGING:
        return rules.text
    own = neutralised(own).strip()
    if not own:
        return rules.text
    marked = f"{BEGIN_CLIENT_TEXT}\n{own}\n{END_CLIENT_TEXT}"
    if not rules.text:
        return marked
    parts = (rules.text, marked) if rules.client is ClientInstructions.APPEND else (marked, rules.text)
    return "\n\n".join(parts)


def is_too_long(text: str, rules: InstructionRules) -> bool:
    """Whether a client's text is longer than the policy takes, as it came and as it would go up."""
    most = rules.client_max_chars
    if len(text) > most:
        return True
    if rules.client in _MERGING and not text.isascii():
        text = neutralised(text)  # one character may stand for eighteen
    return len(text) > most or len(text.encode(errors="replace")) > _BYTES_PER_CHAR * most


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
    if is_too_long(value, rules):
        raise EventError(ErrorCode.POLICY_VIOLATION, path, Rule.SESSION_INSTRUCTIONS)
    return value
