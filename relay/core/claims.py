"""What the claims of a verified token say: whether they hold now, who it is, and what an administrator may. Pure."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import orjson

from relay.core.access import Administrator, Role
from relay.core.policy_resolve import Identity

# What OpenID Connect lets a subject be (Core 1.0 section 2).
SUBJECT_MOST = 255
# What of a name goes into the audit log.
_NAME_MOST = 100
_TENANT = re.compile(r"[A-Za-z0-9._:@/-]{1,128}\Z")
# The value of a tenant claim that stands for all tenants, for administrators only; no tenant is called so.
ALL_TENANTS = "*"
_LATEST = 2.0**53


class TokenRefusal(StrEnum):
    """Why a token was not taken; for metrics, never told to who showed it."""

    MALFORMED = "malformed"
    ALGORITHM = "algorithm"
    HEADER = "header"
    KEY = "key"
    SIGNATURE = "signature"
    ISSUER = "issuer"
    AUDIENCE = "audience"
    EXPIRED = "expired"
    NOT_YET_VALID = "not_yet_valid"
    SUBJECT = "subject"
    TENANT = "tenant"
    ROLE = "role"
    KEYS_AWAY = "keys_away"


@dataclass(frozen=True, slots=True)
class TokenRules:
    """What every token must say. `algorithms` are JOSE names; `skew` seconds by which clocks may differ."""

    issuer: str
    audiences: frozenset[str]
    algorithms: frozenset[str]
    subject_claim: str = "sub"
    skew: float = 60.0


@dataclass(frozen=True, slots=True)
class Claims:
    """A token that is good: who says so, of whom, and what else."""

    issuer: str
    subject: str = field(repr=False)
    values: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True, slots=True)
class UserRules:
    """How a user's claims become an identity: one tenant for all or the claim that names it, and claims to hand on."""

    tenant: str = "default"
    tenant_claim: str | None = None
    claims: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class AdminRules:
    """How an administrator's claims become a role: `roles` by claim value. `tenant_claim` None confines nobody."""

    role_claim: str
    name_claim: str
    roles: Mapping[str, Role]
    tenant_claim: str | None = None


def strict_object(data: bytes) -> dict[str, Any] | None:
    """A JSON object in UTF-8 with no name twice; None for all else (RFC 7519 section 4 lets duplicates be refused)."""
    try:
        orjson.loads(data)  # stricter than the standard library: no NaN, no lone surrogates, bounded depth
        value = json.loads(data, object_pairs_hook=_unique)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def judged(values: Mapping[str, Any], rules: TokenRules, now: float) -> Claims | TokenRefusal:
    """Whether the claims hold at `now`, Unix seconds; their signature is judged elsewhere (RFC 7519 section 4.1)."""
    if values.get("iss") != rules.issuer:
        return TokenRefusal.ISSUER
    if not _audiences(values.get("aud")) & rules.audiences:
        return TokenRefusal.AUDIENCE
    if (untimely := _untimely(values, rules.skew, now)) is not None:
        return untimely
    subject = values.get(rules.subject_claim)
    if not isinstance(subject, str) or not 0 < len(subject) <= SUBJECT_MOST or not subject.isprintable():
        return TokenRefusal.SUBJECT
    return Claims(rules.issuer, subject, values)


def subject_hash(*parts: str) -> str:
    """What stands for somebody in logs, limits and ownership: the same for the same parts, on every node."""
    # JSON keeps ("a", "bc") and ("ab", "c") apart.
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def is_tenant(name: object) -> bool:
    """Whether this can be the name of a tenant."""
    return isinstance(name, str) and _TENANT.match(name) is not None


def identity_of(claims: Claims, rules: UserRules, origin: str | None) -> Identity | TokenRefusal:
    """Who a user is. Of the claims only those named by the rules are handed on, as texts, whole numbers or lists."""
    tenant = rules.tenant if rules.tenant_claim is None else claims.values.get(rules.tenant_claim)
    if not isinstance(tenant, str) or not is_tenant(tenant):
        return TokenRefusal.TENANT
    found = {name: claims.values[name] for name in rules.claims if _is_plain(claims.values.get(name))}
    return Identity(tenant, subject_hash("oidc", claims.issuer, claims.subject), found, origin)


def administrator_of(claims: Claims, rules: AdminRules) -> Administrator | TokenRefusal:
    """What an administrator may: the highest role of those the token names.

    Without the tenant claim that is asked for it is nothing: leaving it out must not give more.
    """
    given = claims.values.get(rules.role_claim)
    named = given if isinstance(given, list) else [given]
    held = [rules.roles[value] for value in named if isinstance(value, str) and value in rules.roles]
    if not held:
        return TokenRefusal.ROLE
    tenant = None
    if rules.tenant_claim is not None and (value := claims.values.get(rules.tenant_claim)) != ALL_TENANTS:
        if not isinstance(value, str) or not is_tenant(value):
            return TokenRefusal.TENANT
        tenant = value
    return Administrator(_name(claims, rules.name_claim), max(held, key=list(Role).index), tenant)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands twice")
    return found


def _untimely(values: Mapping[str, Any], skew: float, now: float) -> TokenRefusal | None:
    expires, begins, issued = (_time(values.get(name)) for name in ("exp", "nbf", "iat"))
    if expires is None or ("nbf" in values and begins is None) or ("iat" in values and issued is None):
        return TokenRefusal.MALFORMED
    if expires + skew <= now:
        return TokenRefusal.EXPIRED
    return TokenRefusal.NOT_YET_VALID if max(begins or 0.0, issued or 0.0) - skew > now else None


def _audiences(aud: object) -> frozenset[str]:
    match aud:
        case str():
            return frozenset({aud})
        case list() if all(isinstance(each, str) for each in aud):
            return frozenset(aud)
        case _:
            return frozenset()


def _time(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value) if 0 <= value <= _LATEST else None


def _is_plain(value: object) -> bool:
    match value:
        case str() | int():
            return True
        case list():
            return _all_plain(value)
        case _:
            return False


def _all_plain(values: Iterable[object]) -> bool:
    return all(isinstance(each, str | int) for each in values)


def _name(claims: Claims, claim: str) -> str:
    # Names can be chosen by who bears them: the digits tell two of the same name apart, and nobody can be "admin.key".
    given = claims.values.get(claim)
    shown = given if isinstance(given, str) and given.isprintable() and given.strip() else "somebody"
    return f"{shown.strip()[:_NAME_MOST]} (oidc {subject_hash('oidc', claims.issuer, claims.subject)[:12]})"
