"""The W3C header that joins what a client traces to what the relay does (Trace Context, section 3.2)."""

from __future__ import annotations

import re
from dataclasses import dataclass

# A version above 00 may carry more behind the flags; ff is none.
_FORM = re.compile(r"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-[!-~]{0,400})?")


@dataclass(frozen=True, slots=True)
class TraceParent:
    """Where a trace comes from: the ids in hexadecimal, and whether its beginner records it."""

    trace_id: str
    span_id: str
    sampled: bool


def parse_traceparent(text: str | None) -> TraceParent | None:
    """Read the header; None for one that is absent or not as the standard says."""
    found = None if text is None else _FORM.fullmatch(text)
    if found is None or (found[1] == "00" and found[5] is not None):
        return None
    return TraceParent(found[2], found[3], bool(int(found[4], 16) & 1))
