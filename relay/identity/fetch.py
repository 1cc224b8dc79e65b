"""One bounded GET to an identity provider: time, size, redirects, proxy and connections decided here."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from typing import Protocol

import aiohttp

SECONDS = 5.0
_CONNECT_SECONDS = 2.5
ANSWER_MOST_BYTES = 262_144


class FetchError(Exception):
    """There is no usable answer; the message is for operators and quotes nothing of what was answered."""


class Fetch(Protocol):
    """What gets one document. Raises FetchError."""

    async def __call__(self, url: str) -> bytes:
        """The body of a 200."""
        ...


class IssuerHttp:
    """Gets documents; every request has a connection of its own, for there is one in an hour.

    `proxy_for` names the proxy to reach a URL through, None for none.
    """

    def __init__(self, proxy_for: Callable[[str], str | None] = lambda _url: None, seconds: float = SECONDS) -> None:
        self._proxy_for = proxy_for
        self._seconds = seconds

    async def __call__(self, url: str) -> bytes:
        """The body of a 200, whole. No redirect is followed: where keys come from is not for an answer to say."""
        timeout = aiohttp.ClientTimeout(total=self._seconds, sock_connect=min(_CONNECT_SECONDS, self._seconds))
        headers = {"User-Agent": "relay", "Accept": "application/json", "Accept-Encoding": "identity"}
        try:
            async with (
                aiohttp.ClientSession(
                    timeout=timeout, cookie_jar=aiohttp.DummyCookieJar(), headers=headers, auto_decompress=False
                ) as session,
                session.get(url, allow_redirects=False, proxy=self._proxy_for(url)) as response,
            ):
                if response.status != HTTPStatus.OK:
                    raise FetchError(f"the answer is {response.status}")
                return await _body(response)
        except TimeoutError:
            raise FetchError(f"no answer within {self._seconds:g} s") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise FetchError(f"cannot be asked ({type(error).__name__})") from None


async def _body(response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > ANSWER_MOST_BYTES:
            raise FetchError(f"the answer is longer than {ANSWER_MOST_BYTES} bytes")
    return bytes(body)
