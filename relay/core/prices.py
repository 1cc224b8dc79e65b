"""What tokens cost by an operator's prices: an estimate, since the bill is the service's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from relay.core.turn_facts import TokenKind

if TYPE_CHECKING:
    from collections.abc import Mapping

    from relay.core.turn_facts import Tokens

_PER = 1_000_000
_CACHED = frozenset({TokenKind.CACHED_TEXT, TokenKind.CACHED_AUDIO, TokenKind.CACHED_IMAGE})


def cost(dollars: Mapping[str, float], tokens: Tokens, seconds: float = 0.0) -> float:
    """US dollars for so many tokens and seconds of speech; what has no price costs nothing.

    `dollars` are for a million tokens by kind, and for a `minute`.
    """
    by_tokens = sum(number * dollars.get(priced(*key), 0.0) for key, number in tokens.items())
    return by_tokens / _PER + seconds / 60 * dollars.get("minute", 0.0)


def priced(direction: str, kind: str) -> str:
    """Under which word tokens have their price; only input is ever cached."""
    return kind if kind in _CACHED else f"{direction}_{kind}"
