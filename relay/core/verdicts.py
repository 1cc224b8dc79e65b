"""The closed words of a decision about one event."""

from __future__ import annotations

from enum import StrEnum


class Verdict(StrEnum):
    """What became of an event."""

    FORWARD = "forward"
    REWRITE = "rewrite"
    STRIP = "strip"
    REFUSE = "refuse"
    WITHHOLD = "withhold"
    END = "end"


class Rule(StrEnum):
    """Which rule decided; the path under which the policy document will name it."""

    ALLOWED = "events.allowed"
    FRAMING = "events.framing"
    TYPE = "events.type"
    CLIENT_TYPES = "events.client"
    SERVER_TYPES = "events.server"
    PASS_UNKNOWN = "events.pass_unknown"  # noqa: S105 - to let pass, no password
    SIZE = "events.size"
    FLOOD = "events.flood"
    FIELDS = "events.fields"
    DIALECT = "events.dialect"
    WEBRTC_FILTER = "events.webrtc_filter"
    SESSION_INSTRUCTIONS = "session.instructions"
    SESSION_TYPE = "session.type"
    SESSION_FIELDS = "session.fields"
    SESSION_TRANSCRIPTION = "session.transcription"
    SESSION_ECHO = "session.echo"
    SESSION_IN_FORCE = "session.in_force"
    SESSION_OWN_UPDATE = "session.own_update"
    SESSION_FORMER_PEER = "session.former_peer"
    SESSION_EXPIRED = "session.expired"
    RESPONSE_OVERRIDES = "responses.overrides"
    RESPONSE_FIELDS = "responses.fields"
    RESPONSE_INPUT = "responses.input"
    RESPONSE_OUT_OF_BAND = "responses.out_of_band"
    ITEM_TYPE = "items.type"
    ITEM_ROLE = "items.role"
    ITEM_CONTENT = "items.content"
    ITEM_POSITION = "items.position"
    ITEM_KNOWN = "items.known"
    ITEM_CALL = "items.call"
    ITEM_HISTORY = "items.history_import"
    ITEM_RETRIEVE = "items.retrieve"
    ITEM_DELETE = "items.delete"
    ITEM_TRUNCATE = "items.truncate"
    TOOLS_CLIENT = "tools.client_functions"
    TOOLS_MCP = "tools.mcp"
    TOOLS_ADMIN = "tools.admin"
    CANARY = "canary"
    INPUT_AUDIO = "input_audio.append"
    RATE_LIMITS = "rate_limits.hidden"
    SERVICE_ERROR = "errors.redacted"
    LIMIT_SESSION = "limits.session_seconds"
    LIMIT_IDLE = "limits.idle_seconds"
    QUOTA = "quotas"
    KILL_SWITCH = "kill_switch"
    SINK_FAILURE = "on_sink_failure"
    RESIDENCY = "upstream.regions"
