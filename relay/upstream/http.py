"""One bounded POST to the service: time, answer size, redirects, cookies, proxies and connections decided here."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, field
from http import HTTPStatus
from types import SimpleNamespace
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp

from relay.upstream.keep_warm import KeepWarm, Warmth
from relay.upstream.refusals import read_refusal, request_id, safe_id, scrub
from relay.upstream.service import Operation, ServiceError, ServiceRefusal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

CONNECTIONS_MAX = 64
CONNECT_SECONDS = 5.0
ERROR_BODY_MAX_BYTES = 65_536
_DNS_SECONDS = 60
_WARMTH = Warmth()
# A request that may be sent again: an unused key expires, and hanging up twice is hanging up.
_REPEATABLE = frozenset({Operation.MINT, Operation.HANG_UP})


@dataclass(frozen=True, slots=True)
class Post:
    """A request; `private` are texts of it that no error may repeat, `answer_max_bytes` bounds a success's body.

    `accepted` gets a success's `Location` before its body is read: what was made by then is there, whatever follows.
    """

    operation: Operation
    url: str
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    answer_max_bytes: int
    private: tuple[str, ...] = field(default=(), repr=False)
    accepted: Callable[[str | None], object] = field(default=lambda _: None, repr=False)


@dataclass(frozen=True, slots=True)
class Reply:
    """A successful answer."""

    status: int
    body: bytes = field(repr=False)
    request_id: str | None
    region: str | None


class ServiceHttp:
    """Connections to the service, kept alive between requests. Needs a running loop to be made."""

    def __init__(self, timeout_seconds: float, warmth: Warmth = _WARMTH) -> None:
        self._timeout_seconds = timeout_seconds
        self._warm = KeepWarm(warmth, self._refresh)
        # By scheme and host, of which the settings name a few: asking the environment costs as much as a request.
        self._proxies: dict[tuple[str, str], str | None] = {}
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=CONNECTIONS_MAX, keepalive_timeout=warmth.idle_seconds, ttl_dns_cache=_DNS_SECONDS
            ),
            trace_configs=[_reuse_trace()],
            cookie_jar=aiohttp.DummyCookieJar(),
            # The service refuses more than ten headers of one's own; answers are small, so none is compressed.
            headers={"User-Agent": "relay", "Accept-Encoding": "identity"},
        )

    async def post(self, post: Post, timeout_seconds: float | None = None) -> Reply:
        """Send and read one answer of 2xx; everything else is a ServiceError."""
        if self._session.closed:
            raise ServiceError(ServiceRefusal.UNREACHABLE, post.operation, "the relay is stopping")
        seconds = timeout_seconds or self._timeout_seconds
        try:
            return await self._sent(post, seconds)
        # What aiohttp raises can carry the request's headers: it is described, never chained.
        except aiohttp.ConnectionTimeoutError:
            raise ServiceError(ServiceRefusal.UNREACHABLE, post.operation, "no connection in time") from None
        except TimeoutError:
            raise ServiceError(ServiceRefusal.TIMEOUT, post.operation, f"no answer within {seconds:g} s") from None
        except aiohttp.ClientHttpProxyError as error:
            detail = f"the proxy answered {error.status}"
            raise ServiceError(ServiceRefusal.UNREACHABLE, post.operation, detail) from None
        except (aiohttp.ClientResponseError, aiohttp.ClientPayloadError) as error:
            detail = f"the answer is no HTTP or broke off ({type(error).__name__})"
            raise ServiceError(ServiceRefusal.INVALID_ANSWER, post.operation, detail) from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            detail = f"{type(error).__name__}: {scrub(str(error), post.private)}"
            raise ServiceError(ServiceRefusal.UNREACHABLE, post.operation, detail) from None

    async def close(self) -> None:
        """Close every connection; may be called twice."""
        await self._warm.close()
        await self._session.close()

    async def _sent(self, post: Post, seconds: float) -> Reply:
        """Exchange once; once more if a kept connection turns out to be closed by the service."""
        on, began = _Connection(), time.monotonic()
        try:
            return await self._exchange(post, seconds, on)
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError, ConnectionError):
            left = seconds - (time.monotonic() - began)
            if not on.reused or post.operation not in _REPEATABLE or left <= 0:
                raise
        return await self._exchange(post, left, _Connection())

    async def _refresh(self, origin: str) -> bool:
        """Use a connection, or open one, by a request that tells and asks nothing: any answer to it is right."""
        timeout = aiohttp.ClientTimeout(total=CONNECT_SECONDS)
        # What does not work now, the next request finds out and tells.
        with contextlib.suppress(aiohttp.ClientError, OSError, ValueError):
            async with self._session.options(
                f"{origin}/", timeout=timeout, allow_redirects=False, proxy=environment_proxy(origin)
            ) as response:
                whole = await _read(response, ERROR_BODY_MAX_BYTES) is not None
                return whole and "close" not in response.headers.get("connection", "").lower()
        return True

    async def _exchange(self, post: Post, seconds: float, on: _Connection) -> Reply:
        # Connecting gets less than the whole, so that a silent network is told from a silent service.
        timeout = aiohttp.ClientTimeout(total=seconds, sock_connect=min(CONNECT_SECONDS, seconds / 2))
        async with self._session.post(
            post.url,
            data=post.body,
            headers=post.headers,
            timeout=timeout,
            allow_redirects=False,
            proxy=self._proxy(post.url),
            trace_request_ctx=on,
        ) as response:
            self._warm.used(post.url)
            if not HTTPStatus.OK <= response.status < HTTPStatus.MULTIPLE_CHOICES:
                refusal = await _read_error(response)
                raise read_refusal(post.operation, response.status, response.headers, refusal, post.private)
            post.accepted(response.headers.get("location"))
            body = await _read(response, post.answer_max_bytes)
            if body is None:
                raise ServiceError(
                    ServiceRefusal.INVALID_ANSWER,
                    post.operation,
                    f"the answer is longer than {post.answer_max_bytes} bytes",
                    status=response.status,
                    request_id=request_id(response.headers),
                )
            return Reply(
                response.status,
                body,
                request_id(response.headers),
                safe_id(response.headers.get("x-ms-region")),
            )

    def _proxy(self, url: str) -> str | None:
        parts = urlsplit(url)
        place = (parts.scheme, parts.netloc)
        if place not in self._proxies:
            self._proxies[place] = environment_proxy(url)
        return self._proxies[place]


@dataclass(slots=True)
class _Connection:
    """What a request ran over: `reused` if that had served another one before."""

    reused: bool = False


def _reuse_trace() -> aiohttp.TraceConfig:
    async def on_reuse(_session: object, context: SimpleNamespace, _params: object) -> None:
        if isinstance(context.trace_request_ctx, _Connection):
            context.trace_request_ctx.reused = True

    trace = aiohttp.TraceConfig()
    trace.on_connection_reuseconn.append(on_reuse)
    return trace


def environment_proxy(url: str) -> str | None:
    """Return the proxy that HTTPS_PROXY, HTTP_PROXY and NO_PROXY name for `url`.

    aiohttp's own `trust_env` also reads `.netrc`, and fails or adds a second credential when an entry matches.
    """
    parts = urlsplit(url)
    proxy = getproxies().get(parts.scheme)
    if not proxy or proxy_bypass(parts.netloc):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


async def _read(response: aiohttp.ClientResponse, limit: int) -> bytes | None:
    """Return the whole body, or None if it is longer than `limit`; leaving the response then closes it."""
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > limit:
            return None
    return bytes(body)


async def _read_error(response: aiohttp.ClientResponse) -> bytes:
    """Return the body of a refusal, empty if it is too long or breaks off: the status says enough."""
    try:
        return await _read(response, ERROR_BODY_MAX_BYTES) or b""
    except aiohttp.ClientPayloadError:
        return b""
