"""What is kept from a client stays kept, by every way that its name, its id or its words could come (V290 to V299)."""

from __future__ import annotations

import json

import pytest

from relay.core.canary import REMOVED
from relay.core.event_actions import ToClient
from relay.core.lifecycle import Dialect
from relay.core.policy_rules import CanaryRules, ClientTool, OnCanary, Strictness
from vectors.case import CANARY, INSTRUCTIONS, P0, Client, Confirm, Service, bare_item, called, item, p0, update
from vectors.engine import NOW, EngineRun
from vectors.strategies import ADMIN_TOOL
from vectors.test_live import started

ADMIN = p0(tools={"admin": (ADMIN_TOOL,)})
CALL = {"id": "item_secret", "type": "function_call", "name": "contoso_kb", "call_id": "call_secret", "arguments": "{}"}
SYSTEM = {"id": "item_sys", "type": "message", "role": "system", "content": [{"type": "input_text", "text": "policy"}]}
USER = {"id": "item_u", "type": "message", "role": "user", "content": []}


def said(kind: str, **fields) -> Service:
    return Service({"type": kind, "event_id": "up", **fields})


def added(what, previous=None) -> Service:
    return said("conversation.item.added", previous_item_id=previous, item=what)


def asks(kind: str, item_id: str) -> Client:
    return Client({"type": f"conversation.item.{kind}", "event_id": "q", "item_id": item_id})


def hidden_call() -> EngineRun:
    run = started(ADMIN)
    for event in (
        said("response.output_item.added", response_id="r", item=CALL),
        added(CALL),
        said("response.done", response={"id": "r", "output": [CALL]}),
        added(USER, "item_secret"),
    ):
        run.take(event)
    return run


def test_v290_a_hidden_call_stays_hidden_after_its_response() -> None:
    run = hidden_call()
    assert not any("secret" in text for text in run.down_texts)
    assert run.down[-1] == {**added(USER).event}
    run.forget()
    for step in (
        asks("delete", "item_secret"),
        asks("retrieve", "item_secret"),
        bare_item({"type": "function_call_output", "call_id": "call_secret", "output": "forged"}),
        bare_item(USER | {"id": "item_secret"}),
        asks("delete", "item_secret"),
    ):
        run.take(step)
    assert [event["type"] for event in run.up] == ["conversation.item.create"]
    assert [event["error"]["code"] for event in run.down] == [
        "item_not_found", "item_not_found", "invalid_value", "item_not_found",
    ]  # fmt: skip


def test_v290_what_answers_a_hidden_call_is_hidden_too() -> None:
    run = hidden_call()
    run.forget()
    output = {"id": "item_out", "type": "function_call_output", "call_id": "call_secret", "output": "shelf 451b7"}
    run.take(added(output, "item_secret"))
    run.take(said("conversation.item.done", item=output))
    assert run.down == []
    run.take(asks("retrieve", "item_out"))
    assert run.up == []


def test_v290_arguments_without_an_item_that_was_shown_are_hidden() -> None:
    run = started(ADMIN)
    run.take(said("response.function_call_arguments.delta", item_id="item_x", call_id="call_x", delta='{"q":1}'))
    assert run.down == []
    mine = {"id": "item_m", "type": "function_call", "name": "mine", "call_id": "call_m", "arguments": ""}
    run.take(said("response.output_item.added", response_id="r", item=mine))
    run.take(said("response.function_call_arguments.delta", item_id="item_m", call_id="call_m", delta='{"q":1}'))
    assert [event["type"] for event in run.down] == ["response.output_item.added",
                                                     "response.function_call_arguments.delta"]  # fmt: skip


def test_v291_a_system_item_cannot_be_claimed() -> None:
    run = started()
    run.take(added(SYSTEM))
    run.take(added(USER, "item_sys"))
    assert run.down[0]["previous_item_id"] is None
    run.forget()
    run.take(item(id="item_sys"))
    refused = {"type": "invalid_request_error", "code": "item_already_exists", "event_id": run.up[-1]["event_id"]}
    run.take(said("error", error=refused))
    for kind in ("delete", "retrieve"):
        run.take(asks(kind, "item_sys"))
    assert [event["type"] for event in run.up] == ["conversation.item.create"]


def test_v291_an_item_is_the_clients_own_once_the_service_has_it() -> None:
    run = started()
    run.take(item(id="mine"))
    run.take(asks("delete", "mine"))
    assert [event["type"] for event in run.up] == ["conversation.item.create"]
    # As a place for the next one it will do at once: histories are sent in one go.
    run.take(Client({**item(id="next").event, "previous_item_id": "mine"}))
    assert run.up[-1]["previous_item_id"] == "mine"
    run.take(added({**USER, "id": "mine"}))
    run.take(asks("delete", "mine"))
    assert run.up[-1]["item_id"] == "mine"


def test_v291_also_where_the_policy_does_not_show_it() -> None:
    run = started(p0(events={"server": frozenset({"error"})}))
    run.take(item(id="mine"))
    run.take(added({**USER, "id": "mine"}))
    run.take(asks("delete", "mine"))
    assert (run.down, run.up[-1]["item_id"]) == ([], "mine")


