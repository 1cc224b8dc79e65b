"""The SDP doors: an offer in, the relay's answer out; and hanging up."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from aiohttp import web

from relay.api.auth import Gatekeeper
from relay.api.bodies import FORM_MAX_BYTES, SDP_MAX_BYTES, media_type, offer_text, read_body
from relay.api.door_names import door_of
from relay.api.form import form_fields
from relay.api.ice_servers import IceServers
from relay.api.mint import refuse_sideband
from relay.api.session_wish import DEFAULT_MODEL_NAMES, Wish, ga_wish, in_dialect, json_object, merged, model_name
from relay.api.telemetry_port import AuthMethod
from relay.core.client_stats import client_stats
from relay.core.doors import Opened, OpenRequest
from relay.core.ephemeral_keys import (
    SECONDS_PER_TRY,
    Begun,
    Grant,
    InUse,
    Replay,
    TriedTooOften,
    Unknown,
    key_id,
)
from relay.core.lifecycle import Dialect
from relay.errors import ApiError, ErrorCode
from relay.identity.callers import Caller

if TYPE_CHECKING:
    from relay.core.doors import Sessions

SDP = "application/sdp"
FORM = "multipart/form-data"
JSON = "application/json"
STATS_MAX_BYTES = 2_048
_PARTS = frozenset({"sdp", "session"})


@dataclass(frozen=True, slots=True)
class CallDoors:
    """Handlers of the SDP doors, and of a session's own: to offer again, and to hang up."""

    gate: Gatekeeper
    sessions: Sessions
    body_seconds: float
    servers: IceServers

    async def ga(self, request: web.Request) -> web.Response:
        """GA: raw SDP, or a form with `sdp` and `session` → 201, the answer and a `Location`."""
        return await self._serve(request, Dialect.GA, (SDP, FORM))

    async def preview(self, request: web.Request) -> web.Response:
        """Preview and beta: raw SDP, the model in the query → 201 and the answer."""
        return await self._serve(request, Dialect.PREVIEW, (SDP,))

    async def reoffer(self, request: web.Request) -> web.Response:
        """Come back to a session: raw SDP → 200 and the answer, for an ICE restart as for a new peer connection."""
        owner, key = await self._owner_of_call(request, bound=True)
        media_type(request, (SDP,))
        offer = offer_text(await read_body(request, SDP_MAX_BYTES, self.body_seconds))
        if owner is None:
            raise _no_such_call()
        answer = await self.sessions.reoffer(request.match_info["session_id"], owner, offer)
        headers = [("Content-Type", SDP), *self.servers.links(key, self.gate.clock())]
        return web.Response(body=answer.encode(), headers=headers)

    async def hang_up(self, request: web.Request) -> web.Response:
        """End a session: by the key that opened it, or by the client key behind it; all others see none."""
        owner, _ = await self._owner_of_call(request, bound=False)
        if owner is None or not self.sessions.hang_up(request.match_info["session_id"], owner):
            raise _no_such_call()
        return web.json_response({})

    async def stats(self, request: web.Request) -> web.Response:
        """What a client measures of its running session: a small JSON object of figures → 204."""
        owner, _ = await self._owner_of_call(request, bound=True)
        media_type(request, (JSON,))
        stats = client_stats(json_object(await read_body(request, STATS_MAX_BYTES, self.body_seconds)))
        if stats is None:
            raise ApiError(400, ErrorCode.INVALID_REQUEST, "The report is not an object of known figures.")
        if owner is None:
            raise _no_such_call()
        self.sessions.report_stats(request.match_info["session_id"], owner, stats)
        return web.Response(status=204)

    async def _owner_of_call(self, request: web.Request, *, bound: bool) -> tuple[str | None, str | None]:
        """Whose key asks for the session in the path, and the ephemeral key if it is one.

        No owner for a key that opened another session or none; a `bound` key is good for its own origin alone.
        """
        credential, who = await self.gate.holder(request, bound=bound)
        if isinstance(who, Caller):
            return who.owner, None
        return (who.owner if who.session_id == request.match_info["session_id"] else None), credential

    async def _serve(self, request: web.Request, dialect: Dialect, accepted: tuple[str, ...]) -> web.Response:
        # Nothing is read for a stranger.
        credential, who = await self.gate.holder(request)
        refuse_sideband(request)
        offer, wish = await self._read(request, dialect, accepted)
        if isinstance(who, Caller):
            grant = Grant(dialect, None, None, who.owner, identity=who.identity)
            return self._answer(await self.sessions.open(_open_request(request, offer, wish, grant)), None)
        return await self._with_key(request, credential, offer, wish)

    async def _with_key(self, request: web.Request, value: str, offer: str, wish: Wish) -> web.Response:
        match self.gate.keys.begin(value, offer, self.gate.clock()):
            case Begun(grant):
                return self._answer(await self._open(request, value, offer, wish, grant), value)
            case Replay(session_id, answer):
                return self._answer(Opened(session_id, answer), value)
            case InUse():
                # Retrying at once would only meet the first request again.
                no_retry = {"x-should-retry": "false"}
                raise ApiError(409, ErrorCode.KEY_IN_USE, "This key is opening a session already.", headers=no_retry)
            case TriedTooOften():
                retry = {"retry-after": str(SECONDS_PER_TRY), "retry-after-ms": str(SECONDS_PER_TRY * 1000)}
                message = "Too many offers with this key; try again later."
                raise ApiError(429, ErrorCode.RATE_LIMIT_EXCEEDED, message, headers=retry)
            case Unknown():
                raise self.gate.refusal(request, AuthMethod.EPHEMERAL_KEY)

    async def _open(self, request: web.Request, value: str, offer: str, wish: Wish, grant: Grant) -> Opened:
        try:
            wanted = replace(_open_request(request, offer, wish, grant), key_id=key_id(value))
            opened = await self.sessions.open(wanted)
        except BaseException:  # cancellation too: the client that left may come back with its key
            self.gate.keys.release(value)
            raise
        self.gate.keys.succeed(value, opened.session_id, opened.answer, self.gate.clock())
        return opened

    def _answer(self, opened: Opened, value: str | None) -> web.Response:
        # 201 at every door: a session was made, one documented client demands it, and none demands 200.
        headers = [("Content-Type", SDP), ("Location", f"/v1/realtime/calls/{opened.session_id}")]
        headers += self.servers.links(value, self.gate.clock())
        return web.Response(status=201, body=opened.answer.encode(), headers=headers)

    async def _read(self, request: web.Request, dialect: Dialect, accepted: tuple[str, ...]) -> tuple[str, Wish]:
        model = model_name(request.query.get("model"), "model")
        if media_type(request, accepted) == SDP:
            offer = offer_text(await read_body(request, SDP_MAX_BYTES, self.body_seconds))
            return offer, Wish(dialect, None, model)
        body = await read_body(request, FORM_MAX_BYTES, self.body_seconds)
        fields = form_fields(request.headers["Content-Type"], body, _PARTS)
        if "sdp" not in fields:
            raise ApiError(400, ErrorCode.INVALID_REQUEST, "The form has no part sdp.", param="sdp")
        wish = ga_wish(json_object(fields["session"]) if "session" in fields else None)
        return offer_text(fields["sdp"]), Wish(dialect, wish.session, wish.model or model)


def _no_such_call() -> ApiError:
    return ApiError(404, ErrorCode.NOT_FOUND, "There is no such call.")


def _open_request(request: web.Request, offer: str, wish: Wish, grant: Grant) -> OpenRequest:
    # What was asked at the mint is the base; what comes with the offer is put over it; the key's model wins.
    session = merged(in_dialect(grant.client_session, grant.dialect, wish.dialect), wish.session)
    asked = grant.model or wish.model
    page = request.headers.get("Origin", grant.identity.origin)
    return OpenRequest(
        offer=offer,
        dialect=wish.dialect,
        webrtc_filter=request.query.get("webrtcfilter", "").lower() == "on",
        model=asked or DEFAULT_MODEL_NAMES[wish.dialect],
        client_session=session,
        owner=grant.owner,
        door=door_of(request.path).value,
        identity=replace(grant.identity, origin=page),
        model_asked=asked,
        traceparent=request.headers.get("traceparent"),
    )
