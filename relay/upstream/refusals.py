"""What an answer that is not a success means, for the log and for the client."""

from __future__ import annotations

import json
import math
import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

from relay.errors import ApiError, ErrorCode
from relay.upstream.service import Operation, ServiceError, ServiceRefusal

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

RETRY_AFTER_MAX_MS = 3_600_000
MESSAGE_MAX_CHARS = 200

# An error message that repeats this many characters of what was sent is withheld.
_QUOTE_CHARS = 20
_QUOTE_MIN_CHARS = 8
_WORD = re.compile(r"[A-Za-z0-9_.:\[\]-]{1,80}")
_UNSAFE_ID_CHARS = re.compile(r"[^A-Za-z0-9._:-]")
_SECRETS = re.compile(
    r"""(?ix)
    \bbearer\s+\S+                              # any bearer credential
    | \b(?:ek|sk)[_-]\S+                        # ephemeral and resource keys, masked or whole
    | \beyJ[\w.-]+                              # JSON web tokens
    | \b(?:api-?key|authorization)\s*[=:]\s*\S+
    | (?<=//)[^/@\s]+(?=@)                      # the user part of a URL (proxies)
    | \b[A-Za-z0-9]{32,}={0,2}                  # Azure keys are 32 or 84 letters and digits
    """
)

_CODES = {
    "DeploymentNotFound": ServiceRefusal.NO_DEPLOYMENT,
    "model_not_found": ServiceRefusal.NO_DEPLOYMENT,
    "content_filter": ServiceRefusal.CONTENT_FILTER,
    "invalid_offer": ServiceRefusal.BAD_OFFER,
}

_PUBLIC: dict[ServiceRefusal, tuple[int, ErrorCode, str]] = {
    ServiceRefusal.UNAUTHORIZED: (
        401,
        ErrorCode.SERVICE_UNAUTHORIZED,
        "The relay's own credential was refused by the service; tell your administrator.",
    ),
    ServiceRefusal.NO_DEPLOYMENT: (
        404,
        ErrorCode.SERVICE_NO_DEPLOYMENT,
        "The model this relay is configured for does not exist at the service; tell your administrator.",
    ),
    ServiceRefusal.RATE_LIMITED: (
        429,
        ErrorCode.SERVICE_RATE_LIMITED,
        "The service's rate limit or quota is reached; try again later.",
    ),
    ServiceRefusal.CONTENT_FILTER: (
        400,
        ErrorCode.SERVICE_CONTENT_FILTER,
        "The service's content filter refused the session.",
    ),
    ServiceRefusal.BAD_OFFER: (
        400,
        ErrorCode.SERVICE_REFUSED_OFFER,
        "The service refused the WebRTC offer.",
    ),
    ServiceRefusal.REJECTED: (502, ErrorCode.SERVICE_REJECTED, "The service rejected the request."),
    ServiceRefusal.FAILED: (502, ErrorCode.SERVICE_FAILED, "The service failed; try again."),
    ServiceRefusal.TIMEOUT: (504, ErrorCode.SERVICE_TIMEOUT, "The service did not answer in time; try again."),
    ServiceRefusal.UNREACHABLE: (
        502,
        ErrorCode.SERVICE_UNREACHABLE,
        "The service cannot be reached from the relay; try again.",
    ),
    ServiceRefusal.INVALID_ANSWER: (
        502,
        ErrorCode.SERVICE_ANSWER_INVALID,
        "The service gave an answer that the relay cannot use.",
    ),
}
# SDKs retry on 5xx by themselves; these two never get better by asking again.
_HOPELESS = frozenset({ServiceRefusal.UNAUTHORIZED, ServiceRefusal.NO_DEPLOYMENT})
# After these a call may be under way at the service: a retry would open a second one.
_MAY_HAVE_BEGUN = frozenset({ServiceRefusal.TIMEOUT, ServiceRefusal.INVALID_ANSWER})


def to_api_error(error: ServiceError) -> ApiError:
    """Make the refusal a client sees: no host, deployment, key, id or word of the service's own message in it."""
    status, code, message = _PUBLIC[error.refusal]
    headers: dict[str, str] = {}
    if error.refusal in _HOPELESS or (error.operation is Operation.CALL and error.refusal in _MAY_HAVE_BEGUN):
        headers["x-should-retry"] = "false"
    if error.refusal is ServiceRefusal.RATE_LIMITED and error.retry_after_ms is not None:
        headers["retry-after"] = str(math.ceil(error.retry_after_ms / 1000))
        headers["retry-after-ms"] = str(error.retry_after_ms)
    return ApiError(status, code, message, headers=headers)


