"""The service's three protocols: Azure GA, OpenAI (the same requests on other paths), Azure preview."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from relay.config import UpstreamAuth, UpstreamProtocol
from relay.core.lifecycle import Dialect
from relay.errors import ConfigError
from relay.upstream.credentials import AzureKey, BearerKey, Credential, CredentialError, entra_credential
from relay.upstream.http import Post, Reply, ServiceHttp
from relay.upstream.service import Operation, ServiceCall, ServiceError, ServiceKey, ServiceRefusal, Upstream

if TYPE_CHECKING:
    from collections.abc import Iterator

    from relay.config import UpstreamSettings

JSON_MAX_BYTES = 262_144
SDP_MAX_BYTES = 65_536
HANG_UP_SECONDS = 5.0

_CALL_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")
_KEY = re.compile(r"[\x21-\x7e]{1,4096}")


def create_upstream(settings: UpstreamSettings, entra: Credential | None = None) -> Upstream:
    """Make the adapter that the settings ask for; needs a running loop, opens no connection yet. Raises ConfigError.

    `entra` is the identity to be used where the settings ask for one; without it the adapter finds its own.
    """
    credential = _credential(settings, entra)
    http = ServiceHttp(settings.timeout_seconds)
    match settings.protocol:
        case UpstreamProtocol.AZURE_GA:
            return GaUpstream(f"{settings.endpoint}/openai/v1/realtime", credential, http)
        case UpstreamProtocol.OPENAI:
            return GaUpstream(f"{settings.endpoint}/v1/realtime", credential, http)
        case UpstreamProtocol.AZURE_PREVIEW:
            webrtc = settings.webrtc_endpoint
            if webrtc is None:
                raise ConfigError("upstream.webrtc_endpoint or upstream.region is needed for azure-preview")
            return PreviewUpstream(settings.endpoint, webrtc, settings.api_version, credential, http)


class GaUpstream:
    """The GA protocol of Azure and OpenAI: mint, post the offer with that key, hang up by call id.

    No `api-version` (Azure refuses it on these paths) and never `webrtcfilter`: the relay would lose usage, errors
    and tool calls, and filters for its clients itself. Azure takes the offer only with a minted key (Azure GA, seen).
    """

    def __init__(self, base_url: str, credential: Credential, http: ServiceHttp) -> None:
        self.dialect = Dialect.GA
        self._base_url = base_url
        self._gate = _Gate(credential, http)

    async def mint(self, session: dict[str, Any]) -> ServiceKey:
        """Mint at `client_secrets`; no `expires_after` is sent, for Azure does not document that it takes it."""
        reply = await self._gate.mint(f"{self._base_url}/client_secrets", {"session": session}, session)
        document = _json_object(reply)
        return _service_key(reply, document, document.get("session"))

    async def call(self, key: ServiceKey, offer: str, deployment: str) -> ServiceCall:  # noqa: ARG002 - bound to the key
        """Post the raw offer at `calls`; the session's configuration comes from the key."""
        return await self._gate.call(f"{self._base_url}/calls", key, offer)

    async def hang_up(self, call: ServiceCall) -> None:
        """Hang up with the relay's own credential, as documented by OpenAI (for WebRTC on Azure: inferred)."""
        if call.call_id is not None:
            await self._gate.hang_up(f"{self._base_url}/calls/{call.call_id}/hangup")

    @property
    def credential_expires_at(self) -> float | None:
        """When the relay's own credential ends."""
        return self._gate.expires_at

    async def close(self) -> None:
        """Close connections and credential."""
        await self._gate.close()


class PreviewUpstream:
    """Azure's preview protocol: minted at the resource, the offer posted at the region. It knows no hang-up."""

    def __init__(
        self, endpoint: str, webrtc_endpoint: str, api_version: str, credential: Credential, http: ServiceHttp
    ) -> None:
        self.dialect = Dialect.PREVIEW
        self._mint_url = f"{endpoint}/openai/realtimeapi/sessions?api-version={quote(api_version, safe='')}"
        self._call_url = f"{webrtc_endpoint}/v1/realtimertc"
        self._gate = _Gate(credential, http)

    async def mint(self, session: dict[str, Any]) -> ServiceKey:
        """Mint with a flat body; the answer is the session with a `client_secret` in it."""
        reply = await self._gate.mint(self._mint_url, session, session)
        document = _json_object(reply)
        secret = document.pop("client_secret", None)
        return _service_key(reply, secret if isinstance(secret, dict) else {}, document)

    async def call(self, key: ServiceKey, offer: str, deployment: str) -> ServiceCall:
        """Post the raw offer; the deployment is named in the query."""
        return await self._gate.call(f"{self._call_url}?model={quote(deployment, safe='')}", key, offer)

    async def hang_up(self, call: ServiceCall) -> None:
        """Do nothing: the call ends with its media."""

    @property
    def credential_expires_at(self) -> float | None:
        """When the relay's own credential ends."""
        return self._gate.expires_at

    async def close(self) -> None:
        """Close connections and credential."""
        await self._gate.close()


