"""The service's HTTP doors: three mints, three calls, the hang-up. What each accepts is in the method of its name."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol

from aiohttp import BodyPartReader, web

from relay.simulator.api_error import (
    ApiError,
    bad_key,
    bad_offer,
    dead_key,
    needs_ephemeral_key,
    no_deployment,
    offer_without_audio,
    too_many,
)
from relay.simulator.faults import Faults, HttpFault, SessionFaults
from relay.simulator.field_checks import FieldError, unknown
from relay.simulator.identifiers import call_id, new_id
from relay.simulator.keys import EphemeralKey, KeyRing
from relay.simulator.offer_answer import MAX_OFFER_BYTES, Offer, OfferError, read_offer
from relay.simulator.record import CallRecord, MintRecord, Record, SessionRecord
from relay.simulator.session import Call
from relay.simulator.session_object import SessionObject
from relay.simulator.settings import SimulatorSettings
from relay.simulator.shapes import Dialect, ga_mint, ga_session, preview_mint

MAX_BODY_BYTES = 1024 * 1024
MAX_PARTS = 4
_HOLD_SECONDS = 120.0
_GARBAGE = "<html><body>upstream said something odd</body></html>"


@dataclass(frozen=True, slots=True)
class Surface:
    """One family of doors."""

    name: str
    dialect: Dialect
    azure: bool


AZURE_PREVIEW = Surface("azure-preview", Dialect.PREVIEW, azure=True)
AZURE_GA = Surface("azure-ga", Dialect.GA, azure=True)
OPENAI = Surface("openai", Dialect.GA, azure=False)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Service(Protocol):
    """What the doors need of the simulator."""

    settings: SimulatorSettings
    keys: KeyRing
    record: Record
    faults: Faults
    closing: asyncio.Event

    async def open_session(self, call: Call) -> str:
        """Start a session, return its answer; raises ApiError 429 when full."""

    def hang_up(self, call_id: str) -> bool:
        """End a call; False when there is none of this id."""


class HttpSurface:
    """Routes and their handlers."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._call_keys: dict[str, str] = {}

    def add_routes(self, app: web.Application) -> None:
        """Add every door."""
        for path in ("/openai/realtimeapi/sessions", "/openai/realtime/sessions"):
            app.router.add_post(path, self._door(AZURE_PREVIEW, self._mint))
        app.router.add_post("/v1/realtimertc", self._door(AZURE_PREVIEW, self._call))
        for prefix, surface in (("/openai/v1", AZURE_GA), ("/v1", OPENAI)):
            app.router.add_post(f"{prefix}/realtime/client_secrets", self._door(surface, self._mint))
            app.router.add_post(f"{prefix}/realtime/calls", self._door(surface, self._call))
            app.router.add_post(f"{prefix}/realtime/calls/{{id}}/hangup", self._door(surface, self._hang_up))

    def _door(self, surface: Surface, handle: Callable[[web.Request, Surface], Awaitable[web.Response]]) -> Handler:
        async def guarded(request: web.Request) -> web.StreamResponse:
            try:
                response = await handle(request, surface)
            except ApiError as error:
                response = web.json_response(error.body(), status=error.status, headers=error.headers)
            for name, value in _service_headers(surface).items():
                response.headers.setdefault(name, value)
            return response

        return guarded

    # Mint

    async def _mint(self, request: web.Request, surface: Surface) -> web.Response:
        seen = MintRecord(surface.name, request.path, dict(request.query), _headers(request))
        self._service.record.mints.append(seen)
        try:
            response = await self._mint_recorded(request, surface, seen)
            seen.status = 0 if _was_cut(request) else response.status
        except ApiError as error:
            seen.status = error.status
            raise
        finally:
            self._service.record.touch()
        return response

    async def _mint_recorded(self, request: web.Request, surface: Surface, seen: MintRecord) -> web.Response:
        text = await request.text()
        seen.body = _parsed(text)
        self._service.record.touch()
        fault, delay_ms = self._service.faults.take_mint()
        if spoilt := await self._spoil(request, fault, delay_ms, ok=200):
            return spoilt
        _check_version(request, surface)
        self._check_resource_key(request, surface)
        key = self._new_key(seen.body, surface)
        seen.key = key.value
        return web.json_response(_mint_answer(key))

    def _new_key(self, body: Any, surface: Surface) -> EphemeralKey:
        settings = self._service.settings
        preview = surface.dialect is Dialect.PREVIEW
        try:
            if preview and isinstance(body, dict) and "type" in body:
                raise unknown("session.type")
            (preview_mint if preview else ga_mint)(body, "")
        except FieldError as error:
            raise ApiError(400, error.code, error.message, param=error.param) from error
        wanted = body if preview else body["session"]
        session = self._new_session(wanted, surface)
        default = settings.preview_key_seconds if preview else settings.key_seconds
        after = (body.get("client_secret", {}) if preview else body).get("expires_after", {})
        return self._service.keys.mint(session, time.time() + after.get("seconds", default))

    def _new_session(self, wanted: dict[str, Any], surface: Surface) -> SessionObject:
        model = wanted.get("model", "")
        if model not in self._service.settings.deployments:
            raise no_deployment()
        session = SessionObject(surface.dialect, model, new_id("sess"))
        session.configure({k: v for k, v in wanted.items() if k != "client_secret"})
        return session

    # Call

    async def _call(self, request: web.Request, surface: Surface) -> web.Response:
        seen = CallRecord(surface.name, request.path, dict(request.query), _headers(request))
        self._service.record.calls.append(seen)
        try:
            response = await self._call_recorded(request, surface, seen)
            seen.status = 0 if _was_cut(request) else response.status
        except ApiError as error:
            seen.status = error.status
            raise
        finally:
            self._service.record.touch()
        return response

    async def _call_recorded(self, request: web.Request, surface: Surface, seen: CallRecord) -> web.Response:
        sdp, session_part = await _read_offer_body(request, surface)
        seen.offer = sdp
        self._service.record.touch()
        fault, delay_ms, session_faults = self._service.faults.take_call()
        if spoilt := await self._spoil(request, fault, delay_ms, ok=201):
            return spoilt
        _check_version(request, surface)
        key = self._call_key(request, surface, multipart=session_part is not None)
        if surface is AZURE_PREVIEW and request.query.get("model", "") not in self._service.settings.deployments:
            raise no_deployment()
        base = key.session if key else self._session_of_part(session_part, surface)
        offer = _parsed_offer(sdp)
        seen.answer = await self._open(request, base, offer, session_faults, seen)
        if key:
            self._service.keys.spend(key)
            self._remember_caller(seen.call_id or "", key.value)
        return _call_answer(seen, surface)

    async def _open(
        self, request: web.Request, base: SessionObject, offer: Offer, faults: SessionFaults, seen: CallRecord
    ) -> str:
        expires_at = int(time.time() + self._service.settings.session_seconds)
        session = base.renewed(new_id("sess"), expires_at)
        seen.call_id, seen.session_id = call_id(), session.id
        record = SessionRecord(session.id, seen.call_id, seen.surface, session)
        filtered = request.query.get("webrtcfilter") == "on"
        return await self._service.open_session(Call(offer, session, record, faults, filtered))

    def _session_of_part(self, part: str | None, surface: Surface) -> SessionObject:
        body = _parsed(part or "")
        try:
            ga_session(body, "session")
        except FieldError as error:
            raise ApiError(400, error.code, error.message, param=error.param) from error
        return self._new_session(body, surface)

    def _call_key(self, request: web.Request, surface: Surface, *, multipart: bool) -> EphemeralKey | None:
        """Return the key a call came with; None for the resource key with a multipart body on an OpenAI path."""
        credential = _credential(request)
        key = self._service.keys.find(credential)
        if key is None or key.dialect is not surface.dialect:
            if credential == self._service.settings.api_key and multipart:
                return None
            resource = credential in (self._service.settings.api_key, self._service.settings.entra_token)
            raise needs_ephemeral_key() if resource else dead_key("invalid")
        if fault := self._service.keys.fault(key, time.time()):
            raise dead_key(fault)
        return key

    def _remember_caller(self, call: str, key: str) -> None:
        self._call_keys[call] = key
        while len(self._call_keys) > self._service.settings.max_sessions * 2:
            del self._call_keys[next(iter(self._call_keys))]

    async def _hang_up(self, request: web.Request, surface: Surface) -> web.Response:
        _check_version(request, surface)
        call = request.match_info["id"]
        if self._call_keys.get(call) != _credential(request):
            self._check_resource_key(request, surface)
        if not self._service.hang_up(call):
            raise ApiError(404, "call_id_not_found", "No call with this id is in progress.")
        return web.Response(status=200)

    def _check_resource_key(self, request: web.Request, surface: Surface) -> None:
        settings = self._service.settings
        accepted = [value for value in (settings.api_key, settings.entra_token) if value]
        if _credential(request) not in accepted:
            raise bad_key(azure=surface.azure)

    async def _spoil(
        self, request: web.Request, fault: HttpFault | None, delay_ms: float, *, ok: int
    ) -> web.Response | None:
        """Delay, then refuse or spoil the answer as a fault says. None: nothing is wrong."""
        if delay_ms:
            await self._pause(delay_ms / 1000)
        match fault:
            case None:
                return None
            case HttpFault.GARBAGE:
                return web.Response(status=ok, text=_GARBAGE, content_type="text/html")
            case HttpFault.DROP:
                if request.transport is not None:
                    request.transport.abort()
                return web.Response(status=ok)
            case HttpFault.TIMEOUT:
                await self._pause(_HOLD_SECONDS)
                raise ApiError(504, "504", "Gateway timeout.", type="server_error")
            case _:
                raise _REFUSALS[fault]

    async def _pause(self, seconds: float) -> None:
        """Wait, but not longer than the simulator lives."""
        try:
            async with asyncio.timeout(seconds):
                await self._service.closing.wait()
        except TimeoutError:
            return


