"""Reading what a client sends: its type, its size and the time it takes are judged before anything is parsed."""

from __future__ import annotations

import asyncio

from aiohttp import web

from relay.errors import ApiError, ErrorCode

SDP_MAX_BYTES = 65_536
JSON_MAX_BYTES = 65_536
FORM_MAX_BYTES = 131_072
_INVALID_OFFER = "Invalid SDP offer. Please try again with a WHIP-compliant offer."


def media_type(request: web.Request, accepted: tuple[str, ...]) -> str:
    """The request's media type, one of `accepted`. Raises ApiError 415."""
    encoding = request.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding != "identity":
        raise _unsupported("Compressed request bodies are not accepted.")
    # aiohttp answers application/octet-stream for an absent header, which no door accepts.
    if request.content_type not in accepted:
        raise _unsupported(f"Content-Type must be one of: {', '.join(accepted)}.")
    if _charset(request).lower() not in {"utf-8", "utf8"}:
        raise _unsupported("Request bodies must be UTF-8.")
    return request.content_type


async def read_body(request: web.Request, limit: int, seconds: float) -> bytes:
    """The whole body, at most `limit` bytes, within `seconds`. Raises ApiError 400, 408, 413."""
    if (request.content_length or 0) > limit:
        raise too_large(limit)
    body = bytearray()
    try:
        async with asyncio.timeout(seconds):
            async for chunk in request.content.iter_any():
                body += chunk
                if len(body) > limit:
                    raise too_large(limit)
    except TimeoutError:
        raise ApiError(408, ErrorCode.REQUEST_TIMEOUT, "The request body took too long to arrive.") from None
    except (web.RequestPayloadError, ConnectionError):
        raise ApiError(400, ErrorCode.INVALID_REQUEST, "The request body did not arrive whole.") from None
    return bytes(body)


def offer_text(body: bytes) -> str:
    """An SDP offer as text; only its outer form is checked here. Raises ApiError 400, 413."""
    if len(body) > SDP_MAX_BYTES:
        raise too_large(SDP_MAX_BYTES)
    try:
        offer = body.decode()
    except UnicodeDecodeError:
        raise invalid_offer() from None
    # RFC 8866 section 5: a description begins with v=0, and NUL occurs nowhere in it.
    if not offer.startswith(("v=0\r", "v=0\n")) or "\0" in offer:
        raise invalid_offer()
    return offer


def too_large(limit: int) -> ApiError:
    """The refusal of something longer than `limit` bytes."""
    return ApiError(413, ErrorCode.REQUEST_TOO_LARGE, f"The request is larger than {limit} bytes.")


def invalid_offer() -> ApiError:
    """The refusal of an offer that is no SDP, in the service's words."""
    return ApiError(400, ErrorCode.INVALID_OFFER, _INVALID_OFFER)


def _charset(request: web.Request) -> str:
    return request.charset or "utf-8"


def _unsupported(message: str) -> ApiError:
    return ApiError(415, ErrorCode.UNSUPPORTED_MEDIA_TYPE, message)
