"""The kill switches that administrators set over the API; the one in a file is apart and holds beside them."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import Connection, delete, insert, select

from relay.core.kill_switch import KillSwitch
from relay.core.stored import NOTE_MOST, AuditNote, KillKind, KillRow, StoreOperation
from relay.store.audit_log import Audit
from relay.store.database import Database, Lock
from relay.store.fitting import demanded, demanded_name, fitted
from relay.store.tables import KILL_SWITCH as TABLE

_KILL = StoreOperation.KILL_SWITCHES
Switch = tuple[KillKind, str]


class KillSwitches:
    """`clock` gives Unix seconds. Every method raises StoreError."""

    def __init__(self, database: Database, audit: Audit, clock: Callable[[], float]) -> None:
        self._database = database
        self._audit = audit
        self._clock = clock

    async def all(self) -> list[KillRow]:
        """Every switch that is on."""
        return await self._database.run(_all, operation=_KILL)

    async def set(self, kind: KillKind, name: str, author: str, note: str, audit: AuditNote) -> KillRow:
        """Switch on; who did it first stays its author. Raises UnfitText."""
        return (await self._change(frozenset({(kind, name)}), author, note, audit, exactly=False))[kind, name]

    async def clear(self, kind: KillKind, name: str, audit: AuditNote) -> bool:
        """Switch off; whether it was on."""

        def work(connection: Connection) -> bool:
            was_on = _clear(connection, kind, name)
            self._audit.append_in(connection, audit)
            return was_on

        return await self._database.run(work, operation=_KILL)

    async def replace(self, wanted: KillSwitch, author: str, note: str, audit: AuditNote) -> list[KillRow]:
        """Let exactly these be on. Raises UnfitText."""
        on = {(KillKind.TENANT, name) for name in wanted.tenants} | {
            (KillKind.POLICY, name) for name in wanted.policies
        }
        if wanted.everybody:
            on.add((KillKind.ALL, ""))
        return list((await self._change(frozenset(on), author, note, audit, exactly=True)).values())

    async def _change(
        self,
        on: frozenset[Switch],
        author: str,
        note: str,
        audit: AuditNote,
        *,
        exactly: bool,
    ) -> dict[Switch, KillRow]:
        """Switch these on in one transaction, and with `exactly` all others off."""
        for _, name in on:
            demanded_name(TABLE.c.name, name)
        said = demanded("note", note, NOTE_MOST)
        by, at = fitted(TABLE.c.author, author), self._clock()

        def work(connection: Connection) -> dict[Switch, KillRow]:
            self._database.lock(connection, Lock.KILL_SWITCHES)
            before = {(row.kind, row.name): row for row in _all(connection)}
            for kind, name in before.keys() - on if exactly else ():
                _clear(connection, kind, name)
            added = [KillRow(kind, name, by, at, said) for kind, name in sorted(on - before.keys())]
            for row in added:
                values = {"kind": row.kind.value, "name": row.name, "author": by, "at": at, "note": said}
                connection.execute(insert(TABLE), values)
            self._audit.append_in(connection, audit)
            return {(row.kind, row.name): row for row in _all(connection)}

        return await self._database.run(work, operation=_KILL)


def _all(connection: Connection) -> list[KillRow]:
    rows = connection.execute(select(TABLE).order_by(TABLE.c.kind, TABLE.c.name))
    return [KillRow(KillKind(row.kind), row.name, row.author, row.at, row.note) for row in rows]


def _clear(connection: Connection, kind: KillKind, name: str) -> bool:
    return connection.execute(delete(TABLE).where(TABLE.c.kind == kind.value, TABLE.c.name == name)).rowcount > 0
