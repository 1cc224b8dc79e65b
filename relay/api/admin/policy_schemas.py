"""The bodies, parameters and answers of the policy routes, as JSON Schema."""

from __future__ import annotations

from typing import Any

from relay.core.revision_files import MOST_FILES
from relay.core.stored import NOTE_MOST, PAGE_MOST

_TEXT = {"type": "string"}
_WHOLE = {"type": "integer", "minimum": 1, "maximum": 2_147_483_647}
_NULLABLE_TEXT = {"type": ["string", "null"]}
NOTE = {"type": "string", "maxLength": NOTE_MOST}
NOTE_QUERY = {"note": NOTE}
PAGE_QUERY = {"before": _WHOLE, "limit": {"type": "integer", "minimum": 1, "maximum": PAGE_MOST}}
TO_QUERY = {"to": _WHOLE}
NUMBER = "{number:[0-9]{1,9}}"


def _object(**properties: Any) -> dict[str, Any]:
    required = sorted(properties)
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def _list(of: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": of}


def _files(text: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "maxProperties": MOST_FILES, "additionalProperties": text}


SET_BODY = {**_object(files=_files(_TEXT), note=NOTE), "required": ["files"]}
# A path with null stands for a file that is taken away.
CHANGES_BODY = _object(files=_files(_NULLABLE_TEXT))
NOTE_BODY = {**_object(note=NOTE), "required": []}

PROBLEM = _object(
    file=_TEXT, line={"type": "integer"}, path=_TEXT, message=_TEXT, severity={"enum": ["error", "warning"]}
)
CHANGE = _object(policy=_TEXT, what=_TEXT, old=_TEXT, new=_TEXT, direction={"enum": ["tighter", "looser", "changed"]})
PUBLISHED = _object(revision=_WHOLE, hash=_TEXT, etag=_TEXT, warnings=_list(PROBLEM))
PROBLEMS = _object(problems=_list(PROBLEM))
CHANGES = _object(changes=_list(CHANGE))
POLICIES = _object(
    managed={"type": "boolean"},
    revision={"type": ["integer", "null"]},
    etag=_NULLABLE_TEXT,
    files=_list(_object(path=_TEXT, bytes={"type": "integer"}, documents=_list(_TEXT))),
    policies=_list(_object(name=_TEXT, revision=_TEXT)),
)
_ROW = {"number": _WHOLE, "hash": _TEXT, "author": _TEXT, "at": {"type": "number"}, "note": _TEXT}
REVISIONS = _object(revisions=_list(_object(**_ROW)), next={"type": ["integer", "null"]})
REVISION = _object(**_ROW, etag=_TEXT, files=_files(_TEXT))
DRY_RUN = _object(
    changes=_list(CHANGE),
    live=_list(
        _object(
            session=_TEXT,
            tenant=_TEXT,
            subject=_TEXT,
            **{"from": _TEXT, "to": _NULLABLE_TEXT, "from_revision": _TEXT, "to_revision": _NULLABLE_TEXT},
            changes={"type": "integer"},
            how={"enum": ["now", "limits now", "next session"]},
        )
    ),
    recorded=_list(
        _object(tenant=_TEXT, subject=_TEXT, certain={"type": "boolean"}, **{"from": _TEXT, "to": _NULLABLE_TEXT})
    ),
    truncated={"type": "boolean"},
)
