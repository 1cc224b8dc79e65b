"""Keys of tenants and of administrators: listed, made, rotated, revoked. A key is shown once, when it is made."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from relay.api.admin.answers import answer, note, nothing_there
from relay.api.admin.route import Route, body_of, query_of
from relay.api.admin.schemas import NAME, TEXT, TRUTH, UNIX, listing, maybe, obj, one_of
from relay.core.access import Permission, Role
from relay.core.stored import KEYS_MOST, KeyKind
from relay.errors import ApiError, ErrorCode

if TYPE_CHECKING:
    from aiohttp import web

    from relay.api.admin.ports import Ports
    from relay.core.access import Administrator
    from relay.core.stored import KeyRow

_OVERLAP_MOST = 30 * 86_400
_EXPIRES: dict[str, Any] = {"type": "number", "minimum": 0, "maximum": 100_000_000_000, "description": "Unix seconds"}
_OVERLAP: dict[str, Any] = {"type": "number", "minimum": 0, "maximum": _OVERLAP_MOST,
                            "description": "for how many seconds the old key goes on; 0"}  # fmt: skip
_ROW: dict[str, Any] = {
    "id": TEXT, "kind": one_of(KeyKind), "name": TEXT, "tenant": maybe(TEXT),
    "role": {"type": ["string", "null"], "enum": [*map(str, Role), None]}, "created_at": UNIX, "created_by": TEXT,
    "expires_at": maybe(UNIX), "revoked_at": maybe(UNIX), "used_at": maybe(UNIX),
}  # fmt: skip
_MADE = obj({**_ROW, "key": {"type": "string", "description": "shown this once and kept nowhere"}})
_WANTED = obj({"kind": one_of(KeyKind), "name": NAME}, {"tenant": NAME, "role": one_of(Role), "expires_at": _EXPIRES})


@dataclass(frozen=True, slots=True)
class KeyRoutes:
    """The handlers."""

    ports: Ports

    async def listed(self, request: web.Request, administrator: Administrator) -> web.Response:
        """Every key, also those that open nothing any more."""
        kind = query_of(request).get("kind")
        rows = await self.ports.keys.list(None if kind is None else KeyKind(kind), administrator.tenant)
        return answer({"keys": [_shown(row) for row in rows], "more": len(rows) >= KEYS_MOST})

    async def create(self, request: web.Request, administrator: Administrator) -> web.Response:
        """Make a key."""
        body = body_of(request)
        kind, tenant, role = KeyKind(body["kind"]), body.get("tenant"), body.get("role")
        _check(kind, tenant, role, body.get("expires_at"))
        if administrator.tenant is not None and tenant != administrator.tenant:
            raise ApiError(403, ErrorCode.FORBIDDEN, "You are confined to one tenant: its keys only.", param="tenant")
        told = {"kind": kind.value, "name": body["name"], "role": role, "expires_at": body.get("expires_at")}
        row, key = await self.ports.keys.create(
            kind,
            body["name"],
            tenant,
            None if role is None else Role(role),
            body.get("expires_at"),
            note(administrator, "key.create", tenant=tenant or "", **told),
        )
        return answer(_shown(row) | {"key": key}, status=201)

    async def rotate(self, request: web.Request, administrator: Administrator) -> web.Response:
        """Make a key that takes the place of another."""
        row = await self._one(request, administrator)
        overlap = body_of(request).get("overlap_seconds", 0)
        told = note(administrator, "key.rotate", row.id, row.tenant or "", name=row.name, overlap_seconds=overlap)
        made = await self.ports.keys.rotate(row.id, overlap, told)
        if made is None:
            raise nothing_there()
        return answer(_shown(made[0]) | {"key": made[1]}, status=201)

    async def revoke(self, request: web.Request, administrator: Administrator) -> web.Response:
        """Let a key open nothing from now on."""
        row = await self._one(request, administrator)
        told = note(administrator, "key.revoke", row.id, row.tenant or "", name=row.name)
        revoked = await self.ports.keys.revoke(row.id, told)
        if revoked is None:
            raise nothing_there()
        return answer(_shown(revoked))

    async def _one(self, request: web.Request, administrator: Administrator) -> KeyRow:
        row = await self.ports.keys.get(request.match_info["id"])
        # Keys of all tenants are nobody's who is confined to one.
        if row is None or (administrator.tenant is not None and row.tenant != administrator.tenant):
            raise nothing_there()
        return row


def _check(kind: KeyKind, tenant: str | None, role: str | None, expires_at: float | None) -> None:
    """What the schema cannot say. Raises ApiError 400."""
    if kind is KeyKind.ADMIN and role is None:
        raise _unfit("role", "An admin key needs a role.")
    if kind is KeyKind.TENANT and role is not None:
        raise _unfit("role", "A tenant's key has no role.")
    if kind is KeyKind.TENANT and tenant is None:
        raise _unfit("tenant", "A tenant's key needs its tenant.")
    if expires_at is not None and expires_at <= time.time():
        raise _unfit("expires_at", "expires_at is past.")


def _unfit(param: str, message: str) -> ApiError:
    return ApiError(400, ErrorCode.INVALID_VALUE, message, param=param)


def _shown(row: KeyRow) -> dict[str, Any]:
    return {
        "id": row.id, "kind": row.kind.value, "name": row.name, "tenant": row.tenant,
        "role": None if row.role is None else row.role.value, "created_at": row.created_at,
        "created_by": row.created_by, "expires_at": row.expires_at, "revoked_at": row.revoked_at,
        "used_at": row.used_at,
    }  # fmt: skip


def key_routes(ports: Ports) -> list[Route]:
    """The routes of this module."""
    handlers, identifier = KeyRoutes(ports), r"{id:[A-Za-z0-9_-]{1,64}}"
    return [
        Route("GET", "/keys", Permission.OWN, handlers.listed, "Keys, without what they open with",
              answer_schema=obj({"keys": listing(obj(_ROW)), "more": TRUTH}), tenant_bound=True,
              query={"kind": one_of(KeyKind)}),
        Route("POST", "/keys", Permission.OWN, handlers.create, "Make a key; it is shown this once",
              request_schema=_WANTED, answer_schema=_MADE, tenant_bound=True, action="key.create", status=201),
        Route("POST", f"/keys/{identifier}/rotate", Permission.OWN, handlers.rotate,
              "Make a key that takes the place of another", request_schema=obj({}, {"overlap_seconds": _OVERLAP}),
              answer_schema=_MADE, tenant_bound=True, action="key.rotate", status=201),
        Route("DELETE", f"/keys/{identifier}", Permission.OWN, handlers.revoke, "Let a key open nothing any more",
              answer_schema=obj(_ROW), tenant_bound=True, action="key.revoke"),
    ]  # fmt: skip
