"""Sections L, M and parts of N: what the service says, what the model says, and the life of a policy."""

from __future__ import annotations

from typing import Any

from relay.core.canary import REMOVED
from relay.core.lifecycle import Dialect
from relay.core.policy_rules import OnCanary, OnDrift
from relay.errors import EndReason
from vectors.case import (
    ABSENT,
    CANARY,
    INSTRUCTIONS,
    Case,
    Confirm,
    Service,
    p0,
    sent_update,
    shown_item,
    upd,
    update,
)

OTHERS = "Other instructions."
# Of an error of the service code and field are told, in the relay's words: no pattern finds all that others quote.
MESSAGE = "The value cannot be used."
HIDDEN = dict.fromkeys(("instructions", "prompt", "tool_choice", "tracing", "truncation", "client_secret"), ABSENT)
VAD = {"type": "server_vad", "silence_duration_ms": 200, "idle_timeout_ms": None}
SHOWN = {
    **HIDDEN,
    "id": "rs_1",
    "model": "gpt-realtime",
    "object": "realtime.session",
    "audio": {
        "input": {"turn_detection": VAD, "transcription": {"model": "default", "language": "tr", "prompt": ABSENT}},
        "output": {"voice": "marin"},
    },
}
SHOWN_FLAT = {
    **HIDDEN,
    "client_secret": None,
    "temperature": 0.8,
    "modalities": ["audio", "text"],
    "voice": "marin",
    "id": "rs_1",
    "input_audio_format": "pcm16",
    "turn_detection": VAD,
    "audio": ABSENT,
    "type": ABSENT,
}
OTHER_IDS = "a live session has ids of its own"
REPAIR = sent_update(instructions=INSTRUCTIONS)


def said(kind: str, **fields: Any) -> Service:
    return Service({"type": kind, "event_id": "up_1", **fields})


def error(message: str, **fields: Any) -> Service:
    whole = {"type": "invalid_request_error", "code": "invalid_value", "param": None, "event_id": None}
    return said("error", error={**whole, "message": message, **fields})


def passes(number: str, name: str, event: Service, **case: Any) -> Case:
    return Case(number, name, (event,), down=(event.event,), **case)


def withheld(number: str, name: str, event: Service, **case: Any) -> Case:
    return Case(number, name, (event,), **case)


def reads(kind: str, piece: str, **fields: Any) -> Service:
    where = {"response_id": "resp_1", "item_id": "item_1", "output_index": 0, "content_index": 0}
    return said(kind, **where, **{"delta": piece} if kind.endswith("delta") else fields)


USAGE = {"total_tokens": 3, "input_tokens": 1, "output_tokens": 2}
DONE = {"id": "resp_1", "object": "realtime.response", "status": "completed", "output": [], "usage": USAGE}
KB_CALL = {"id": "item_kb", "type": "function_call", "name": "contoso_kb", "call_id": "call_kb", "arguments": "{}"}
MCP_CALL = {"id": "item_m", "type": "mcp_call", "name": "search", "arguments": '{"q":"secret"}', "output": "secret"}
MCP_LIST = {"id": "item_l", "type": "mcp_list_tools", "server_label": "kb", "tools": [{"name": "secret"}]}
ADMIN = p0(tools={"admin": ({"type": "function", "name": "contoso_kb", "description": "d", "parameters": {}},)})
UNKNOWN = said("session.policy.debug", note="harmless")
PASS_UNKNOWN = p0(events={"pass_unknown": True})
TURN = said("input_audio_buffer.speech_started", item_id="item_1", audio_start_ms=1)
FAILED = said(
    "conversation.item.input_audio_transcription.failed",
    item_id="item_1",
    content_index=0,
    error={"type": "server_error", "code": "DeploymentNotFound", "message": "contoso-transcribe not found."},
)
SAFE_FAILURE = {**FAILED.event, "error": {"code": "DeploymentNotFound", "message": "The model is not available."}}

