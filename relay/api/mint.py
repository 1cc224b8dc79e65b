"""The mint doors: a client key in, an ephemeral key of the relay's own out. The service is not asked here."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aiohttp import web

from relay.api.auth import Gatekeeper, method_of
from relay.api.bodies import JSON_MAX_BYTES, media_type, read_body
from relay.api.door_names import door_of
from relay.api.session_wish import DEFAULT_MODEL_NAMES, Wish, ga_wish, json_object, key_seconds, preview_wish
from relay.core.doors import OpenRequest
from relay.core.ephemeral_keys import MATERIAL_BYTES, Grant, KeysExhaustedError, Minted, key_id
from relay.core.policy import ConfigRefusal, EffectivePolicy, describe_session, policy_from_instructions
from relay.core.policy_resolve import Identity
from relay.core.record import Governed
from relay.core.wish_record import wish_decision
from relay.errors import ApiError, ErrorCode
from relay.identity.callers import Caller

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from relay.core.doors import Sessions
    from relay.core.lifecycle import Decided

# What a mint answer shows while it is open under which policy the key will be used: the safe defaults.
_POLICY_TO_COME = policy_from_instructions("", "")
_RETRY_SOON = {"retry-after": "5", "retry-after-ms": "5000"}


@dataclass(frozen=True, slots=True)
class MintDoors:
    """Handlers of the mint doors.

    The session shown in an answer is composed from the policy in force now; the one that counts is composed when the
    offer comes. `policy_for` raises ApiError, and gives None where it depends on the page that uses the key.
    `key_seconds` is how long a key lives at most. `decided` hears what a policy made of a configuration, unless there
    was no room for a key; there is no session yet, so its id is empty. `may_mint` counts a key that is about to be
    made; raises ApiError.
    """

    gate: Gatekeeper
    sessions: Sessions
    policy_for: Callable[[Identity, str | None], EffectivePolicy | None]
    key_seconds: int
    body_seconds: float
    decided: Callable[[str, Decided, Governed], None]
    may_mint: Callable[[Identity], Awaitable[None]]

    async def client_secrets(self, request: web.Request) -> web.Response:
        """GA: `{"session", "expires_after"}` → `{"value", "expires_at", "session"}` (Azure GA, recorded)."""
        caller, body, size = await self._admitted(request)
        seconds = key_seconds(body, self.key_seconds)
        wish = ga_wish(body.get("session"))
        minted, session = self._mint(wish, caller, size, seconds)
        self._prepare(request, wish, caller, minted)
        # A client insists on a number here and on a string there (TanStack, seen).
        return web.json_response({"value": minted.value, "expires_at": minted.expires_at, "session": session})

    async def preview_sessions(self, request: web.Request) -> web.Response:
        """Preview and beta: a flat session → the same with `id` and `client_secret` (preview, documented)."""
        caller, body, size = await self._admitted(request)
        wish = preview_wish(body)
        minted, session = self._mint(wish, caller, size, self.key_seconds)
        self._prepare(request, wish, caller, minted)
        secret = {"value": minted.value, "expires_at": minted.expires_at}
        return web.json_response({**session, "object": "realtime.session", "client_secret": secret})

    async def _admitted(self, request: web.Request) -> tuple[Caller, dict[str, Any], int]:
        credential = self.gate.credential(request)
        caller = await self.gate.caller(request, credential)
        if caller is None:
            raise self.gate.refusal(request, method_of(credential))
        refuse_sideband(request)
        if self.sessions.draining:
            message = "The relay is about to stop. Try again in a moment."
            raise ApiError(503, ErrorCode.DRAINING, message, headers=_RETRY_SOON)
        await self.may_mint(caller.identity)
        # No body at all asks for the defaults, and then has no type either.
        if request.body_exists or "Content-Type" in request.headers:
            media_type(request, ("application/json",))
        body = await read_body(request, JSON_MAX_BYTES, self.body_seconds)
        return caller, json_object(body), len(body)

    def _mint(self, wish: Wish, caller: Caller, size: int, seconds: int) -> tuple[Minted, dict[str, Any]]:
        now, identity = self.gate.clock(), caller.identity
        session_id = f"sess_{secrets.token_hex(16)}"
        bound = self.policy_for(identity, wish.model)
        policy = bound or _POLICY_TO_COME
        try:
            # Described before the key is made: what cannot be described is refused without leaving a key behind.
            model = wish.model or DEFAULT_MODEL_NAMES[wish.dialect]
            session = describe_session(policy, wish.session, wish.dialect, session_id, model, 0)
            grant = Grant(wish.dialect, wish.model, wish.session, caller.owner, size, identity, caller.key_id)
            minted = self.gate.keys.mint(secrets.token_bytes(MATERIAL_BYTES), grant, now, seconds)
        except ConfigRefusal as refused:
            self._tell(bound, wish, identity)
            message = "The session cannot be configured like this."
            raise ApiError(400, refused.code, message, param=refused.param) from None
        except KeysExhaustedError as full:
            if full.of_owner:
                message = "Too many of your keys are waiting to be used. Try again in a moment."
                raise ApiError(429, ErrorCode.QUOTA_EXCEEDED, message, headers=_RETRY_SOON) from None
            message = "Too many keys are waiting to be used. Try again in a moment."
            raise ApiError(503, ErrorCode.AT_CAPACITY, message, headers=_RETRY_SOON) from None
        # Not of who has too many keys already: asking again and again would fill the decision log.
        self._tell(bound, wish, identity)
        return minted, session

    def _tell(self, bound: EffectivePolicy | None, wish: Wish, identity: Identity) -> None:
        """Say what the policy made of the configuration, if it made anything of it."""
        if bound is not None and (decision := wish_decision(bound, wish.session, wish.dialect)) is not None:
            governed = Governed(bound.name, bound.revision, identity.tenant, identity.subject_hash)
            self.decided("", decision, governed)

    def _prepare(self, request: web.Request, wish: Wish, caller: Caller, minted: Minted) -> None:
        """Say what session the key will open if nothing else comes with the offer; the answer waits for nothing."""
        wanted = OpenRequest(
            offer=None,
            dialect=wish.dialect,
            webrtc_filter=False,
            model=wish.model or DEFAULT_MODEL_NAMES[wish.dialect],
            client_session=wish.session,
            owner=caller.owner,
            door=door_of(request.path).value,
            identity=caller.identity,
            model_asked=wish.model,
            key_id=key_id(minted.value),
        )
        self.sessions.prepare(wanted, minted.expires_at - self.gate.clock())


def refuse_sideband(request: web.Request) -> None:
    """Joining a call that exists is not something a browser can do here. Raises ApiError 400."""
    if "call_id" in request.query:
        raise ApiError(400, ErrorCode.INVALID_REQUEST, "Existing calls cannot be joined.", param="call_id")
