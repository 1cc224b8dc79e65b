"""Identifiers in the service's style: a prefix that names the kind, then random hex."""

from __future__ import annotations

import secrets


def new_id(prefix: str, characters: int = 21) -> str:
    """For instance `item_3f…`; at most 32 characters in all, as items need it."""
    return f"{prefix}_{secrets.token_hex(characters)[:characters]}"


def call_id() -> str:
    """`rtc_` and 32 hex digits (Azure GA, recorded)."""
    return f"rtc_{secrets.token_hex(16)}"


def ephemeral_key() -> str:
    """Return `ek_` and 32 hex digits."""
    return f"ek_{secrets.token_hex(16)}"