CREATED = [
    Case("V210", "session_created_ga", (Confirm(),), down=({"type": "session.created", "session": SHOWN},),
         confirmed=False, engine_only=OTHER_IDS),
    Case("V211", "session_created_at_a_preview_door", (Confirm(),),
         down=({"type": "session.created", "session": SHOWN_FLAT},), confirmed=False, door=Dialect.PREVIEW,
         engine_only=OTHER_IDS),
    Case("V212", "session_updated_after_a_legal_update", (update(audio={"output": {"speed": 1.1}}),),
         (sent_update(audio={"output": {"speed": 1.1}}),),
         (upd(id="rs_1", model="gpt-realtime", audio={"output": {"speed": 1.1}}),), engine_only=OTHER_IDS),
    Case("V213", "answer_to_the_relays_own_update", (Confirm({"instructions": OTHERS}),), (REPAIR,),
         ({"type": "session.created"},), confirmed=False),
    Case("V213", "unless_a_client_update_waits",
         (update(audio={"output": {"speed": 1.1}}), Confirm({"instructions": OTHERS})),
         (REPAIR, sent_update(audio={"output": {"speed": 1.1}})), ({"type": "session.created"}, upd()),
         confirmed=False),
    Case("V215", "error_that_answers_the_relays_own_event",
         (Confirm({"instructions": OTHERS}, answers=False), error("no", event_id="{last}")), (REPAIR, REPAIR),
         confirmed=False,
         in_force=OTHERS, engine_only="the stand-in answers before it can be told to refuse"),
    Case("V215", "error_that_answers_it_twice",
         (Confirm({"instructions": OTHERS}, answers=False), *(error("no", event_id="{last}"),) * 2),
         (REPAIR, REPAIR),
         confirmed=False, ends=EndReason.POLICY_NOT_IN_FORCE, in_force=OTHERS,
         engine_only="the stand-in answers before it can be told to refuse"),
    Case("V216", "error_that_quotes",
         (error(f"Invalid value: '{INSTRUCTIONS}' for session.instructions", param="session.instructions"),),
         down=({"type": "error", "error": {"message": MESSAGE, "code": "invalid_value", "param": None}},)),
    Case("V216", "error_that_quotes_elsewhere", (error(f"Near '{INSTRUCTIONS[10:40]}'", param="item.content"),),
         down=({"type": "error", "error": {"message": MESSAGE, "param": "item.content"}},)),
    Case("V216", "error_that_names_the_service",
         (error("contoso-rt at https://contoso.openai.azure.com/openai is busy (sess_upstream)"),),
         down=({"type": "error", "error": {"message": "The value cannot be used."}},)),
    Case("V218", "transcription_failed", (FAILED,), down=(SAFE_FAILURE,)),
    Case("V219", "policy_not_in_force", (Confirm({"instructions": OTHERS}),), (REPAIR,),
         ({"type": "session.created"},), confirmed=False),
    Case("V219", "policy_not_in_force_ends_by_setting", (Confirm({"instructions": OTHERS}),), confirmed=False,
         policy=p0(instructions={"on_drift": OnDrift.END}), ends=EndReason.POLICY_NOT_IN_FORCE, in_force=OTHERS),
    Case("V219", "log_does_not_open_a_session", (Confirm({"instructions": OTHERS}),), (REPAIR,),
         ({"type": "session.created"},), confirmed=False, policy=p0(instructions={"on_drift": OnDrift.LOG})),
]  # fmt: skip

