"""What the handlers have in common: answers, the row for the audit log, and what an administrator may see."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from aiohttp import web

from relay.core.stored import AuditNote
from relay.errors import ApiError, ErrorCode

if TYPE_CHECKING:
    from relay.core.access import Administrator


def answer(body: Mapping[str, Any], status: int = 200) -> web.Response:
    """A JSON answer."""
    return web.json_response(body, status=status)


def note(administrator: Administrator, action: str, target: str = "", tenant: str = "", **body: Any) -> AuditNote:
    """The audit row of a change that is being made; the body holds no secret."""
    return AuditNote(administrator.name, administrator.role.value, action, tenant, target, accepted=True, body=body)


def nothing_there() -> ApiError:
    """The one answer for what is unknown, gone, or somebody else's."""
    return ApiError(404, ErrorCode.NOT_FOUND, "There is nothing at this address.")


def narrowed(wanted: dict[str, Any], administrator: Administrator) -> dict[str, Any] | None:
    """A search as this administrator may make it; None for one that asks for another tenant's: it finds nothing."""
    if administrator.tenant is None:
        return wanted
    if wanted.get("tenant", administrator.tenant) != administrator.tenant:
        return None
    return {**wanted, "tenant": administrator.tenant}
