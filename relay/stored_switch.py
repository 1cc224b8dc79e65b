"""The kill switch of the store: at once on the node where it is moved, within a second on all others.

It stands beside the file `KILL`, which needs nothing but a disk: whom either stops is stopped.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from typing import NoReturn, Protocol

from relay.core.access import Administrator
from relay.core.kill_switch import KillSwitch
from relay.core.stored import AuditNote, KillKind, KillRow, StoreError, UnfitText
from relay.policies import POLL_SECONDS, Policies

_ACTION = "kill_switch"
# Of the names as JSON, so that a row of the audit log always has room for those before, those after, and the note.
_NAMES_MOST_BYTES = 20_000


class KillSwitches(Protocol):
    """The rows in the store; every method raises StoreError."""

    async def all(self) -> list[KillRow]:
        """Every switch that is on."""
        ...

    async def replace(self, wanted: KillSwitch, author: str, note: str, audit: AuditNote) -> list[KillRow]:
        """Let exactly these be on, in one transaction with the audit row."""
        ...


class StoredSwitch:
    """Follows the store's kill switch, and moves it. While the store is away the last one that was seen holds."""

    def __init__(
        self,
        switches: KillSwitches,
        policies: Policies,
        warn: Callable[[str, str], None],
        poll_seconds: float = POLL_SECONDS,
    ) -> None:
        self._switches = switches
        self._policies = policies
        self._warn = warn
        self._poll_seconds = poll_seconds
        self._turn = asyncio.Lock()
        self._away = False

    async def read(self) -> KillSwitch:
        """Whom the store stops now; acts on this node before it returns. Raises StoreError."""
        async with self._turn:  # an answer from before a move must not come after it
            return await self._read()

    async def move(self, wanted: KillSwitch, note: str, administrator: Administrator) -> KillSwitch:
        """Stop exactly these; acts on this node before it returns.

        Raises StoreError, and UnfitText for more names than the audit log can tell; then nothing has moved.
        """
        if len(json.dumps(_shown(wanted))) > _NAMES_MOST_BYTES:
            raise UnfitText(f"the names are larger than {_NAMES_MOST_BYTES} bytes in all: stop everybody instead")
        async with self._turn:
            before = switch_of(await self._switches.all())
            body = {"from": _shown(before), "to": _shown(wanted), "note": note}
            audit = AuditNote(administrator.name, administrator.role.value, _ACTION, "", "", body=body)
            await self._switches.replace(wanted, administrator.name, note, audit)
            self._policies.stop_also(wanted)
            return wanted

    async def watch(self) -> NoReturn:
        """Look for ever, once a second; an outage is told once."""
        while True:
            await asyncio.sleep(self._poll_seconds)
            try:
                await self.read()
            except StoreError as error:
                if not self._away:
                    self._warn("kill_switch_not_followed", str(error))
                self._away = True
            else:
                self._away = False

    async def _read(self) -> KillSwitch:
        switch = switch_of(await self._switches.all())
        self._policies.stop_also(switch)
        return switch


def switch_of(rows: Sequence[KillRow]) -> KillSwitch:
    """Whom these rows stop."""

    def names(kind: KillKind) -> frozenset[str]:
        return frozenset(row.name for row in rows if row.kind is kind)

    everybody = any(row.kind is KillKind.ALL for row in rows)
    return KillSwitch(everybody, names(KillKind.TENANT), names(KillKind.POLICY))


def _shown(switch: KillSwitch) -> dict[str, object]:
    return {
        "everybody": switch.everybody,
        "tenants": sorted(switch.tenants),
        "policies": sorted(switch.policies),
    }