def read_refusal(
    operation: Operation,
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    private: Iterable[str],
) -> ServiceError:
    """Judge an answer outside 2xx; `private` is what was sent and must not come back in the error's detail."""
    code, param, message = _error_body(body)
    refusal = _judge(operation, status, code)
    words = [f"{name}={value}" for name, value in (("code", code), ("param", param)) if value]
    words.append(scrub(message, private))
    return ServiceError(
        refusal,
        operation,
        " ".join(words).strip() or "no error body",
        status=status,
        retry_after_ms=retry_after_ms(headers) if refusal is ServiceRefusal.RATE_LIMITED else None,
        request_id=request_id(headers),
    )


def scrub(message: str, private: Iterable[str]) -> str:
    """Return the first 200 characters on one line, credentials masked; withheld if a private text is quoted."""
    message = " ".join("".join(char if char.isprintable() else " " for char in message).split())
    if any(_quotes(message, " ".join(text.split())) for text in private):
        return "(message withheld: it repeats what was sent)"
    # Masked before it is cut: half a key at the cut would not look like one.
    return _SECRETS.sub("***", message[: 10 * MESSAGE_MAX_CHARS])[:MESSAGE_MAX_CHARS]


def request_id(headers: Mapping[str, str]) -> str | None:
    """Return the id the vendor's support asks for: `apim-request-id` (Azure) or `x-request-id` (OpenAI), made safe."""
    return safe_id(headers.get("apim-request-id") or headers.get("x-request-id"))


def safe_id(text: str | None) -> str | None:
    """Keep letters, digits and `._:-` of `text`, at most 128 characters; None if nothing is left."""
    return _UNSAFE_ID_CHARS.sub("", text or "")[:128] or None


def retry_after_ms(headers: Mapping[str, str]) -> int | None:
    """Read how long to wait, at most an hour; `retry-after-ms` beats `retry-after` (seconds or a date, RFC 9110)."""
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is None:
        text = headers.get("retry-after")
        seconds = _number(text)
        if seconds is None:
            seconds = _seconds_until(text)
        milliseconds = None if seconds is None else seconds * 1000
    return None if milliseconds is None else int(min(max(milliseconds, 0), RETRY_AFTER_MAX_MS))


def _judge(operation: Operation, status: int, code: str | None) -> ServiceRefusal:
    match status, status // 100:
        case ((401 | 403), _):
            return ServiceRefusal.UNAUTHORIZED
        case 429, _:
            return ServiceRefusal.RATE_LIMITED
        # Nothing to hang up is no statement about the deployment.
        case 404, _ if operation is not Operation.HANG_UP:
            return _CODES.get(code or "", ServiceRefusal.NO_DEPLOYMENT)
        case _, 4:
            return _CODES.get(code or "", ServiceRefusal.REJECTED)
        case _, 5:
            return ServiceRefusal.FAILED
    # Redirects are not followed: they would carry the credential to another host.
    return ServiceRefusal.INVALID_ANSWER


def _error_body(body: bytes) -> tuple[str | None, str | None, str]:
    """Return `code`, `param` (each None unless a plain word) and `message` of an OpenAI-shaped error body."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return None, None, ""
    error = document.get("error") if isinstance(document, dict) else None
    if not isinstance(error, dict):
        return None, None, ""
    message = error.get("message")
    return _word(error.get("code")), _word(error.get("param")), message if isinstance(message, str) else ""


def _word(value: object) -> str | None:
    return value if isinstance(value, str) and _WORD.fullmatch(value) and not _SECRETS.search(value) else None


def _quotes(message: str, text: str) -> bool:
    size = min(len(text), _QUOTE_CHARS)
    if size < _QUOTE_MIN_CHARS:
        return False
    shown = message[: 10 * MESSAGE_MAX_CHARS]
    return any(shown[start : start + size] in text for start in range(len(shown) - size + 1))


def _number(text: str | None) -> float | None:
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _seconds_until(text: str | None) -> float | None:
    try:
        moment = parsedate_to_datetime(text or "")
    except ValueError:
        return None
    return (moment.replace(tzinfo=moment.tzinfo or UTC) - datetime.now(UTC)).total_seconds()
