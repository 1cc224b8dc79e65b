"""Which pages may call the doors, and the CORS headers that tell their browsers so (protocol: the Fetch standard)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from relay.api.client_address import Network, client_scheme
from relay.api.door_names import Door, door_of

if TYPE_CHECKING:
    from aiohttp import web

EXPOSED = "Location, X-Request-Id, apim-request-id, retry-after, retry-after-ms, x-should-retry"
MAX_AGE_SECONDS = 600
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}")
_MAX_REQUESTED_HEADERS = 48
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}


@dataclass(frozen=True, slots=True)
class Origins:
    """The origins whose pages may call: those configured (`*`: all), and the relay's own."""

    allowed: tuple[str, ...]
    trusted_proxies: tuple[Network, ...]

    def admits(self, request: web.Request) -> bool:
        """Whether a request comes from an allowed page, or from no page at all (no `Origin`)."""
        origin = request.headers.get("Origin")
        return origin is None or "*" in self.allowed or origin in self.allowed or origin == self._own(request)

    def _own(self, request: web.Request) -> str:
        proto = request.headers.get("X-Forwarded-Proto")
        scheme = client_scheme(request.scheme, request.remote, proto, self.trusted_proxies)
        # Browsers leave the scheme's own port out of an origin (RFC 6454 section 6.2).
        return f"{scheme}://{request.host.lower().removesuffix(_DEFAULT_PORTS[scheme])}"


def answer_headers(origin: str) -> dict[str, str]:
    """The headers of every answer to an admitted page."""
    return {"Access-Control-Allow-Origin": origin, "Access-Control-Expose-Headers": EXPOSED}


def preflight_headers(request: web.Request) -> dict[str, str]:
    """The headers of a preflight's answer: a page may send the headers it asks to send, within bounds."""
    method = "GET" if door_of(request.path) is Door.ICE_SERVERS else "POST"
    headers = {
        "Access-Control-Allow-Methods": method,
        "Access-Control-Max-Age": str(MAX_AGE_SECONDS),
        "Allow": ", ".join(sorted((method, "OPTIONS"))),
    }
    asked = request.headers.get("Access-Control-Request-Headers", "").split(",")
    names = [name for name in (part.strip() for part in asked[:_MAX_REQUESTED_HEADERS]) if _TOKEN.fullmatch(name)]
    if names:
        headers["Access-Control-Allow-Headers"] = ", ".join(names)
    # A page of a public origin calling a relay on a private address (Private Network Access).
    if request.headers.get("Access-Control-Request-Private-Network") == "true":
        headers["Access-Control-Allow-Private-Network"] = "true"
    return headers
