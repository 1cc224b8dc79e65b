"""The JSON Schema (draft 2020-12) of a policy document: the one source of its checks, reference and inheritance.

Beside the keywords of the draft each decided value has `x-inherit`: what becomes of it when a document extends another
(`policy_inherit` reads it). Nothing here uses `$ref`, so that any part can be read by itself.
"""

from __future__ import annotations

from relay.core.events import CLIENT_EVENT_TYPES, SERVER_EVENT_TYPES
from relay.core.policy_paths import CLOSED_FIELDS, INNER_FIELDS, LOCK_ONLY_FIELDS, OPEN_FIELDS
from relay.core.policy_shapes import Schema, group, ladder, listing, mapping, most, permission, text, words
from relay.core.policy_test_schema import TEST

API_VERSION = "relay/v1"
KIND = "SessionPolicy"
SCHEMA_ID = "urn:relay:policy:v1"

INSTRUCTIONS_MAX_BYTES = 65_536
EXTENDS_MAX_DEPTH = 8

_NAME = r"^[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?$"
_FUNCTION_NAME = r"^[A-Za-z0-9_-]{1,64}$"
_REGION = r"^[a-z0-9][a-z0-9-]{0,62}$"
_SHA256 = r"^sha256:[0-9a-f]{64}$"

# --- the parts -------------------------------------------------------------------------------------------------------

_DEPLOYMENT = "name of a deployment at the service"

_MATCH = group(
    "Whom the document is for: all keys that are given must hold. Of the documents that match, the one of the highest "
    "`priority` is taken, alone. Without `match` a document is only there to be extended.",
    {
        "priority": {
            "type": "integer",
            "minimum": -1000,
            "maximum": 1000,
            "default": 0,
            "description": "The highest wins. Two documents of one priority that can match one session are an error.",
        },
        "default": {
            "type": "boolean",
            "default": False,
            "description": "The document of sessions that no other one matches; it takes no other key. Without such a "
            "document those sessions are refused (403 `policy_violation`).",
        },
        "tenants": listing("Tenants, by name; `*` stands for any.", text("a tenant", longest=128), least=1),
        "claims": mapping(
            "Claims of the verified identity: for each name the values of which one must be there; `*` stands for any.",
            listing("values", text("a value"), least=1),
            most=32,
        ),
        "origins": listing(
            "Origins of pages, as browsers send them (`https://desk.example`); `*` stands for any. A client that is no "
            "browser can send what it likes.",
            text("an origin"),
            least=1,
        ),
        "deployments": listing(
            "Model or deployment names that clients ask for; `*` stands for any, and for none. The client chooses the "
            "name it asks for.",
            text("a name"),
            least=1,
        ),
    },
)

_UPSTREAM = group(
    "Which deployments serve, under which names, and where.",
    {
        "regions": listing(
            "The regions in which sessions may be served, as `upstream.pool` names them. No other one is ever asked, "
            "whatever becomes of these. Without it, all.",
            text("a region", pattern=_REGION),
            least=1,
            most=64,
            inherit="common",
        ),
        "deployments": listing(
            "The deployments that may serve, by their names at the service; for residency where a deployment may "
            "process anywhere. Without it, all.",
            text(_DEPLOYMENT, longest=128),
            least=1,
            most=64,
            inherit="common",
        ),
        "onUnavailable": words(("refuse",))
        | {
            "description": "None of these regions or deployments can be had: the session is refused (503 "
            "`region_unavailable`). There is no other word: residency is never relaxed.",
            "x-inherit": "tightest",
        },
        "default": text(
            "The deployment for clients that name no model; without it the setting `upstream.deployment`.",
            longest=128,
            inherit="first",
        ),
        "models": mapping(
            "The name a client asks for → the deployment that serves it.",
            text(_DEPLOYMENT, longest=128),
            inherit="common_keys",
        ),
        "unknown": ladder(
            "A name that is not in `models`: the default deployment serves it, or 404 `DeploymentNotFound`.",
            "default",
            "refuse",
            default="default",
        ),
        "transcription": group(
            "Models that write down what the user says.",
            {
                "default": text(
                    "The deployment for transcription; without it the setting `upstream.transcription_deployment`.",
                    longest=128,
                    inherit="first",
                ),
                "models": mapping(
                    "The transcription model a client asks for → the deployment that serves it.",
                    text(_DEPLOYMENT, longest=128),
                    inherit="common_keys",
                ),
            },
        ),
    },
)