REDACTED = [
    withheld("V220", "system_item_added", shown_item("item_p", role="system",
                                                     content=[{"type": "input_text", "text": CANARY}])),
    withheld("V220", "system_item_done", said("conversation.item.done", item={"id": "item_p", "role": "system"})),
    withheld("V221", "system_item_retrieved", said("conversation.item.retrieved", item={
        "id": "item_p", "type": "message", "role": "system", "content": [{"type": "input_text", "text": CANARY}]})),
    passes("V222", "response_done", said("response.done", response={**DONE, "metadata": {"topic": "x"}})),
    Case("V222", "reserved_metadata",
         (said("response.done", response={**DONE, "metadata": {"topic": "x", "relay_turn": "7"}}),),
         down=({"type": "response.done", "response": {"metadata": {"topic": "x", "relay_turn": ABSENT}}},)),
    Case("V224", "mcp_call", (said("conversation.item.added", item=MCP_CALL),),
         down=({"type": "conversation.item.added",
                "item": {"id": "item_m", "name": "search", "arguments": ABSENT, "output": ABSENT}},)),
    Case("V224", "mcp_list_tools", (said("conversation.item.done", item=MCP_LIST),),
         down=({"type": "conversation.item.done", "item": {"id": "item_l", "tools": ABSENT, "server_label": ABSENT}},)),
    Case("V224", "mcp_call_in_a_response", (said("response.done", response={**DONE, "output": [MCP_CALL]}),),
         down=({"type": "response.done", "response": {"usage": USAGE, "output": [{"output": ABSENT}]}},)),
    withheld("V224", "mcp_call_arguments", said("response.mcp_call_arguments.done", item_id="item_m", arguments="{}")),
    # The relay has no handlers of its own yet, so it does not answer such a call; the client does not see it either.
    withheld("V225", "call_of_an_admin_tool", said("response.output_item.added", item=KB_CALL), policy=ADMIN),
    withheld("V225", "arguments_for_an_admin_tool",
             said("response.function_call_arguments.done", item_id="item_kb", call_id="call_kb", arguments="{}"),
             policy=ADMIN, before=(said("response.output_item.added", item=KB_CALL),)),
    Case("V225", "call_of_an_admin_tool_in_a_response",
         (said("response.done", response={**DONE, "output": [KB_CALL]}),),
         down=({"type": "response.done", "response": {"usage": USAGE, "output": []}},), policy=ADMIN),
    withheld("V226", "unknown_server_event", said("session.policy.debug", instructions=CANARY)),
    withheld("V226", "unknown_server_event_without_secrets", UNKNOWN),
    passes("V226", "unknown_server_event_by_setting", UNKNOWN, policy=PASS_UNKNOWN),
    *(
        withheld("V226", f"unknown_server_event_scanned_{n}", said("session.policy.debug", **fields),
                 policy=PASS_UNKNOWN)
        for n, fields in enumerate(
            ({"instructions": "x"}, {"deep": [{"session": {}}]}, {"note": f"it said {CANARY}"},
             {"note": "contoso-rt"}, {"contoso-rt": 1}, {"note": "https://contoso.openai.azure.com/x"})
        )
    ),
    Case("V227", "unknown_session_field", (Confirm({"system_prompt": CANARY}),),
         down=({"type": "session.created", "session": {"system_prompt": ABSENT}},), confirmed=False),
    passes("V227", "obfuscation_passes", said(
        "response.output_audio_transcript.delta", response_id="resp_1", item_id="item_1", delta="hi", obfuscation="x")),
    Case("V227", "fields_hidden_by_setting", (Confirm(),),
         down=({"type": "session.created", "session": {"audio": {"output": {"voice": ABSENT}}}},), confirmed=False,
         policy=p0(events={"hide_fields": frozenset({"audio.output.voice"})})),
    withheld("V228", "not_json_from_upstream", Service("not json")),
    withheld("V228", "binary_from_upstream", Service(b"{}")),
    Case("V229", "event_above_the_browsers_limit",
         (said("response.output_text.done", item_id="item_1", text="x" * 300_000),),
         down=({"type": "error", "error": {"code": "event_too_large"}},), verdict=("withhold", "events.size")),
    withheld("V230", "rate_limits", said("rate_limits.updated", rate_limits=[])),
    passes("V230", "rate_limits_by_setting", said("rate_limits.updated", rate_limits=[]),
           policy=p0(events={"rate_limits": True})),
    withheld("V037", "webrtc_filter", said("response.done", response=DONE), webrtc_filter=True,
             verdict=("withhold", "events.webrtc_filter")),
    passes("V037", "webrtc_filter_passes_its_eleven", TURN, webrtc_filter=True),
    withheld("V226", "a_type_off_the_policys_list", TURN, policy=p0(events={"server": frozenset({"response.done"})}),
             verdict=("withhold", "events.server")),
]  # fmt: skip

LOG = p0(canary={"words": (CANARY,)})
CUT = p0(canary={"words": (CANARY,), "action": OnCanary.CUT})
END = p0(canary={"words": (CANARY,), "action": OnCanary.END})
RUNS = p0(canary={"overlap_words": 4, "action": OnCanary.CUT})
STOP = ({"type": "response.cancel", "response_id": "resp_1"}, {"type": "output_audio_buffer.clear"})
TRANSCRIPT, TEXT = "response.output_audio_transcript", "response.output_text"
ARGUMENTS = "response.function_call_arguments"
FIRST, SECOND = reads(f"{TRANSCRIPT}.delta", "Sure: CANARY-"), reads(f"{TRANSCRIPT}.delta", "7f3a. You")
THIRD = reads(f"{TRANSCRIPT}.delta", " are Contoso's")
WHOLE = reads(f"{TRANSCRIPT}.done", "", transcript=f"Sure: {INSTRUCTIONS}")
PLAIN = reads(f"{TRANSCRIPT}.delta", "Good morning")
ANSWER = {"id": "item_1", "type": "message", "role": "assistant",
          "content": [{"type": "output_audio", "transcript": f"Sure: {INSTRUCTIONS}"}]}  # fmt: skip

