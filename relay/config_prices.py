"""How the prices of a deployment are written down in the settings."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from relay.config_values import name, quoted

# US dollars: for a million tokens of a kind, and for a minute of speech that is billed by time.
PRICED = (
    "input_text", "input_audio", "input_image", "cached_text", "cached_audio", "cached_image", "output_text",
    "output_audio", "minute",
)  # fmt: skip
_AMOUNT = re.compile(r"[0-9]{1,6}(\.[0-9]{1,6})?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Prices:
    """What one deployment costs, in US dollars by the words of PRICED; what has no price costs nothing."""

    deployment: str
    dollars: dict[str, float] = field(hash=False)

    def __str__(self) -> str:
        return " ".join((self.deployment, *(f"{item}={amount:g}" for item, amount in self.dollars.items())))


def prices(text: str) -> Prices:
    """Parse `DEPLOYMENT item=dollars …`."""
    deployment, *parts = text.split()
    dollars: dict[str, float] = {}
    for part in parts:
        item, _, amount = part.partition("=")
        if item not in PRICED:
            raise ValueError(f"{quoted(item)} is not one of: {', '.join(PRICED)}")
        if _AMOUNT.fullmatch(amount) is None:
            raise ValueError(f"{quoted(part)} gives no amount in US dollars such as 32 or 0.4")
        dollars[item] = float(amount)
    if not dollars:
        raise ValueError("give a deployment and a price at least, such as: gpt-realtime input_audio=32 output_audio=64")
    return Prices(name(deployment), dollars)
