"""Collections of garbage, each of which holds up every packet: many short ones instead of few long ones."""

from __future__ import annotations

import gc

# A collection of what a few sessions left takes milliseconds, a full one of a busy relay many times as long.
_THRESHOLDS = (700, 3, 20)


def settle() -> None:
    """Call once a process is ready to serve: what was made until now stays, and no collection looks at it again."""
    gc.freeze()
    gc.set_threshold(*_THRESHOLDS)