_REFUSALS = {
    HttpFault.UNAUTHORIZED: bad_key(azure=True),
    HttpFault.FORBIDDEN: ApiError(403, "PermissionDenied", "The principal lacks the required data action."),
    HttpFault.NOT_FOUND: no_deployment(),
    HttpFault.RATE_LIMITED: too_many(7.5),
    HttpFault.SERVER_ERROR: ApiError(
        500, "500", "The server had an error processing your request.", type="server_error"
    ),
    HttpFault.UNAVAILABLE: ApiError(503, "503", "The server is overloaded.", type="server_error"),
    HttpFault.CONTENT_FILTER: ApiError(400, "content_filter", "The request was filtered by the content policy."),
}


def _mint_answer(key: EphemeralKey) -> dict[str, Any]:
    expires_at = int(key.expires_at)
    if key.dialect is Dialect.PREVIEW:
        return {**key.session.echo(), "client_secret": {"value": key.value, "expires_at": expires_at}}
    return {"value": key.value, "expires_at": expires_at, "session": key.session.echo()}


def _call_answer(seen: CallRecord, surface: Surface) -> web.Response:
    if surface is AZURE_PREVIEW:
        return web.Response(status=200, text=seen.answer, content_type="application/sdp")
    # Relative, without the /openai prefix, and not application/sdp (Azure GA, recorded).
    headers = {"location": f"/v1/realtime/calls/{seen.call_id}", "timing-allow-origin": "*"}
    return web.Response(status=201, text=seen.answer, content_type="text/plain", headers=headers)


