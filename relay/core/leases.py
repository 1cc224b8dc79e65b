"""A place among the sessions that may run at one time: taken, renewed, given back; or it lapses. Pure.

A lease is kept where all nodes see it, so that a limit holds for all of them together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from relay.core.allowance import Bound, Scope

# A node that says nothing for so long is gone, and its sessions' places are free.
LEASE_SECONDS = 30.0
RENEW_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Claim:
    """One session's wish for a place, or its right to one."""

    session: str
    tenant: str
    subject: str


class Leases(Protocol):
    """The places; of one node, which is named when this is made. All raise StoreError."""

    async def take(self, claim: Claim, limits: Bound) -> Scope | None:
        """Take a place if no limit is reached; else the scope whose limit is. Exact, whoever asks at the same time.

        Without any limit it may wait for others to be written with.
        """
        ...

    async def renew(self, claims: Sequence[Claim]) -> frozenset[str]:
        """Keep places for LEASE_SECONDS more; the sessions that have none any more, which another may have."""
        ...

    async def release(self, session: str, *, at_once: bool = True) -> None:
        """Give a place back; nothing if there is none. Else than `at_once` it may wait for others likewise."""
        ...

    def hurry(self) -> None:
        """Let nothing wait for others from now on: the node is about to stop."""
        ...

    async def free_own(self) -> int:
        """Give back all that this node held before it was started anew; how many."""
        ...