MODEL = [
    Case("V240", "log", (SECOND,), down=(SECOND.event,), policy=LOG, before=(FIRST,), verdict=("forward", "canary"),
         discloses=True),
    passes("V240", "said_whole_log", WHOLE, policy=LOG, verdict=("forward", "canary"), discloses=True),
    passes("V240", "nothing_said", PLAIN, policy=CUT, verdict=("forward", "events.allowed")),
    Case("V240", "cut_across_deltas", (FIRST, SECOND, THIRD, WHOLE), STOP,
         (FIRST.event, {"type": f"{TRANSCRIPT}.done", "transcript": REMOVED}), policy=CUT),
    Case("V240", "cut_in_a_text", (reads(f"{TEXT}.done", "", text=f"It is {CANARY}."),), STOP,
         ({"type": f"{TEXT}.done", "text": REMOVED},), policy=CUT, verdict=("strip", "canary")),
    Case("V240", "cut_in_an_item", (said("conversation.item.done", item=ANSWER),), (),
         ({"type": "conversation.item.done", "item": {"content": [{"transcript": REMOVED}]}},), policy=CUT),
    Case("V240", "cut_by_a_run_of_words",
         (reads(f"{TEXT}.delta", "I must never give"), reads(f"{TEXT}.delta", " LEGAL, "),
          reads(f"{TEXT}.delta", "advice!")), STOP, ({"type": f"{TEXT}.delta"},) * 2, policy=RUNS),
    passes("V240", "what_the_user_says_is_no_disclosure", said("conversation.item.added", item={
        "id": "item_u", "type": "message", "role": "user", "content": [{"type": "input_text", "text": CANARY}]}),
        policy=CUT, discloses=True),
    Case("V240", "end", (WHOLE,), policy=END, ends=EndReason.POLICY_DISCLOSED, verdict=("end", "canary")),
    Case("V243", "tool_arguments_cut", (reads(f"{ARGUMENTS}.delta", '{"q":"canary'),
                                        reads(f"{ARGUMENTS}.delta", ' 7F3A"}')), STOP,
         ({"type": f"{ARGUMENTS}.delta"},), policy=CUT),
    Case("V243", "tool_arguments_whole", (reads(f"{ARGUMENTS}.done", "", arguments=f'{{"q":"{CANARY}"}}'),), STOP,
         ({"type": f"{ARGUMENTS}.done", "arguments": REMOVED},), policy=CUT),
    passes("V243", "tool_arguments_logged", reads(f"{ARGUMENTS}.done", "", arguments=f'{{"q":"{CANARY}"}}'),
           policy=LOG, verdict=("forward", "canary"), discloses=True),
    # Not claimed: the detector reads words, no encodings.
    passes("V242", "encoded_is_not_seen", reads(f"{TEXT}.done", "", text="Q0FOQVJZLTdmM2E="), policy=CUT),
]  # fmt: skip

LIFE = [
    passes("V256", "what_is_not_redacted_is_equal", said(
        "response.output_item.done", response_id="resp_1", output_index=0,
        item={"id": "item_1", "role": "assistant",
              "content": [{"type": "output_audio", "transcript": "\u00e9\u2028"}]})),
    Case("V257", "order", (update(instructions="x"), update(audio={"output": {"speed": 1.1}}), TURN,
                           update(instructions="y")),
         (sent_update(audio={"output": {"speed": 1.1}}),),
         (upd(audio={"output": {"speed": 1.0}}), upd(audio={"output": {"speed": 1.1}}), TURN.event, upd())),
    Case("V257", "the_answer_never_overtakes_session_created", (update(instructions="x"), TURN, Confirm()),
         down=({"type": "session.created"}, TURN.event, upd()), confirmed=False),
    Case("V261", "session_expired", (error("Your session hit the maximum duration.", code="session_expired"),),
         down=({"type": "error", "error": {"code": "session_expired"}},), ends=EndReason.SESSION_EXPIRED),
]  # fmt: skip

CASES = [*CREATED, *REDACTED, *MODEL, *LIFE]