_INSTRUCTIONS = group(
    "What the model is told, and what becomes of instructions that a client sends.",
    {
        "text": text(
            "The instructions. `{{claim.NAME}}` is replaced by a claim of the verified identity. White space around "
            "them is dropped. In a document that extends others it comes after theirs.",
            longest=INSTRUCTIONS_MAX_BYTES,
            inherit="joined",
        ),
        "file": text(
            "The same from a UTF-8 file beside the document or below it, up to 64 KiB; not together with `text`.",
            longest=512,
            inherit="joined",
        ),
        "claimDefaults": mapping(
            "What stands for a claim that the identity lacks. Without it the session is refused.",
            text("a value", longest=200),
            most=32,
            inherit="first_of_each",
        ),
        "allowEmpty": {
            "type": "boolean",
            "default": False,
            "x-inherit": "last",
            "description": "Let sessions run without instructions: the model then does as it likes.",
        },
        "client": ladder(
            "A client's own instructions: used in place of yours (`passthrough`), put after or before yours and marked "
            "as the user's (`append`, `prepend`), dropped in silence (`override`), or refused (`deny`).",
            "passthrough",
            "append",
            "prepend",
            "override",
            "deny",
            default="override",
        ),
        "clientMaxChars": most("Longest text of a client in `append`, `prepend`, `passthrough`.", 0, 65_536, 4_000),
        "onDrift": ladder(
            "The service reports other instructions than these: write it down, put them in force again once, or end "
            "the session.",
            "log",
            "reassert",
            "end",
            default="reassert",
        ),
    },
)

_FIELD_RULE_KEYS: dict[str, Schema] = {
    "lock": {"description": "The value in force, whatever a client sends. Stands alone, but for `otherwise`."},
    "default": {"description": "The value unless the client sends one that is allowed."},
    "allow": {
        "type": "array",
        "maxItems": 64,
        "uniqueItems": True,
        "description": "The values a client may choose from; `[]`: none. Without it, any well-formed one.",
    },
    "min": {"type": "number", "description": "A smaller number is raised to this."},
    "max": {"type": "number", "description": "A larger number is lowered to this."},
    "otherwise": {
        "type": "string",
        "enum": ["strip", "refuse"],
        "default": "strip",
        "description": "A value that is not allowed is dropped in silence, or the event is refused.",
    },
}

_SESSION = group(
    "Fields of the session configuration, at minting and in `session.update`.",
    {
        "default": {
            "type": "string",
            "enum": ["allow", "strip", "refuse"],
            "default": "allow",
            "description": "Fields that `fields` does not name: treated as without a policy, dropped, or refused.",
        },
        "fields": group(
            "Rules by field, in GA names; preview clients are held to them too.",
            {
                **{
                    path: group("Open to clients unless a rule says otherwise.", _FIELD_RULE_KEYS)
                    for path in OPEN_FIELDS
                },
                **{
                    path: group("Closed to clients; a rule with `allow` opens it.", _FIELD_RULE_KEYS)
                    for path in CLOSED_FIELDS
                },
                **{
                    path: group("A member of the field before its last dot.", _FIELD_RULE_KEYS) for path in INNER_FIELDS
                },
                **{
                    path: group(
                        "Never a client's; you can lock it.", {"lock": _FIELD_RULE_KEYS["lock"]}, required=("lock",)
                    )
                    for path in LOCK_ONLY_FIELDS
                },
            },
        ),
    },
    inherit="session",
)

_RESPONSES = group(
    "What one `response.create` may say.",
    {
        "overrides": ladder(
            "Instructions, prompt, tools, tool choice, voice or model of one response: dropped, or refused.",
            "strip",
            "refuse",
            default="strip",
        ),
        "fields": listing(
            "What else a client may set.",
            words(("conversation", "input", "max_output_tokens", "metadata", "output_modalities")),
            default=["conversation", "input", "max_output_tokens", "metadata", "output_modalities"],
            inherit="common",
        ),
        "outOfBand": permission("Responses outside the conversation (`conversation: none`).", default=True),
        "maxInFlight": most("Responses outside the conversation at one time.", 1, 64, 2),
        "maxOutputTokens": most("Cap on `max_output_tokens` of one response; `inf` counts as more.", 1, 4_096),
    },
)