LEAK = f"{INSTRUCTIONS} contoso-rt sess_upstream https://contoso.openai.azure.com"
MESSAGE = {"id": "i", "type": "message", "role": "assistant", "content": []}
STRANGERS = {
    "response.created": {"response": {"id": "r", "tools": [LEAK], "tool_choice": LEAK, "input": [LEAK], "x": LEAK}},
    "conversation.item.added": {"item": {**MESSAGE, "tools": [LEAK], "model": LEAK, "error": {"message": LEAK}}},
    "conversation.item.done": {"item": {**MESSAGE, "content": [{"type": "text", "text": "", "instructions": LEAK}]}},
    "conversation.item.retrieved": {"item": LEAK},
    "response.content_part.added": {"item_id": "i", "part": {"type": "text", "text": "", "instructions": LEAK}},
    "response.output_text.delta": {"item_id": "i", "delta": {"instructions": LEAK}},
    "response.output_text.done": {"item_id": "i", "text": [LEAK]},
    "conversation.item.input_audio_transcription.completed": {
        "item_id": "i", "transcript": "x", "usage": {"type": LEAK, "deployment": LEAK, "more": {"a": LEAK}},
    },
    "conversation.item.input_audio_transcription.delta": {"item_id": "i", "logprobs": [{"token": "x", "model": LEAK}]},
    "response.mcp_call.failed": {"item_id": "i", "error": {"message": LEAK, "code": LEAK, "host": LEAK}},
    "response.mcp_call.completed": {"item_id": "i", "error": {"message": LEAK}},
    "response.done": {"response": {"id": "r", "status_details": {"reason": LEAK, "error": {"message": LEAK}},
                                   "error": LEAK, "metadata": {"a": {"b": LEAK}}, "audio": {"input": LEAK},
                                   "voice": {"id": LEAK}, "usage": {"note": LEAK}}},
    "conversation.created": {"conversation": {"id": "c", "model": LEAK}, "usage": LEAK, "languages": LEAK},
    "conversation.item.truncated": {"item_id": "i", "usage": [LEAK], "logprobs": LEAK, "rate_limits": [LEAK]},
    "mcp_list_tools.completed": {"item_id": "i", "item": {"id": "m", "type": "mcp_list_tools", "name": LEAK}},
    "input_audio_buffer.speech_started": {"item_id": "i", "session": {"instructions": LEAK}, "prompt": LEAK},
}  # fmt: skip


@pytest.mark.parametrize("kind", STRANGERS)
@pytest.mark.parametrize("door", list(Dialect))
def test_v292_members_that_nobody_knows_do_not_come_down(kind, door) -> None:
    run = started(ADMIN, door=door)
    run.take(said(kind, **STRANGERS[kind]))
    for text in run.down_texts:
        assert not any(word in text for word in (CANARY, "contoso", "sess_upstream", "451b7")), text


def test_v293_what_was_private_under_any_policy_of_the_session_stays_so() -> None:
    run = started(p0(tools={"admin": (ADMIN_TOOL,)}, events={"pass_unknown": True}))
    for text in ("Second text entirely.", "Third text entirely."):
        run.replace_policy(p0(instructions={"text": text}, events={"pass_unknown": True}))
    run.forget()
    run.take(said("session.policy.debug", note=INSTRUCTIONS))
    run.take(said("session.policy.debug", note=ADMIN_TOOL["description"]))
    assert run.down == []
    run.take(said("response.done", response={"id": "r", "output": [CALL]}))
    assert run.down[0]["response"]["output"] == []


def test_v293_a_former_tool_is_in_no_echo_while_the_service_still_has_it() -> None:
    run = started(ADMIN)
    run.filter.client_event(update(audio={"output": {"speed": 1.1}}).text)
    run.filter.replace_policy(P0)
    actions = run.filter.server_event(run.service.echo("session.updated"), NOW)
    [shown] = [json.loads(action.text) for action in actions if isinstance(action, ToClient)]
    assert shown["session"]["tools"] == []


def test_v293_a_function_that_clients_may_bring_now_is_theirs() -> None:
    run = started(ADMIN)
    run.replace_policy(p0(tools={"client": (ClientTool("contoso_kb", definition=ADMIN_TOOL),)}))
    run.forget()
    run.take(said("response.done", response={"id": "r", "output": [CALL]}))
    assert run.down[0]["response"]["output"] == [CALL]


@pytest.mark.parametrize(
    "note",
    [
        "aoai-gateway.bank.de:443", "10.1.2.3", "[fd00::1]", "host x.privatelink.example.eu", "SESS_ABC123",
        "contoso%2Drt", "contoso_rt", "contoso\u2011rt", "\uff43\uff4f\uff4e\uff54\uff4f\uff53\uff4f-rt",
    ],
)  # fmt: skip
def test_v294_names_in_another_spelling_are_found_in_events_that_nobody_knows(note) -> None:
    run = started(p0(events={"pass_unknown": True}))
    run.take(said("session.policy.debug", note="harmless"))
    run.take(said("session.policy.debug", note=f"at {note} it failed"))
    assert len(run.down) == 1


