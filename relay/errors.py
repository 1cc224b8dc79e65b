"""The closed vocabularies of refusals and ends.

One word is the metric label, the log field, the error code a client sees and the heading in `docs/reference/errors.md`.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

_SERVER_ERRORS = 500


class ErrorCode(StrEnum):
    """Why a door refused a request, or an event was answered with an `error` event."""

    INVALID_API_KEY = "invalid_api_key"
    KEY_IN_USE = "key_in_use"
    ORIGIN_NOT_ALLOWED = "origin_not_allowed"
    FORBIDDEN = "forbidden"
    IDENTITY_UNAVAILABLE = "identity_unavailable"
    NOT_FOUND = "not_found"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    MODEL_NOT_FOUND = "DeploymentNotFound"
    UNSUPPORTED_MEDIA_TYPE = "unsupported_media_type"
    REQUEST_TOO_LARGE = "request_too_large"
    REQUEST_TIMEOUT = "request_timeout"
    INVALID_REQUEST = "invalid_request"
    INVALID_VALUE = "invalid_value"
    INVALID_TYPE = "invalid_type"
    INVALID_OFFER = "invalid_offer"
    INVALID_EVENT = "invalid_event"
    UNKNOWN_EVENT = "unknown_event"
    EVENT_TOO_LARGE = "event_too_large"
    RATE_LIMIT_EXCEEDED = "rate_limit_exceeded"
    QUOTA_EXCEEDED = "quota_exceeded"
    QUOTA_UNAVAILABLE = "quota_unavailable"
    POLICY_VIOLATION = "policy_violation"
    ITEM_NOT_FOUND = "item_not_found"
    AT_CAPACITY = "at_capacity"
    DRAINING = "draining"
    SESSION_NOT_ACTIVE = "session_not_active"
    PEER_GONE = "peer_gone"
    DECISION_LOG_UNAVAILABLE = "decision_log_unavailable"
    POLICY_INVALID = "policy_invalid"
    POLICIES_IN_FILES = "policies_in_files"
    PRECONDITION_REQUIRED = "precondition_required"
    REVISION_STALE = "revision_stale"
    STORE_UNAVAILABLE = "store_unavailable"
    REGION_UNAVAILABLE = "region_unavailable"
    SERVICE_UNAUTHORIZED = "service_unauthorized"
    SERVICE_NO_DEPLOYMENT = "service_no_deployment"
    SERVICE_RATE_LIMITED = "service_rate_limited"
    SERVICE_CONTENT_FILTER = "content_filter"
    SERVICE_REFUSED_OFFER = "service_refused_offer"
    SERVICE_REJECTED = "service_rejected"
    SERVICE_FAILED = "service_failed"
    SERVICE_TIMEOUT = "service_timeout"
    SERVICE_UNREACHABLE = "service_unreachable"
    SERVICE_ANSWER_INVALID = "service_answer_invalid"
    INTERNAL_ERROR = "internal_error"


class EndReason(StrEnum):
    """Why a session ended; the first that happens wins."""

    CLIENT_LEFT = "client_left"
    CLIENT_HUNG_UP = "client_hung_up"
    CLIENT_LOST = "client_lost"
    CLIENT_UNREACHABLE = "client_unreachable"
    CLIENT_DTLS_FAILED = "client_dtls_failed"
    CLIENT_CHANNEL_TIMEOUT = "client_channel_timeout"
    CLIENT_PROTOCOL_ERROR = "client_protocol_error"
    CLIENT_MESSAGE_TOO_LARGE = "client_message_too_large"
    CLIENT_FLOOD = "client_flood"
    CLIENT_TOO_SLOW = "client_too_slow"
    SERVICE_REFUSED = "service_refused"
    SERVICE_LEFT = "service_left"
    SERVICE_LOST = "service_lost"
    SERVICE_UNREACHABLE = "service_unreachable"
    SERVICE_DTLS_FAILED = "service_dtls_failed"
    SERVICE_CHANNEL_TIMEOUT = "service_channel_timeout"
    SERVICE_PROTOCOL_ERROR = "service_protocol_error"
    SERVICE_MESSAGE_TOO_LARGE = "service_message_too_large"
    SERVICE_TOO_SLOW = "service_too_slow"
    SESSION_EXPIRED = "session_expired"
    POLICY_UNCONFIRMED = "policy_unconfirmed"
    POLICY_NOT_IN_FORCE = "policy_not_in_force"
    POLICY_KILLED = "policy_killed"
    POLICY_TIME_LIMIT = "policy_time_limit"
    POLICY_IDLE = "policy_idle"
    POLICY_UNRECORDED = "policy_unrecorded"
    POLICY_DISCLOSED = "policy_disclosed"
    POLICY_REGION = "policy_region"
    QUOTA_TIME = "quota_time"
    QUOTA_TOKENS = "quota_tokens"
    QUOTA_COST = "quota_cost"
    QUOTA_SESSIONS = "quota_sessions"
    OFFER_REFUSED = "offer_refused"
    REQUEST_CANCELLED = "request_cancelled"
    EARLY_UNUSED = "early_unused"
    OPERATOR_ENDED = "operator_ended"
    RELAY_DRAINING = "relay_draining"
    WORKER_LOST = "worker_lost"
    RELAY_FAILED = "relay_failed"

    @property
    def side(self) -> str:
        """Who ended it: `client`, `service`, `policy` or `relay` (the metric label)."""
        prefix = self.value.partition("_")[0]
        if self is EndReason.SESSION_EXPIRED:
            return "service"
        if self in {EndReason.OFFER_REFUSED, EndReason.REQUEST_CANCELLED}:
            return "client"
        if prefix == "quota":
            return "policy"
        return prefix if prefix in {"client", "service", "policy"} else "relay"


class ApiError(Exception):
    """A refusal at a door, rendered as the OpenAI error shape.

    `message` is public: it never names the service's host, deployment, key or the policy's text.
    `headers` are added to the answer (for instance `retry-after`), `extra` to its body, beside `error`.
    """

    def __init__(
        self,
        status: int,
        code: ErrorCode,
        message: str,
        *,
        param: str | None = None,
        headers: dict[str, str] | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(f"{status} {code.value}: {message}")
        self.status = status
        self.code = code
        self.message = message
        self.param = param
        self.headers = headers or {}
        self.extra = extra or {}

    @property
    def kind(self) -> str:
        """The `type` in the body."""
        return "invalid_request_error" if self.status < _SERVER_ERRORS else "server_error"

    @property
    def body(self) -> dict[str, Any]:
        """The JSON body, `{"error": {message, type, param, code}}` (protocol: errors over HTTP)."""
        return {
            **self.extra,
            "error": {
                "message": self.message,
                "type": self.kind,
                "param": self.param,
                "code": self.code.value,
            },
        }


class ConfigError(Exception):
    """The configuration cannot be used; the message says where and what to do, and quotes no secret."""


class UnreachableError(ConfigError):
    """A server that the configuration names does not answer now; the same configuration may be good in a moment."""