_ITEMS = group(
    "What a client may put into the conversation, and do to what is in it.",
    {
        "allow": listing(
            "Kinds of items a client may create. Roles `system` and `developer` are never a client's.",
            words(("function_call_output", "user.input_audio", "user.input_image", "user.input_text")),
            default=["function_call_output", "user.input_audio", "user.input_image", "user.input_text"],
            inherit="common",
        ),
        "historyImport": permission(
            "Messages in the assistant's name, to restore an earlier conversation.", default=False
        ),
        "retrieve": permission("Read items that this client was shown.", default=True),
        "delete": permission("Delete items that this client was shown.", default=True),
        "truncate": permission("Truncate items that this client was shown.", default=True),
        "insertFirst": permission("Put an item before all others (`previous_item_id: root`).", default=False),
        "remoteImages": permission("Images by link: the service would fetch what a client names.", default=False),
        "maxTextChars": most("Longest text of an item.", 1, 262_144, 100_000),
        "maxContentParts": most("Most parts of an item, and of the whole input of a response.", 1, 100, 64),
    },
)

_PARAMETERS: Schema = {"type": "object", "description": "JSON Schema of the arguments."}

_TOOLS = group(
    "Functions and servers that the model may call. MCP servers and connectors are never a client's to bring.",
    {
        "admin": listing(
            "Always in force, in the service's own form, and hidden from clients. A function that `client` "
            "lists too is answered by the client, which then sees its calls.",
            group(
                "a tool",
                {
                    "type": words(("function", "mcp")) | {"description": "What it is."},
                    "name": text("Name of a function.", pattern=_FUNCTION_NAME),
                    "description": text("What the model is told of it.", longest=16_384),
                    "parameters": _PARAMETERS,
                    "server_label": text("Name of an MCP server.", longest=64),
                    "server_url": text("Its address.", longest=2_048),
                    "allowed_tools": listing("Its tools that may be called.", text("a tool", longest=128)),
                    "require_approval": words(("always", "never")) | {"description": "Whether a user is asked."},
                },
                ("type",),
            ),
            most=128,
            inherit="union",
        ),
        "client": listing(
            "Functions a client may bring: each with your definition, or with the hash of the only one that is taken.",
            group(
                "a function",
                {
                    "name": text("Its name.", pattern=_FUNCTION_NAME),
                    "definition": group(
                        "Takes the place of what the client says of it: a description is text the model reads.",
                        {
                            "description": text("What the model is told of it.", longest=16_384),
                            "parameters": _PARAMETERS,
                        },
                    ),
                    "schemaHash": text(
                        "The only definition that is taken from a client, as `relay policy hash` prints it.",
                        pattern=_SHA256,
                    ),
                },
                ("name",),
            ),
            most=128,
            inherit="common_names",
        ),
        "clientFunctions": ladder(
            "Functions of a client that `client` does not list: let through, dropped, or refused. `strip` where "
            "`client` is given and this is not; `strip` and `refuse` without `client` leave none.",
            "allow",
            "strip",
            "refuse",
            default="allow",
        ),
        "maxTools": most("Most tools of a session, yours included.", 0, 128, 128),
        "mcpApprovals": permission("Let users answer the approval requests of your MCP servers.", default=False),
    },
)

_EVENTS = group(
    "Which events pass, and what is hidden in them.",
    {
        "client": listing(
            "Client events that are judged further; others are refused. Without it, all eleven.",
            words(CLIENT_EVENT_TYPES),
            inherit="common",
        ),
        "server": listing(
            "Server events that are passed on; others are withheld. Without it, all that the relay knows.",
            words(SERVER_EVENT_TYPES),
            inherit="common",
        ),
        "hideFields": listing(
            "Session fields hidden in echoes, beside those that always are.",
            words((*OPEN_FIELDS, *CLOSED_FIELDS, "tools")),
            default=[],
            inherit="union",
        ),
        "rateLimits": permission("Show `rate_limits.updated`, which tells your quota.", default=False),
        "inputAudioAppend": permission("Audio over the data channel, beside the media path.", default=False),
        "passUnknown": permission(
            "Pass server events of types that the relay does not know, after a search for policy text.", default=False
        ),
        "maxEventBytes": most("Largest client event.", 1_024, 262_144, 262_144),
        "maxDepth": most("Deepest nesting of a client event.", 4, 32, 32),
    },
)


