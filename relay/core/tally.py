"""What was used and is not in the store yet, by day, tenant and subject, and the sums that limits are compared with."""

from __future__ import annotations

from collections import defaultdict

from relay.core.allowance import Spent
from relay.core.stored import UsageDelta

# The subject of usage that there was no room to keep apart.
OTHERS = "*"

Key = tuple[str, ...]
"""Whose usage: `(tenant, subject)`, `(tenant,)`, or `()` for the relay's."""


def keys_of(tenant: str, subject: str) -> tuple[Key, Key, Key]:
    """The user's, the tenant's and the relay's."""
    return (tenant, subject), (tenant,), ()


class Tally:
    """At most `most` subjects are kept apart; what more use counts for their tenant and the relay alone.

    Of those, at most `most` tenants are kept apart; what more use counts for the relay alone.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._rows: dict[tuple[str, str, str], UsageDelta] = {}
        self._sums: defaultdict[tuple[str, Key], Spent] = defaultdict(Spent)

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, day: str, tenant: str, subject: str, spent: Spent, sessions: int = 0) -> None:
        """Count what was used on a day of UTC."""
        if (day, tenant, subject) not in self._rows and len(self._rows) >= self._most:
            subject = OTHERS
        if (day, tenant, subject) not in self._rows and len(self._rows) >= 2 * self._most:
            tenant = OTHERS
        place = (day, tenant, subject)
        before = self._rows.get(place, UsageDelta(*place))
        self._rows[place] = UsageDelta(
            *place,
            sessions=before.sessions + sessions,
            seconds=before.seconds + spent.seconds,
            tokens=before.tokens + spent.tokens,
            dollars=before.dollars + spent.dollars,
        )
        for key in keys_of(tenant, subject):
            self._sums[day, key] += spent

    def of(self, day: str, key: Key) -> Spent:
        """What somebody used on a day."""
        return self._sums.get((day, key), Spent())

    def deltas(self) -> list[UsageDelta]:
        """What is to be added to the store."""
        return list(self._rows.values())