def _service_headers(surface: Surface) -> dict[str, str]:
    request_id = secrets.token_hex(16)
    headers = {
        "openai-processing-ms": "12",
        "openai-version": "2020-10-01",
        "strict-transport-security": "max-age=31536000; includeSubDomains; preload",
        "access-control-allow-origin": "*",
        "access-control-expose-headers": "Location,X-Request-Id",
    }
    if surface.azure:
        return headers | {"apim-request-id": request_id, "azureml-served-by-cluster": "simulated-cluster-01"}
    return headers | {"x-request-id": f"req_{request_id}"}


@web.middleware
async def answer_everything(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Preflights on any path, and the one error shape for paths and methods that do not exist."""
    if request.method == "OPTIONS":
        return _preflight(request)
    try:
        return await handler(request)
    except (web.HTTPNotFound, web.HTTPMethodNotAllowed) as error:
        body = ApiError(error.status, str(error.status), "Resource not found").body()
        return web.json_response(body, status=error.status)


def _preflight(request: web.Request) -> web.Response:
    wanted = request.headers.get("access-control-request-headers", "*")
    headers = {"access-control-allow-origin": "*", "access-control-allow-methods": "POST, GET, OPTIONS"}
    return web.Response(status=204, headers=headers | {"access-control-allow-headers": wanted})


def _was_cut(request: web.Request) -> bool:
    return request.transport is None or request.transport.is_closing()


def _headers(request: web.Request) -> dict[str, str]:
    return {name.lower(): value for name, value in request.headers.items()}


def _credential(request: web.Request) -> str:
    """Return the `api-key` header or the bearer token; "" when there is neither."""
    if key := request.headers.get("api-key"):
        return key
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def _check_version(request: web.Request, surface: Surface) -> None:
    """`api-version` is needed at the preview mint and refused on the GA paths of Azure (documented: 401)."""
    given = "api-version" in request.query
    if surface is AZURE_GA and given:
        raise ApiError(401, "401", "The query parameter 'api-version' is not allowed on this path.")
    if surface is AZURE_PREVIEW and not given and request.path.startswith("/openai/"):
        raise ApiError(404, "404", "Resource not found")


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


def _parsed_offer(sdp: str) -> Offer:
    try:
        return read_offer(sdp)
    except OfferError as error:
        raise (offer_without_audio() if error.no_audio else bad_offer()) from error


async def _read_offer_body(request: web.Request, surface: Surface) -> tuple[str, str | None]:
    """Return the offer, and the `session` part of a multipart body (OpenAI paths only)."""
    if request.content_type == "application/sdp":
        return await request.text(), None
    if request.content_type != "multipart/form-data" or surface.azure:
        raise ApiError(400, "unsupported_content_type", "Content-Type must be application/sdp.")
    parts: dict[str, str] = {}
    reader = await request.multipart()
    for _ in range(MAX_PARTS):
        part = await reader.next()
        if part is None:
            break
        if not isinstance(part, BodyPartReader) or part.name not in ("sdp", "session"):
            raise ApiError(400, "unknown_parameter", "A call takes the parts 'sdp' and 'session'.")
        raw = bytes(await part.read(decode=True))
        parts[part.name] = raw[: MAX_OFFER_BYTES + 1].decode("utf-8", "replace")
    if "sdp" not in parts:
        raise ApiError(400, "missing_required_parameter", "Missing required parameter: 'sdp'.", param="sdp")
    return parts["sdp"], parts.get("session", "")
