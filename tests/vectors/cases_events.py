"""Sections I and J: which events there are, and how they are written."""

# ruff: noqa: E501 - texts as they stand on the wire

from __future__ import annotations

import json
from typing import Any

from vectors.case import (
    Binary,
    Case,
    Client,
    err,
    item,
    p0,
    shown_item,
    upd,
    update,
)

X = {"type": "realtime", "instructions": "x"}
BARE_ERROR = err("invalid_event", None, None)
TYPE_ERROR = err("invalid_event", "type", None)


def unknown(number: str, name: str, **fields: Any) -> Case:
    event = {"type": name, "event_id": "e1", **fields}
    return Case(number, name.replace(".", "_"), (Client(event),), down=(err("unknown_event", "type"),))


def unreadable(number: str, name: str, text: str, down: Any = BARE_ERROR, **case: Any) -> Case:
    return Case(number, name, (Client(text),), down=(down,), **case)


def legal(name: str, *before: Any, **fields: Any) -> Case:
    event = {"type": name, **fields}
    return Case("V156", name.replace(".", "_"), (Client({**event, "event_id": "e1"}),), (event,), before=before)


ASK_AUDIO = p0(events={"input_audio_append": True})
APPEND = {"type": "input_audio_buffer.append", "event_id": "e1", "audio": "AAAA"}
ITEM = item().event["item"]
KNOWN = shown_item("item_1")

TYPES = [
    unknown("V150", "transcription_session.update", session={}),
    unknown("V151", "session.instructions.append", text="x"),
    unknown("V151", "session.thinking.append", text="x"),
    unknown("V151", "session.commentary.append", text="x"),
    unknown("V151", "session.close"),
    unknown("V152", "session.input_audio_buffer.append", audio="AAAA"),
    unknown("V154", "session.created", session={"instructions": "x"}),
    unknown("V154", "error", error={}),
    unknown("V154", "response.done", response={}),
    unknown("V155", "session.policy.update"),
    legal("session.update", session={"type": "realtime", "audio": {"output": {"speed": 1.1}}}),
    legal("conversation.item.create", item=ITEM),
    legal("conversation.item.retrieve", KNOWN, item_id="item_1"),
    legal("conversation.item.truncate", KNOWN, item_id="item_1", content_index=0, audio_end_ms=0),
    legal("conversation.item.delete", KNOWN, item_id="item_1"),
    legal("input_audio_buffer.commit"),
    legal("input_audio_buffer.clear"),
    legal("output_audio_buffer.clear"),
    legal("response.create"),
    legal("response.cancel"),
    Case("V156", "input_audio_buffer_append", (Client(APPEND),), ({"type": APPEND["type"], "audio": "AAAA"},),
         policy=ASK_AUDIO),
    Case("V155", "a_type_off_the_policys_list", (Client({"type": "response.create", "event_id": "e1"}),),
         down=(err("policy_violation", "type"),), verdict=("refuse", "events.client"),
         policy=p0(events={"client": frozenset({"session.update"})})),
]  # fmt: skip
TYPES = [
    case if not case.up or case.up[0]["type"] != "session.update" else Case(
        case.number, case.name, case.send, case.up, (upd(),))
    for case in TYPES
]  # fmt: skip

V051 = '{"type":"session.update","session":{"type":"realtime","instructions":"x"}}'
CANCEL = '{"type":"response.cancel"}'
LOOKALIKES = ("Instructions", "INSTRUCTIONS", "instructi\u043ens", "instructions\u200b", "\uff49nstructions")
PROTOTYPES = ("__proto__", "constructor", "toString")


def nested(levels: int) -> str:
    return '{"type":"response.create","response":' + '{"a":' * (levels - 1) + "1" + "}" * levels


def sized(size: int) -> str:
    """An item whose event has exactly this many bytes."""
    spare = size - len(json.dumps(_talks("")))
    return json.dumps(_talks("x" * spare))


def _talks(text: str) -> dict[str, Any]:
    part = {"type": "input_text", "text": text}
    return {"type": "conversation.item.create", "event_id": "e1",
            "item": {"type": "message", "role": "user", "content": [part]}}  # fmt: skip


LONGEST = p0(items={"max_text_chars": 300_000})
TEXT_CONTROL = '{"type":"conversation.item.create","item":{"type":"message","role":"user","content":[{"type":"input_text","text":"a%sb"}]}}'
TRUNCATE = (
    '{"type":"conversation.item.truncate","event_id":"e1","item_id":"item_1","content_index":0,"audio_end_ms":%s}'
)
SPEED = '{"type":"session.update","session":{"type":"realtime","audio":{"output":{"speed":%s}}}}'
SAID_NUL = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "a\u0000b"}]}

