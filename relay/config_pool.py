"""How the members of the upstream pool are written down in the settings."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from relay import config_values as values
from relay.config_sources import file_text

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from relay.config_values import Secret

ONLY_MEMBER = "default"
"""What the one member is called that the other settings of `upstream` describe."""
MOST_MEMBERS = 32
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,31}\Z")
_EXAMPLE = "sweden endpoint=https://my-resource.openai.azure.com region=swedencentral api_key_file=/run/secrets/sweden"


@dataclass(frozen=True, slots=True)
class PoolMember:
    """One resource of the pool. `weight` 0: only while no other can be had; `entra`: it is asked with an identity.

    `deployment` is what this resource calls `upstream.deployment`, None: the same. `key_written` says that the key
    stood in the setting itself and in no file.
    """

    name: str
    endpoint: str
    region: str | None = None
    weight: int = 1
    deployment: str | None = None
    webrtc_endpoint: str | None = None
    api_key: Secret | None = field(default=None, repr=False)
    entra: bool = False
    key_written: bool = field(default=False, repr=False)

    def __str__(self) -> str:
        shown = {"endpoint": self.endpoint, "region": self.region, "weight": self.weight,
                 "deployment": self.deployment, "webrtc_endpoint": self.webrtc_endpoint,
                 "api_key": "(set)" if self.api_key else None, "auth": "entra" if self.entra else None}  # fmt: skip
        return " ".join((self.name, *(f"{item}={value}" for item, value in shown.items() if value is not None)))


def pool_member(text: str) -> PoolMember:
    """Parse `NAME endpoint=URL item=value …`; no message holds what was given as a key."""
    name, *parts = text.split()
    if _NAME.match(name) is None:
        raise ValueError(f"{values.quoted(name)} is not a name of a member (up to 32 small letters, digits, hyphens)")
    given: dict[str, Any] = {}
    for part in parts:
        item, equals, value = part.partition("=")
        if item not in _ITEMS or not equals:
            # What has no known name in front of it may be half of a key.
            shown = f": {values.quoted(item)}" if equals and item.isidentifier() else ""
            raise ValueError(f"{name}{shown} is not one of: {', '.join(f'{each}=' for each in _ITEMS)}")
        if item in given:
            raise ValueError(f"{name}: {item} is given twice")
        try:
            given[item] = _ITEMS[item](value)
        except ValueError as error:
            raise ValueError(f"{name}: {item}: {error}") from None
    if "endpoint" not in given:
        raise ValueError(f"{name}: has no endpoint; write it like this: {_EXAMPLE}")
    if len({"api_key", "api_key_file", "auth"} & given.keys()) > 1:
        raise ValueError(f"{name}: give one of api_key_file, api_key and auth=entra")
    key_written = "api_key" in given
    if "api_key_file" in given:
        given["api_key"] = given.pop("api_key_file")
    return PoolMember(name=name, key_written=key_written, entra=given.pop("auth", False), **given)


def _key_file(path: str) -> Secret:
    return values.secret(file_text(path).strip())


def _entra(text: str) -> bool:
    if text != "entra":
        raise ValueError("can only be entra; for a key give api_key_file")
    return True


_ITEMS: dict[str, Callable[[str], object]] = {
    "endpoint": values.base_url,
    "region": values.slug,
    "weight": values.whole(0, 1_000),
    "deployment": values.name,
    "webrtc_endpoint": values.base_url,
    "api_key_file": _key_file,
    "api_key": values.secret,
    "auth": _entra,
}
