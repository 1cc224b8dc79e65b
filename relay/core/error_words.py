"""What a browser is told of an error of the service: known codes, known fields, and the relay's own words for them.

The service's own words quote what was sent, name hosts, deployments and the administrator's tools, and no pattern finds
all of that. Code and field are what a client acts on; the rest is said here.
"""

from __future__ import annotations

import re

GENERIC_MESSAGE = "The service could not process the request."

_MESSAGES = {
    "unknown_parameter": "The service does not know this field.",
    "missing_required_parameter": "A field that the service needs is missing.",
    "unsupported_parameter": "The service does not support this field here.",
    "unsupported_value": "The service does not support this value.",
    "unsupported_content_type": "The service does not support this kind of content here.",
    "invalid_value": "The value cannot be used.",
    "invalid_type": "The value has the wrong type.",
    "invalid_event": "The service could not read the event.",
    "invalid_event_id": "The id of the event cannot be used.",
    "invalid_json": "The service could not read the event.",
    "invalid_request_error": "The service did not take the request.",
    "integer_above_max_value": "The number is too large.",
    "integer_below_min_value": "The number is too small.",
    "decimal_above_max_value": "The number is too large.",
    "decimal_below_min_value": "The number is too small.",
    "string_above_max_length": "The text is too long.",
    "string_below_min_length": "The text is too short.",
    "array_above_max_length": "The list is too long.",
    "array_below_min_length": "The list is too short.",
    "object_above_max_properties": "The object has too many members.",
    "conversation_already_has_active_response": "Conversation already has an active response in progress.",
    "response_cancel_not_active": "There is no active response to cancel.",
    "item_not_found": "There is no such item in this conversation.",
    "item_already_exists": "There is an item of this id already.",
    "item_create_invalid_item_id": "There is no such item in this conversation.",
    "item_delete_invalid_item_id": "There is no such item in this conversation.",
    "item_retrieve_invalid_item_id": "There is no such item in this conversation.",
    "item_truncate_invalid_item_id": "There is no such item in this conversation.",
    "invalid_tool_call_id": "There is no such function call in this conversation.",
    "tool_call_not_found": "There is no such function call in this conversation.",
    "input_audio_buffer_commit_empty": "The input audio buffer holds too little audio to be committed.",
    "cannot_update_voice": "The voice cannot change once the model has spoken.",
    "session_expired": "The session reached its maximum duration.",
    "rate_limit_exceeded": "The service is asked too much at a time; try again later.",
    "inference_rate_limit_exceeded": "The service is asked too much at a time; try again later.",
    "insufficient_quota": "The service's quota is used up.",
    "content_filter": "The service's content filter stopped this.",
    "content_policy_violation": "The service's content filter stopped this.",
    "context_length_exceeded": "The conversation is too long for the model.",
    "audio_unintelligible": "The audio could not be understood.",
    "transcription_failed": "The audio could not be transcribed.",
    "transcription_error": "The audio could not be transcribed.",
    "DeploymentNotFound": "The model is not available.",
    "OperationNotSupported": "The model does not support this.",
    "model_not_found": "The model is not available.",
    "server_error": "The service failed.",
    "internal_error": "The service failed.",
    "timeout": "The service took too long.",
    "service_unavailable": "The service is not available now.",
}
KNOWN_CODES = frozenset(_MESSAGES)
"""The codes that a browser may be told of, and that errors are counted by."""

_TYPES = frozenset(
    {
        "invalid_request_error",
        "server_error",
        "rate_limit_error",
        "rate_limit_exceeded",
        "tokens",
        "requests",
        "insufficient_quota",
        "authentication_error",
        "permission_error",
        "transcription_error",
        "internal_error",
        "timeout",
    }
)
REASONS = frozenset(
    {"turn_detected", "client_cancelled", "max_output_tokens", "content_filter", "interruption", "cancelled", "error"}
)
"""Why a response is not complete, as far as a browser is told."""

_LONGEST_PARAM = 128
_PARAM = re.compile(r"([a-z_]+)(?:\[\d{1,4}\])?(?:\.|$)")
_PARAM_WORDS = """
    type event_id session response item item_id previous_item_id response_id content_index output_index audio_end_ms
    audio input output format rate transcription language languages noise_reduction strength turn_detection threshold
    prefix_padding_ms silence_duration_ms idle_timeout_ms create_response interrupt_response eagerness voice speed
    output_modalities modalities max_output_tokens max_response_output_tokens include parallel_tool_calls reasoning
    effort temperature input_audio_format output_audio_format input_audio_transcription input_audio_noise_reduction
    role content text transcript image_url detail call_id status id approval_request_id approve reason metadata
    conversation arguments
    """
_PARAM_NAMES = frozenset(_PARAM_WORDS.split())


def public_type(value: object) -> str:
    """The type of an error, `server_error` for one that nobody knows."""
    return value if isinstance(value, str) and value in _TYPES else "server_error"


def public_code(value: object) -> str | None:
    """The code of an error; None for one that nobody knows."""
    return value if isinstance(value, str) and value in _MESSAGES else None


def public_message(code: str | None) -> str:
    """The relay's own words for a known code."""
    return _MESSAGES.get(code or "", GENERIC_MESSAGE)


def public_param(value: object) -> str | None:
    """The field at fault, by names that clients use; None for others, and for what is hidden from them anyhow."""
    if not isinstance(value, str) or len(value) > _LONGEST_PARAM:
        return None
    at, names = 0, []
    while at < len(value):
        match = _PARAM.match(value, at)
        if match is None or match[1] not in _PARAM_NAMES:
            return None
        names.append(match[1])
        at = match.end()
    return value if names and not value.endswith(".") else None
