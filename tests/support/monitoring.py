"""What dashboards and alerts ask for, beside what the relay documents."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_NAME = re.compile(r"\b(?:relay|process|python)_[a-z0-9_]+")
_OF_A_HISTOGRAM = re.compile(r"(?<=_seconds)_(bucket|count|sum)$|(?<=_ratio)_(bucket|count|sum)$")


def metrics_in(expr: str) -> set[str]:
    """The families an expression asks for; what stands in quotes, and series that rules record, left out."""
    bare = re.sub(r'"[^"]*"|job:relay_\w+:\w+', "", expr)
    return {_OF_A_HISTOGRAM.sub("", name) for name in _NAME.findall(bare)}


def documented() -> set[str]:
    """The families in docs/reference/metrics.md."""
    listed = (ROOT / "docs" / "reference" / "metrics.md").read_text("utf-8").split("\n## ")[0]
    return set(re.findall(r"^\| `(\w+)`", listed, re.MULTILINE))