def test_v294_a_clause_in_a_script_without_spaces_is_a_quotation() -> None:
    text = "你是康托索公司的助手绝不提供法律建议也不要透露密码"
    run = started(p0(instructions={"text": text}, events={"pass_unknown": True}))
    run.take(said("session.policy.debug", note="公司的助手绝不提供"))
    run.take(said("session.policy.debug", note="你好,我可以帮你吗"))
    assert len(run.down) == 1


def reads(piece: str) -> Service:
    return said("response.output_text.delta", response_id="r", item_id="i", content_index=0, delta=piece)


def cutting(words=(CANARY,), overlap=0) -> EngineRun:
    return started(p0(canary={"words": words, "overlap_words": overlap, "action": OnCanary.CUT}))


@pytest.mark.parametrize(
    ("word", "spoken"),
    [
        (CANARY, "\uff23\uff21\uff2e\uff21\uff32\uff39\uff0d7f3a"),
        (CANARY, "C\u00c1NARY-7f3a"),
        (CANARY, "C\u0301ANA\u200bRY-7f3a"),
        (CANARY, "\U0001d402\U0001d400\U0001d40d\U0001d400\U0001d411\U0001d418-7f3a"),
        ("GIZLI-99", "g\u0131zl\u0131-99"),
        ("GIZLI-99", "G\u0130ZL\u0130-99"),
    ],
)
def test_v295_the_canary_is_heard_in_other_letters(word, spoken) -> None:
    run = cutting((word,))
    run.take(reads(spoken))
    assert run.down == []


def test_v295_a_run_of_words_is_heard_through_what_has_no_width() -> None:
    run = cutting((), overlap=5)
    run.take(reads("You are Cont\u200boso's assist\u200bant. Nev\u00ader give leg\u200bal advice"))
    assert run.down == []


@pytest.mark.parametrize(
    "what",
    [
        {**MESSAGE, "content": [{"type": "refusal", "refusal": CANARY}]},
        {"id": "i", "type": "function_call", "name": CANARY, "call_id": "c", "arguments": "{}"},
    ],
)
def test_v295_refusals_and_names_of_functions_are_looked_at(what) -> None:
    run = cutting()
    run.take(said("response.output_item.done", response_id="r", item=what))
    assert CANARY not in run.down_texts[0]
    assert REMOVED in run.down_texts[0]


def test_v295_a_word_without_end_is_remembered_by_its_end() -> None:
    policy = p0(canary=CanaryRules(overlap_words=6, action=OnCanary.CUT))
    run = started(policy)
    for _ in range(200):
        run.filter.server_event(reads("abcdefgh" * 4).text, NOW)
    assert max(len(held) for _, _, held in run.filter._out.view.canary._tails.values()) <= 256


def test_v296_side_responses_are_counted_until_they_are_done() -> None:
    run = started()
    aside = Client({"type": "response.create", "event_id": "r", "response": {"conversation": "none"}})
    for _ in range(3):
        run.take(aside)
    for number in range(5):
        inside = {"id": f"in{number}", "conversation_id": "c", "output": []}
        run.take(said("response.created", response=inside))
        run.take(said("response.done", response=inside))
        run.take(aside)
    assert len(run.up) == 2
    run.take(said("response.created", response={"id": "out", "conversation_id": None}))
    run.take(said("response.done", response={"id": "out", "conversation_id": None, "output": []}))
    run.take(aside)
    assert len(run.up) == 3


def test_v297_a_small_update_has_no_long_answer() -> None:
    run = started(p0(tools={"client_functions": Strictness.ALLOW}))
    tools = [{"type": "function", "name": f"f{n}", "parameters": {str(k): k for k in range(150)}} for n in range(30)]
    run.take(update(tools=tools))
    run.forget()
    run.take(update(instructions="x"))
    assert (len(run.down), run.down[0]["type"], len(run.down_texts[0]) < 2_000) == (1, "session.updated", True)


def test_v298_an_update_that_the_service_cannot_take_is_refused() -> None:
    run = EngineRun(p0(tools={"client_functions": Strictness.ALLOW, "admin": (ADMIN_TOOL,)}))
    run.filter.adapt(service_bytes=65_536)
    run.take(Confirm())
    run.forget()
    run.take(update(tools=[{"type": "function", "name": "f", "description": "x" * 100_000}]))
    assert (run.up, run.down[0]["error"]["code"]) == ([], "event_too_large")
    run.take(update(audio={"output": {"speed": 1.1}}))
    assert len(run.up) == 1


def test_v299_a_call_that_the_client_was_shown_is_answered_as_ever() -> None:
    run = started(ADMIN)
    run.take(called())
    run.take(bare_item({"type": "function_call_output", "call_id": "call_1", "output": "{}"}))
    assert run.up[-1]["item"]["call_id"] == "call_1"
