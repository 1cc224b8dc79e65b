"""Collections of garbage, each of which holds up every packet: many short ones, and a full one as seldom as can be.

A full one looks at all that was made since the start: 0.1 s and more with a hundred sessions. They leave nothing for it
(see `rtc.leg`), so that it comes for the sake of what others leave, and before that can be much.
"""

from __future__ import annotations

import gc

# New objects before a collection, such collections before one of what they left, those before a full one: a million.
_THRESHOLDS = (500, 2, 1_000)


def settle() -> None:
    """Call once a process is ready to serve: what was made until now stays, and no collection looks at it again."""
    gc.freeze()
    gc.set_threshold(*_THRESHOLDS)
