"""What a client asks for in a mint body or beside its offer: parsed strictly, judged only as far as doors must."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from relay.api.bodies import JSON_MAX_BYTES, too_large
from relay.core.dialect import session_to_ga, session_to_preview
from relay.core.events import EventError, parse_json_object
from relay.core.lifecycle import Dialect
from relay.errors import ApiError, ErrorCode

KEY_SECONDS_MIN = 10
KEY_SECONDS_MAX = 7200
_MODEL_MAX = 128
DEFAULT_MODEL_NAMES = {Dialect.GA: "gpt-realtime", Dialect.PREVIEW: "gpt-4o-realtime-preview"}
"""What a session's model is called towards a client that named none; the deployment's name is not for its eyes."""


@dataclass(frozen=True, slots=True)
class Wish:
    """A session configuration as asked for, in `dialect`; `model` is its name, None when none was given."""

    dialect: Dialect
    session: dict[str, Any] | None
    model: str | None


def json_object(body: bytes) -> dict[str, Any]:
    """A JSON object of at most 64 KiB in UTF-8; an empty body is an empty object. Raises ApiError 400, 413."""
    if len(body) > JSON_MAX_BYTES:
        raise too_large(JSON_MAX_BYTES)
    if not body:
        return {}
    try:
        return parse_json_object(body.decode(), max_bytes=JSON_MAX_BYTES)
    except (UnicodeDecodeError, EventError):
        raise ApiError(400, ErrorCode.INVALID_REQUEST, "The body is not one well-formed JSON object.") from None


def ga_wish(session: object) -> Wish:
    """The wish in a GA `session` member. Raises ApiError 400."""
    if session is None:
        return Wish(Dialect.GA, None, None)
    if not isinstance(session, dict):
        raise ApiError(400, ErrorCode.INVALID_TYPE, "session must be an object.", param="session")
    return _wish(Dialect.GA, session, "session.")


def preview_wish(session: dict[str, Any]) -> Wish:
    """The wish in a preview mint body, which is the flat session itself. Raises ApiError 400."""
    return _wish(Dialect.PREVIEW, session, "")


def key_seconds(body: dict[str, Any], limit: int) -> int:
    """For how long a key shall live: what `expires_after` asks, within `limit`. Raises ApiError 400.

    The service takes 10 to 7200 seconds from `created_at` (OpenAI, documented).
    """
    if "expires_after" not in body:
        return limit
    match body["expires_after"]:
        case {"anchor": anchor} if anchor != "created_at":
            raise _bad_expiry("expires_after.anchor must be created_at.")
        case {"seconds": int(seconds)} if KEY_SECONDS_MIN <= seconds <= KEY_SECONDS_MAX:
            return min(seconds, limit)
        case dict(asked) if "seconds" not in asked:
            return limit
        case _:
            raise _bad_expiry(f"expires_after.seconds must be a whole number, {KEY_SECONDS_MIN} to {KEY_SECONDS_MAX}.")


def in_dialect(session: dict[str, Any] | None, spoken: Dialect, wanted: Dialect) -> dict[str, Any] | None:
    """A session asked for in one dialect, told in the other: a key may be used at another kind of door."""
    match (session, spoken, wanted):
        case (dict(flat), Dialect.PREVIEW, Dialect.GA):
            return session_to_ga(flat)
        case (dict(nested), Dialect.GA, Dialect.PREVIEW):
            return session_to_preview(nested)
        case _:
            return session


def merged(base: dict[str, Any] | None, change: dict[str, Any] | None) -> dict[str, Any] | None:
    """Two GA sessions as the service would apply them one after the other: fields that are present win.

    `audio.input` and `audio.output` are merged field by field, as in `session.update` (O-API, documented).
    """
    if base is None or change is None:
        return base if change is None else change
    result = {**base, **change}
    old, new = base.get("audio"), change.get("audio")
    if isinstance(old, dict) and isinstance(new, dict):
        result["audio"] = {**old, **new}
        for side in ("input", "output"):
            if isinstance(old.get(side), dict) and isinstance(new.get(side), dict):
                result["audio"][side] = {**old[side], **new[side]}
    return result


def model_name(value: object, param: str) -> str | None:
    """A model name as asked for, None for none. Raises ApiError 400."""
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise ApiError(400, ErrorCode.INVALID_TYPE, f"{param} must be a string.", param=param)
    if len(value) > _MODEL_MAX or not value.isprintable():
        raise ApiError(400, ErrorCode.INVALID_VALUE, f"{param} is not a model name.", param=param)
    return value


def _wish(dialect: Dialect, session: dict[str, Any], path: str) -> Wish:
    if session.get("type", "realtime") != "realtime":
        raise ApiError(400, ErrorCode.INVALID_VALUE, "Only sessions of type realtime are served.", param=f"{path}type")
    return Wish(dialect, session, model_name(session.get("model"), f"{path}model"))


def _bad_expiry(message: str) -> ApiError:
    return ApiError(400, ErrorCode.INVALID_VALUE, message, param="expires_after.seconds")