FRAMING = [
    unreadable("V160", "duplicate_type", '{"type":"response.cancel","type":"session.update","session":{"type":"realtime","instructions":"x"}}'),
    unreadable("V161", "duplicate_session", '{"type":"session.update","session":{"type":"realtime"},"session":{"type":"realtime","instructions":"x"}}'),
    unreadable("V161", "duplicate_deep_inside", '{"type":"session.update","session":{"audio":{"output":{"speed":1,"speed":2}}}}'),
    unreadable("V161", "duplicate_by_escape", '{"type":"session.update","session":{"instructions":"x","instruction\\u0073":"y"}}'),
    *(Case("V164", f"look_alike_{n}", (update(**{name: "x"}),), down=(upd(),)) for n, name in enumerate(LOOKALIKES)),
    *(Case("V165", f"prototype_key_{name}", (update(**{name: X}),), down=(upd(),)) for name in PROTOTYPES),
    Case("V167", "binary_frame", (Binary(V051.encode()),), down=(BARE_ERROR,)),
    Case("V168", "binary_frame_utf_16", (Binary(V051.encode("utf-16")),), down=(BARE_ERROR,)),
    unreadable("V170", "empty_message", ""),
    Case("V170", "empty_binary_message", (Binary(b""),), down=(BARE_ERROR,)),
    unreadable("V171", "byte_order_mark", "\ufeff" + CANCEL),
    unreadable("V171", "no_break_space", "\u00a0" + CANCEL),
    Case("V171", "ascii_space_around", (Client(f"  \r\n\t{CANCEL}\n"),), ({"type": "response.cancel"},)),
    unreadable("V172", "top_level_array", f"[{V051}]"),
    *(unreadable("V173", f"scalar_{n}", text) for n, text in enumerate(('"session.update"', "7", "true", "null"))),
    unreadable("V173", "no_type", "{}", TYPE_ERROR),
    *(unreadable("V173", f"type_{n}", f'{{"type":{value}}}', TYPE_ERROR) for n, value in enumerate(("7", "null", "[]"))),
    *(
        unreadable("V175", f"not_json_{n}", text)
        for n, text in enumerate(
            ('{"type":"response.cancel",}', '{"type":"response.cancel"/**/}', "{'type':'response.cancel'}",
             '{type:"response.cancel"}', CANCEL + CANCEL, CANCEL + "x")
        )
    ),
    *(unreadable("V176", f"not_finite_{n}", SPEED % v) for n, v in enumerate(("NaN", "Infinity", "-Infinity", "1e999"))),
    unreadable("V177", "long_integer", TRUNCATE % ("9" * 5_000)),
    Case("V178", "nested_as_deep_as_allowed", (Client(nested(32)),), ({"type": "response.create"},)),
    *(unreadable("V178", f"nested_{depth}", nested(depth)) for depth in (33, 990, 1_000, 2_000)),
    # So many brackets are not even looked at for how deep they are.
    Case("V178", "nested_20000", (Client(nested(20_000)),), down=(err("event_too_large", None, None),)),
    unreadable("V178", "nested_above_the_policys_limit", nested(9), policy=p0(events={"max_depth": 8})),
    unreadable("V179", "lone_surrogate", TEXT_CONTROL % "\\ud800"),
    unreadable("V179", "lone_surrogate_in_a_key", '{"type":"response.cancel","\\udfff":1}'),
    Case("V180", "nul_escaped", (Client(TEXT_CONTROL % "\\u0000"),),
         ({"type": "conversation.item.create", "item": SAID_NUL},)),
    unreadable("V180", "raw_control_character", TEXT_CONTROL % "\x01"),
    Case("V181", "largest_event", (Client(sized(262_144)),), ({"type": "conversation.item.create"},), policy=LONGEST,
         up_is_part=True, engine_only="compared by its type alone: the text is a quarter of a megabyte"),
    unreadable("V181", "an_event_too_large", sized(262_145), err("event_too_large", None, None), policy=LONGEST,
               engine_only="a browser's channel does not carry it"),
    unreadable("V181", "above_the_policys_limit", sized(1_001), err("event_too_large", None, None),
               policy=p0(events={"max_event_bytes": 1_000})),
    *(
        Case("V185", f"event_id_{n}", (Client({"type": "response.cancel", "event_id": value, "x": 1}),
                                       Client({"type": "nonsense", "event_id": value})),
             ({"type": "response.cancel"},), (err("unknown_event", "type", shown),))
        for n, (value, shown) in enumerate(
            ((7, None), (None, None), ("x" * 513, None), ("relay_policy_1", "relay_policy_1"),
             ("<script>", "<script>"), ("x" * 512, "x" * 512))
        )
    ),
    Case("V185", "same_event_id_twice", (Client({"type": "nonsense", "event_id": "e1"}),) * 2,
         down=(err("unknown_event", "type"),) * 2),
    Case("V186", "boolean_as_number",
         (update(audio={"input": {"turn_detection": {"type": "server_vad", "create_response": 1}}}),),
         down=(err("invalid_type", "session.audio.input.turn_detection.create_response"),)),
    Case("V186", "number_as_boolean", (update(audio={"output": {"speed": True}}),),
         down=(err("invalid_type", "session.audio.output.speed"),)),
    Case("V188", "audio_over_the_channel", (Client(APPEND),), down=(err("policy_violation", "type"),)),
    Case("V188", "audio_that_is_no_base64", (Client({**APPEND, "audio": "!"}),),
         down=(err("invalid_value", "audio"),), policy=ASK_AUDIO),
]  # fmt: skip

CASES = [*TYPES, *FRAMING]
