"""The doors by name: one closed vocabulary for paths, metric labels and log fields."""

from __future__ import annotations

import re
from enum import StrEnum


class Door(StrEnum):
    """A browser-facing path, or the family of paths that serve one purpose in one dialect."""

    PREVIEW_SESSIONS = "preview_sessions"
    PREVIEW_CALL = "preview_call"
    BETA_SESSIONS = "beta_sessions"
    BETA_CALL = "beta_call"
    GA_CLIENT_SECRETS = "ga_client_secrets"
    GA_CALLS = "ga_calls"
    GA_REOFFER = "ga_reoffer"
    GA_HANGUP = "ga_hangup"
    GA_STATS = "ga_stats"
    ICE_SERVERS = "ice_servers"
    CONNECTION_CHECK = "connection_check"
    OTHER = "other"


PATHS: dict[str, Door] = {
    "/openai/realtimeapi/sessions": Door.PREVIEW_SESSIONS,
    "/openai/realtime/sessions": Door.PREVIEW_SESSIONS,
    "/v1/realtimertc": Door.PREVIEW_CALL,
    "/v1/realtime/sessions": Door.BETA_SESSIONS,
    "/v1/realtime": Door.BETA_CALL,
    "/openai/v1/realtime/client_secrets": Door.GA_CLIENT_SECRETS,
    "/v1/realtime/client_secrets": Door.GA_CLIENT_SECRETS,
    "/openai/v1/realtime/calls": Door.GA_CALLS,
    "/v1/realtime/calls": Door.GA_CALLS,
    "/openai/v1/realtime/connection_check": Door.CONNECTION_CHECK,
    "/v1/realtime/connection_check": Door.CONNECTION_CHECK,
}
ICE_SERVERS_PATHS = ("/openai/v1/realtime/ice_servers", "/v1/realtime/ice_servers")
SESSION_ID = r"[A-Za-z0-9_-]{1,64}"
CALL_PATHS = tuple(f"{prefix}/realtime/calls/{{session_id:{SESSION_ID}}}" for prefix in ("/openai/v1", "/v1"))
HANGUP_PATHS = tuple(f"{path}/hangup" for path in CALL_PATHS)
STATS_PATHS = tuple(f"{path}/stats" for path in CALL_PATHS)
_OF_CALL = re.compile(rf"(/openai)?/v1/realtime/calls/{SESSION_ID}(/hangup|/stats)?")
_DOORS_OF_CALL = {None: Door.GA_REOFFER, "/hangup": Door.GA_HANGUP, "/stats": Door.GA_STATS}


def door_of(path: str) -> Door:
    """The door a request path leads to, `other` for everything else."""
    door = PATHS.get(path)
    if door is not None:
        return door
    if path in ICE_SERVERS_PATHS:
        return Door.ICE_SERVERS
    of_call = _OF_CALL.fullmatch(path)
    if of_call is None:
        return Door.OTHER
    return _DOORS_OF_CALL[of_call[2]]


def is_door_path(path: str) -> bool:
    """Whether a path lies where doors are: such requests come under the origin rules, even when nothing is there."""
    return path.startswith(("/v1/", "/openai/"))
