"""Who may do what on the admin side: roles, permissions and the one question. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Role(StrEnum):
    """What an administrator is; each may do what the one before may, and more."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    GOVERNOR = "governor"
    OWNER = "owner"


class Permission(StrEnum):
    """What a route of the admin API asks for.

    `read`: look at everything that is neither a policy's text nor a secret; `operate`: end sessions, drain, move the
    kill switch; `read_policies`: read whole policy documents; `govern`: change them; `own`: keys, and whatever else
    decides who may do something.
    """

    READ = "read"
    OPERATE = "operate"
    READ_POLICIES = "read_policies"
    GOVERN = "govern"
    OWN = "own"


_GRANTS: dict[Role, frozenset[Permission]] = {
    Role.VIEWER: frozenset({Permission.READ}),
    Role.OPERATOR: frozenset({Permission.READ, Permission.OPERATE}),
    Role.GOVERNOR: frozenset({Permission.READ, Permission.OPERATE, Permission.READ_POLICIES, Permission.GOVERN}),
    Role.OWNER: frozenset(Permission),
}


@dataclass(frozen=True, slots=True)
class Administrator:
    """Somebody at the admin API. `name` stands in the audit log; `tenant` None: all of them, else only this one."""

    name: str
    role: Role
    tenant: str | None = None

    def may(self, permission: Permission) -> bool:
        """Whether the role grants this."""
        return permission in _GRANTS[self.role]

    def sees(self, tenant: str) -> bool:
        """Whether what belongs to this tenant exists for this administrator at all."""
        return self.tenant is None or self.tenant == tenant
