"""What the relay itself says to a client: refusals, the announcement of an end, the end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from relay.errors import EndReason, ErrorCode

if TYPE_CHECKING:
    from relay.core.lifecycle import ToldRefusal

_REFUSALS = {
    ErrorCode.INVALID_EVENT: "The event could not be read: one JSON object with a string 'type' is expected.",
    ErrorCode.EVENT_TOO_LARGE: "The event is too large.",
    ErrorCode.UNKNOWN_EVENT: "This type of event is not available here.",
    ErrorCode.INVALID_TYPE: "The value has the wrong type.",
    ErrorCode.INVALID_VALUE: "The value cannot be used.",
    ErrorCode.ITEM_NOT_FOUND: "There is no such item in this conversation.",
    ErrorCode.RATE_LIMIT_EXCEEDED: "Too many requests at a time.",
    ErrorCode.POLICY_VIOLATION: "This session's configuration is managed by your administrator.",
}
_ENDS = {
    EndReason.CLIENT_HUNG_UP: "The call was hung up.",
    EndReason.CLIENT_PROTOCOL_ERROR: "The connection was closed because of a protocol error of the client.",
    EndReason.CLIENT_MESSAGE_TOO_LARGE: "The connection was closed because a message was too large.",
    EndReason.CLIENT_FLOOD: "The connection was closed because the client sent too much.",
    EndReason.CLIENT_TOO_SLOW: "The connection was closed because the client reads too slowly.",
    EndReason.SESSION_EXPIRED: "The session reached its maximum duration.",
    EndReason.POLICY_UNCONFIRMED: "The session could not be started under its configuration.",
    EndReason.POLICY_NOT_IN_FORCE: "The session was closed because its configuration could not be assured.",
    EndReason.POLICY_KILLED: "Sessions like this one were stopped by your administrator.",
    EndReason.POLICY_TIME_LIMIT: "The session reached the longest time your administrator allows.",
    EndReason.POLICY_IDLE: "The session was idle for as long as your administrator allows.",
    EndReason.POLICY_UNRECORDED: "The session was closed because its records cannot be kept.",
    EndReason.POLICY_DISCLOSED: "The session was closed because the model said what it must not.",
    EndReason.QUOTA_TIME: "The minutes allowed for today are used up.",
    EndReason.QUOTA_TOKENS: "The tokens allowed for today are used up.",
    EndReason.QUOTA_COST: "The amount allowed for today is used up.",
    EndReason.QUOTA_SESSIONS: "More sessions were running than are allowed at the same time.",
    EndReason.OPERATOR_ENDED: "The session was ended by an operator.",
    EndReason.RELAY_DRAINING: "The server is going out of service; please reconnect.",
    EndReason.RELAY_FAILED: "The server failed.",
}
_SERVICE_END = "The connection to the model was lost."
_NOBODY_LISTENS = frozenset(
    {
        EndReason.CLIENT_LEFT,
        EndReason.CLIENT_LOST,
        EndReason.CLIENT_UNREACHABLE,
        EndReason.CLIENT_DTLS_FAILED,
        EndReason.CLIENT_CHANNEL_TIMEOUT,
        EndReason.OFFER_REFUSED,
        EndReason.REQUEST_CANCELLED,
        EndReason.WORKER_LOST,
        EndReason.EARLY_UNUSED,
    }
)


def refusal(notice_id: str, code: ErrorCode, param: str | None, client_event_id: str | None) -> dict[str, Any]:
    """The `error` event that answers a client's event; quotes nothing of it but its id."""
    message = _REFUSALS.get(code, _REFUSALS[ErrorCode.POLICY_VIOLATION])
    return _error(notice_id, "invalid_request_error", code.value, message, (param, client_event_id))


def refused(notice_id: str, told: ToldRefusal) -> dict[str, Any]:
    """The session was refused after its client had its answer: what the door would have said."""
    return _error(notice_id, told.kind, told.code.value, told.message)


def ending(notice_id: str, reason: EndReason, seconds_left: int) -> dict[str, Any]:
    """The session will end in `seconds_left`."""
    return {
        "type": "relay.session.ending",
        "event_id": notice_id,
        "reason": reason.value,
        "seconds_left": seconds_left,
    }


def end(notice_id: str, reason: EndReason) -> dict[str, Any] | None:
    """The session ends now: an `error` whose code is the reason. None when there is no client to hear it."""
    if reason in _NOBODY_LISTENS:
        return None
    kind = "invalid_request_error" if reason.side == "client" else "server_error"
    return _error(notice_id, kind, reason.value, _ENDS.get(reason, _SERVICE_END))


def _error(
    notice_id: str, kind: str, code: str, message: str, about: tuple[str | None, str | None] = (None, None)
) -> dict[str, Any]:
    """`about` is the field at fault and the client's own event id."""
    param, client_event_id = about
    error = {"type": kind, "code": code, "message": message, "param": param, "event_id": client_event_id}
    return {"type": "error", "event_id": notice_id, "error": error}