class _Gate:
    """The requests both protocols share."""

    def __init__(self, credential: Credential, http: ServiceHttp) -> None:
        self._credential = credential
        self._http = http

    @property
    def expires_at(self) -> float | None:
        return self._credential.expires_at

    async def mint(self, url: str, body: dict[str, Any], session: dict[str, Any]) -> Reply:
        headers = await self._own_headers(Operation.MINT)
        return await self._http.post(
            Post(
                Operation.MINT,
                url,
                {**headers, "Content-Type": "application/json"},
                json.dumps(body).encode(),
                JSON_MAX_BYTES,
                (*headers.values(), *_texts(session)),
            )
        )

    async def call(self, url: str, key: ServiceKey, offer: str) -> ServiceCall:
        headers = {"Authorization": f"Bearer {key.value}", "Content-Type": "application/sdp"}
        call_id: str | None = None

        def accepted(location: str | None) -> None:
            nonlocal call_id
            call_id = _call_id(location)

        try:
            reply = await self._http.post(
                Post(Operation.CALL, url, headers, offer.encode(), SDP_MAX_BYTES, (key.value, offer), accepted)
            )
            answer = _sdp(reply)
        except ServiceError as error:
            error.call_id = call_id
            raise
        return ServiceCall(answer, call_id, reply.request_id, reply.region)

    async def hang_up(self, url: str) -> None:
        headers = await self._own_headers(Operation.HANG_UP)
        post = Post(Operation.HANG_UP, url, headers, b"", JSON_MAX_BYTES, tuple(headers.values()))
        await self._http.post(post, HANG_UP_SECONDS)

    async def close(self) -> None:
        await self._http.close()
        await self._credential.close()

    async def _own_headers(self, operation: Operation) -> dict[str, str]:
        try:
            return await self._credential.headers()
        except CredentialError as error:
            raise ServiceError(error.refusal, operation, error.detail) from None


def _credential(settings: UpstreamSettings, entra: Credential | None) -> Credential:
    if settings.auth is UpstreamAuth.ENTRA:
        return entra or entra_credential(settings.entra_scope, settings.timeout_seconds)
    if settings.api_key is None:
        raise ConfigError("upstream.api_key is needed unless upstream.auth is entra")
    return (BearerKey if settings.protocol is UpstreamProtocol.OPENAI else AzureKey)(settings.api_key)


def _texts(value: object, key: str = "") -> Iterator[str]:
    """Yield the free texts of a session object; model names and types are no secret to an operator."""
    match value:
        case str() if key not in {"model", "type", "voice"}:
            yield value
        case dict():
            for name, member in value.items():
                yield from _texts(member, name)
        case list():
            for member in value:
                yield from _texts(member)


def _json_object(reply: Reply) -> dict[str, Any]:
    try:
        document = json.loads(reply.body)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise _invalid(Operation.MINT, reply, "the answer is no JSON object")
    return document


def _service_key(reply: Reply, secret: dict[str, Any], session: object) -> ServiceKey:
    value, expires_at = secret.get("value"), secret.get("expires_at")
    if not isinstance(value, str) or _KEY.fullmatch(value) is None:
        raise _invalid(Operation.MINT, reply, "the answer holds no key")
    return ServiceKey(
        value,
        expires_at if type(expires_at) is int else None,
        reply.request_id,
        session if isinstance(session, dict) else None,
        reply.region,
    )


def _sdp(reply: Reply) -> str:
    try:
        answer = reply.body.decode()
    except UnicodeDecodeError:
        answer = ""
    if not answer.startswith("v=0"):
        raise _invalid(Operation.CALL, reply, "the answer is no SDP")
    return answer


def _call_id(location: str | None) -> str | None:
    """Take the last path segment of `Location`, absolute or relative, with or without a prefix (Azure GA, recorded)."""
    try:
        last = urlsplit(location or "").path.rstrip("/").rpartition("/")[2]
    except ValueError:
        return None
    return last if _CALL_ID.fullmatch(last) else None


def _invalid(operation: Operation, reply: Reply, detail: str) -> ServiceError:
    return ServiceError(
        ServiceRefusal.INVALID_ANSWER, operation, detail, status=reply.status, request_id=reply.request_id
    )
