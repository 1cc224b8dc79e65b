"""The schema of the tests inside policy documents."""

from __future__ import annotations

from relay.core.policy_shapes import Schema, group, text
from relay.core.verdicts import Rule, Verdict

_ANY_EVENT = {"type": ["object", "string"]}
_STEP_KEYS: dict[str, Schema] = {
    "client": _ANY_EVENT | {"description": "An event of the client, GA; or its raw text."},
    "server": _ANY_EVENT | {"description": "An event of the service, GA; or its raw text."},
}
_PATHS = {"type": "object", "minProperties": 1, "maxProperties": 64}

TEST = group(
    "One example with its outcome. It runs on the engine that judges real sessions, on a session that has just begun.",
    {
        "name": text("What it shows."),
        "claims": {"type": "object", "description": "Claims of the identity, for variables."},
        "model": text("The model that the client asks for."),
        "inherit": {
            "type": "boolean",
            "default": False,
            "description": "Must hold, as it stands, in every document built on this one too. Without it such a "
            "document is tried as well, and lint warns where something passes there that the test does not expect.",
        },
        "before": {
            "type": "array",
            "maxItems": 32,
            "items": group("a step", _STEP_KEYS),
            "description": "Events that come first; nothing is expected of them.",
        },
        **_STEP_KEYS,
        "mint": {"type": "object", "description": "A session configuration sent at minting, GA."},
        "expect": group(
            "The outcome.",
            {
                "decision": {
                    "type": "string",
                    "enum": [*Verdict],
                    "description": "The verdict. `strip`: something was left out; `rewrite`: something was changed.",
                },
                "rule": {
                    "type": "string",
                    "enum": [*Rule],
                    "x-see": "the rules in metrics.md",
                    "description": "The rule that decided; not of a mint.",
                },
                "code": text("The error code of a refusal."),
                "param": text("The path that a refusal names."),
                "result": _PATHS
                | {
                    "description": "What goes on, by dotted path: to the service (`client`, `mint`), to the client "
                    "(`server`). The values are in one event; `null`: in none of them."
                },
                "answer": _PATHS | {"description": "What the client gets back at once, by dotted path."},
            },
            ("decision",),
        ),
    },
    ("name", "expect"),
)
