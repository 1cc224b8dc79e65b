"""The tests inside documents run on the engine, and fail when the policy does something else."""

from __future__ import annotations

from dataclasses import replace

import pytest

from relay.core.policy_resolve import Unresolved
from relay.core.policy_rules import ToolRules
from relay.core.policy_tests import DrySession, run_tests

UPDATE = {"type": "session.update", "session": {"type": "realtime", "instructions": "x"}}
TEXT_ITEM = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hello"}]}


@pytest.fixture
def outcome(document):
    """Run one test inside a document; returns what differs."""

    def run(test, text="Hello {{claim.name}}.", **spec):
        spec.setdefault("instructions", {"claimDefaults": {"name": "you"}})
        policy = document("p", text, match={}, tests=[{"name": "t", **test}], **spec)
        (result,) = run_tests([policy])
        assert (result.document, result.name, result.passed) == ("p", "t", not result.why)
        return result.why

    return run


@pytest.mark.parametrize(
    "test",
    [
        {"client": UPDATE, "expect": {"decision": "strip", "rule": "session.instructions", "result": {"type": None}}},
        {
            "client": UPDATE,
            "expect": {"decision": "strip", "answer": {"type": "session.updated", "session.instructions": None}},
        },
        {"client": "{not json", "expect": {"decision": "refuse", "rule": "events.framing", "code": "invalid_event"}},
        {
            "client": {"type": "response.create"},
            "expect": {"decision": "forward", "result": {"type": "response.create"}},
        },
        {
            "mint": {"instructions": "x"},
            "expect": {"decision": "strip", "result": {"session.instructions": "Hello you."}},
        },
        {
            "mint": {"type": "transcription"},
            "expect": {"decision": "refuse", "code": "policy_violation", "param": "session.type"},
        },
        {
            "mint": {},
            "claims": {"name": "Ann"},
            "expect": {"decision": "forward", "result": {"session.instructions": "Hello Ann."}},
        },
        {
            "mint": {},
            "model": "m",
            "expect": {"decision": "forward", "result": {"session.model": "settings-deployment"}},
        },
        {
            "server": {"type": "session.updated", "session": {"instructions": "Hello you.", "prompt": "y"}},
            "expect": {"decision": "rewrite", "result": {"type": "session.updated", "session.prompt": None}},
        },
        {"server": {"type": "rate_limits.updated"}, "expect": {"decision": "withhold", "result": {"type": None}}},
        {
            "before": [
                {
                    "server": {
                        "type": "response.function_call_arguments.done",
                        "call_id": "call_1",
                        "item_id": "i",
                        "arguments": "{}",
                    }
                }
            ],
            "client": {
                "type": "conversation.item.create",
                "item": {"type": "function_call_output", "call_id": "call_1", "output": "{}"},
            },
            "expect": {"decision": "forward", "result": {"item.call_id": "call_1"}},
        },
        {
            "client": {"type": "conversation.item.create", "item": TEXT_ITEM},
            "expect": {"decision": "forward", "result": {"item.content.0.text": "hello"}},
        },
    ],
)
def test_what_is_so_passes(outcome, test):
    assert outcome(test) == ""


@pytest.mark.parametrize(
    ("expect", "why"),
    [
        ({"decision": "refuse"}, "decision: expected refuse, got strip"),
        ({"decision": "strip", "rule": "session.fields"}, "rule: expected session.fields, got session.instructions"),
        ({"decision": "strip", "code": "policy_violation"}, "code: expected policy_violation, got None"),
        (
            {"decision": "strip", "result": {"type": "session.update"}},
            'result type: expected "session.update", got nothing',
        ),
        ({"decision": "strip", "answer": {"session.model": "x"}}, 'answer session.model: expected "x", got "default"'),
    ],
)
def test_what_is_not_so_fails_and_says_why(outcome, expect, why):
    assert outcome({"client": UPDATE, "expect": expect}) == why


APPEND = {"client": "append", "claimDefaults": {"name": "you"}}
WITH_VOICE = {
    "type": "session.update",
    "session": {"type": "realtime", "instructions": "x", "audio": {"output": {"voice": "cedar"}}},
}


def test_what_must_not_be_there_must_be_in_none_of_the_events(outcome):
    expect = {"decision": "rewrite", "result": {"session.instructions": None}}
    why = outcome({"client": WITH_VOICE, "expect": expect}, instructions=APPEND)
    assert why.startswith("result session.instructions: expected nothing, got ")


def test_instructions_in_a_difference_are_a_length_and_a_hash(outcome):
    expect = {"decision": "forward", "result": {"session.instructions": "SECRET"}}
    why = outcome({"mint": {}, "expect": expect})
    assert "Hello" not in why
    assert "SECRET" not in why
    assert "got 10 characters, sha256 " in why


@pytest.fixture
def tried(document):
    """The outcomes of a base's test on a document built on it."""

    def run(child, **test):
        test = {"name": "t", "client": {"type": "conversation.item.delete", "item_id": "i"}} | test
        base = document("base", "Hello.", items={"delete": False}, tests=[test])
        whole = document("child", match={}, extends=["base"], **child)
        return [one for one in run_tests([base, whole]) if one.tried_on]

    return run


MINTED = {"mint": {"type": "realtime"}, "expect": {"decision": "forward", "result": {"session.max_output_tokens": 7}}}


def test_tests_of_a_base_are_tried_on_what_is_built_on_it(tried):
    lock = {"session": {"fields": {"max_output_tokens": {"lock": 7}}}}
    (good,) = tried(lock, **MINTED)
    assert (good.document, good.tried_on, good.passed, good.binding) == ("base", "child", True, False)
    (bad,) = tried({}, **MINTED)
    assert (bad.passed, bad.binding) == (False, False)
    (bound,) = tried({}, **MINTED, inherit=True)
    assert (bound.passed, bound.binding) == (False, True)


def test_a_child_that_refuses_what_its_base_lets_pass_is_no_failure_unless_the_test_says_so(tried):
    update = {"client": UPDATE, "expect": {"decision": "strip"}}
    deny = {"instructions": {"client": "deny"}}
    assert tried(deny, **update)[0].passed
    assert not tried(deny, **update, inherit=True)[0].passed


def test_a_session_that_could_never_begin_is_not_judged(document, resolved):
    policy = resolved(document("p", "Hello.", match={})).policy
    broken = replace(policy, tools=ToolRules(admin=({"type": "function", "name": "f", "description": "\ud800"},)))
    with pytest.raises(Unresolved):
        DrySession(broken)


def test_rules_are_judged_as_if_enforced_in_any_mode(outcome):
    test = {"client": {"type": "conversation.item.delete", "item_id": "x"}, "expect": {"decision": "refuse"}}
    for mode in ("enforce", "audit", "disabled"):
        assert outcome(test, mode=mode, items={"delete": False}) == ""


def test_a_claim_that_the_test_does_not_give_is_named(outcome):
    why = outcome({"mint": {}, "expect": {"decision": "forward"}}, instructions={})
    assert why == "there is no policy to test: p: claim 'name' is missing, and the policy has no default for it"


def test_appended_text_is_confirmed_by_the_service_that_answers(outcome):
    instructions = {"client": "append", "claimDefaults": {"name": "you"}}
    expect = {"decision": "rewrite", "rule": "session.instructions", "answer": {"type": "session.updated"}}
    assert outcome({"client": UPDATE, "expect": expect}, instructions=instructions) == ""