def _shared(words: str, lowest: float, highest: float, kind: str = "integer") -> Schema:
    """Limits that sessions share; all sessions count, also those under other documents."""

    def of(whose: str) -> Schema:
        shape = {"type": kind, "minimum": lowest, "maximum": highest, "x-inherit": "smallest"}
        return shape | {"description": f"{words}, {whose}."}

    return group(
        f"{words}. Of this and the relay's `quotas` the smaller holds.",
        {"user": of("of one user"), "tenant": of("of all users of a tenant together")},
    )


_LIMITS = group(
    "When a session ends by itself, and how much it may say.",
    {
        "sessionSeconds": most("Longest life of a session.", 10, 86_400),
        "idleSeconds": most("Longest time without speech or events.", 5, 86_400),
        "warnSeconds": {
            "type": "integer",
            "minimum": 0,
            "maximum": 3_600,
            "default": 60,
            "x-inherit": "last",
            "description": "How long before the end the client gets `relay.session.ending`; 0: not at all.",
        },
        "eventsPerSecond": most("Client events in a second; more are refused.", 1, 1_000),
        "concurrent": _shared("Sessions at one time", 1, 100_000),
        "minutesPerDay": _shared("Minutes of sessions in a day of UTC", 1, 10_000_000),
        "tokensPerDay": _shared("Tokens, as the service counts them, in a day of UTC", 1, 1_000_000_000_000),
        "costUsdPerDay": _shared("US dollars by the configured prices in a day of UTC", 0.01, 10_000_000, "number"),
    },
)

_CANARY = group(
    "Words by which the model is caught reciting its instructions.",
    {
        "words": listing(
            "Words that occur in the instructions and must occur nowhere else.",
            text("a word", longest=128) | {"minLength": 6},
            most=64,
            default=[],
            inherit="union",
        ),
        "overlapWords": {
            "type": "integer",
            "minimum": 0,
            "maximum": 64,
            "default": 0,
            "x-inherit": "smallest_but_zero",
            "description": "So many words of the instructions in a row count as one; 0: off. Short runs are chance.",
        },
        "action": ladder(
            "Write it down, cut the response and replace its text, or end the session.",
            "log",
            "cut",
            "end",
            default="log",
        ),
    },
)

SPEC: Schema = group(
    "The policy.",
    {
        "mode": ladder(
            "Rules are not applied at all, applied and only written down, or carried out.",
            "disabled",
            "audit",
            "enforce",
            default="enforce",
        ),
        "extends": listing(
            "Documents this one builds on. It can make what they say tighter, never looser.",
            text("name of a document", pattern=_NAME),
            most=8,
            default=[],
        ),
        "match": _MATCH,
        "upstream": _UPSTREAM,
        "instructions": _INSTRUCTIONS,
        "session": _SESSION,
        "responses": _RESPONSES,
        "items": _ITEMS,
        "tools": _TOOLS,
        "events": _EVENTS,
        "limits": _LIMITS,
        "canary": _CANARY,
        "apply": ladder(
            "What a changed document means for sessions that run: its limits alone, or all of it.",
            "new-sessions",
            "live",
            default="new-sessions",
        ),
        "onSinkFailure": ladder(
            "The decision log cannot be written: go on without it, or refuse and end sessions.",
            "fail_open",
            "fail_closed",
            default="fail_closed",
        ),
        "tests": {
            "type": "array",
            "maxItems": 256,
            "items": TEST,
            "description": "Examples that must hold before the document is put in force.",
        },
    },
)

POLICY_SCHEMA: Schema = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "$id": SCHEMA_ID,
    "title": "Session policy of the relay",
    **group(
        "A policy document.",
        {
            "apiVersion": {"const": API_VERSION, "description": f"Always `{API_VERSION}`."},
            "kind": {"const": KIND, "description": f"Always `{KIND}`."},
            "metadata": group(
                "What the document is called.",
                {
                    "name": text(
                        "Its name in metrics, logs and `extends`: lower case, digits, `-` and `.`.", pattern=_NAME
                    ),
                    "version": text(
                        "A label for people. The identity is the revision, a hash of the content.", longest=64
                    ),
                    "owner": text("Who answers for it.", longest=128),
                    "description": text("What it is for.", longest=1_024),
                },
                ("name",),
            ),
            "spec": SPEC,
        },
        ("apiVersion", "kind", "metadata", "spec"),
    ),
}
