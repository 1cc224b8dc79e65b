"""What every answer has in common: a request id, security headers, one error shape, the origin rules of the doors."""

from __future__ import annotations

import secrets
import traceback
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from aiohttp import web

from relay.api.cors import Origins, answer_headers, preflight_headers
from relay.api.door_names import door_of, is_door_path
from relay.core.kept_errors import without_frames
from relay.errors import ApiError, ErrorCode

if TYPE_CHECKING:
    from aiohttp.typedefs import Middleware

    from relay.api.telemetry_port import DoorTelemetry

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

REQUEST_ID = web.RequestKey("request_id", str)
SECURITY_HEADERS = {
    "Server": "relay",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
}
_CODES = {
    404: (ErrorCode.NOT_FOUND, "There is nothing at this address."),
    405: (ErrorCode.METHOD_NOT_ALLOWED, "This method is not allowed here."),
    413: (ErrorCode.REQUEST_TOO_LARGE, "The request is too large."),
}


def error_response(error: ApiError) -> web.Response:
    """The OpenAI error shape as an HTTP answer."""
    return web.json_response(error.body, status=error.status, headers=error.headers)


def common_headers() -> Middleware:
    """Outermost: our own request id (the client's is not believed), and defaults no handler can forget."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        request[REQUEST_ID] = f"req_{secrets.token_hex(16)}"
        response = await handler(request)
        response.headers["X-Request-Id"] = request[REQUEST_ID]
        for name, value in SECURITY_HEADERS.items():
            response.headers.setdefault(name, value)
        return response

    return middleware


def origin_rules(origins: Origins, telemetry: DoorTelemetry) -> Middleware:
    """Doors answer pages of admitted origins only, and preflights without credentials; other paths are untouched."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        if not is_door_path(request.path):
            return await handler(request)
        response = await _answer(request, handler)
        response.headers["Vary"] = "Origin"
        origin = request.headers.get("Origin")
        if origin is not None and origins.admits(request):
            response.headers.update(answer_headers(origin))
        return response

    async def _answer(request: web.Request, handler: Handler) -> web.StreamResponse:
        if not origins.admits(request):
            error = ApiError(403, ErrorCode.ORIGIN_NOT_ALLOWED, "Pages of this origin may not use this relay.")
            return _refused(request, error, telemetry)
        if request.method == "OPTIONS" and _exists(request):
            return web.Response(status=204, headers=preflight_headers(request))
        return await handler(request)

    return middleware


def errors(telemetry: DoorTelemetry) -> Middleware:
    """Innermost: whatever a handler or the router raises becomes the one error shape."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except ApiError as raised:
            error = raised
        except web.HTTPException as raised:
            error = _of_http(raised)
        except Exception as raised:  # noqa: BLE001  the last resort: logged once, told to nobody
            telemetry.warn(
                "request_failed",
                request_id=request[REQUEST_ID],
                door=door_of(request.path).value,
                error_type=type(raised).__name__,
                where=_where(raised),
            )
            # Whether a call at the service exists is not known: a retry could make a second one.
            message = "The relay failed to handle this request."
            error = ApiError(500, ErrorCode.INTERNAL_ERROR, message, headers={"x-should-retry": "false"})
        return _refused(request, without_frames(error), telemetry)

    return middleware


def _refused(request: web.Request, error: ApiError, telemetry: DoorTelemetry) -> web.Response:
    # What strangers look for elsewhere on a web server is nobody's refused session.
    if is_door_path(request.path):
        telemetry.door_refused(door_of(request.path), error.status, error.code)
    return error_response(error)


def _exists(request: web.Request) -> bool:
    failure = request.match_info.http_exception
    return failure is None or failure.status != web.HTTPNotFound.status_code


def _of_http(raised: web.HTTPException) -> ApiError:
    code, message = _CODES.get(raised.status, (ErrorCode.INVALID_REQUEST, "The request cannot be served."))
    headers = {name: raised.headers[name] for name in ("Allow",) if name in raised.headers}
    return ApiError(raised.status, code, message, headers=headers)


def _where(raised: Exception) -> str:
    # Places only: an exception's words may quote what a client sent.
    frames = traceback.extract_tb(raised.__traceback__)[-4:]
    return " < ".join(f"{frame.name}:{frame.lineno}" for frame in reversed(frames))
