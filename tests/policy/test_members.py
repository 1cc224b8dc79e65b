"""Rules for members of a field against the rule of the whole field: a child gets round neither of its base's."""

from __future__ import annotations

import pytest

from relay.core.lifecycle import Dialect
from relay.core.policy import compose_service_session
from relay.core.policy_lint import lint
from relay.core.policy_resolve import Identity, PolicyRequest, ServiceDefaults, resolve_document

WHOLE = "audio.input.turn_detection"
MEMBER = f"{WHOLE}.create_response"
OFF = {"type": "server_vad", "create_response": False}
ON = {"type": "server_vad", "create_response": True}


def detection(documents, name):
    policy = resolve_document(documents, name, Identity(), PolicyRequest(), ServiceDefaults("rt")).policy
    session = compose_service_session(policy, None, Dialect.GA, Dialect.GA)
    return session.get("audio", {}).get("input", {}).get("turn_detection", "absent")


@pytest.fixture
def pair(document):
    def make(base, child):
        return [
            document("base", "Hello.", session=base),
            document("child", match={}, extends=["base"], session={"fields": child}),
        ]

    return make


@pytest.mark.parametrize(
    ("base", "child", "words"),
    [
        ({"fields": {WHOLE: {"lock": OFF}}}, {MEMBER: {"lock": True}}, "locks"),
        ({"fields": {WHOLE: {"lock": None}}}, {MEMBER: {"lock": True}}, "locks"),
        ({"fields": {WHOLE: {"lock": OFF}}}, {f"{WHOLE}.threshold": {"default": 0.1}}, "locks"),
        ({"fields": {WHOLE: {"default": OFF, "allow": [OFF]}}}, {MEMBER: {"lock": True}}, "lists"),
        ({"fields": {WHOLE: {"default": None, "allow": [None]}}}, {MEMBER: {"lock": True}}, "lists"),
        ({"fields": {WHOLE: {"default": OFF, "allow": []}}}, {MEMBER: {"default": True}}, "closes"),
        ({"default": "refuse"}, {MEMBER: {"lock": True}}, "closes"),
        ({"default": "strip"}, {MEMBER: {"default": True}}, "closes"),
        ({"fields": {MEMBER: {"lock": False}}}, {WHOLE: {"lock": ON}}, "not within"),
        ({"fields": {MEMBER: {"lock": False}}}, {WHOLE: {"lock": None}}, "not within"),
    ],
)
def test_what_the_base_fixed_stays_and_lint_tells(pair, errors, base, child, words):
    documents = pair(base, child)
    assert detection(documents, "child") == detection(documents, "base")
    assert any(words in one for one in errors(lint(documents)))


@pytest.mark.parametrize(
    ("base", "child", "sent"),
    [
        ({}, {MEMBER: {"lock": False}}, OFF),
        ({"fields": {WHOLE: {"default": ON}}}, {MEMBER: {"lock": False}}, OFF),
        ({"fields": {WHOLE: {"allow": [ON, OFF]}}}, {MEMBER: {"lock": False}}, OFF),
        ({"fields": {WHOLE: {"lock": OFF}}}, {MEMBER: {"lock": False}}, OFF),
        (
            {"fields": {f"{WHOLE}.threshold": {"max": 0.5}}},
            {WHOLE: {"default": {"type": "server_vad", "threshold": 0.5}}},
            {"type": "server_vad", "threshold": 0.5},
        ),
    ],
)
def test_a_child_can_say_of_a_member_what_its_base_left_open(pair, errors, base, child, sent):
    documents = pair(base, child)
    assert detection(documents, "child") == sent
    assert errors(lint(documents)) == []


def test_a_default_of_the_whole_keeps_to_the_bounds_of_its_members(pair):
    loud = {WHOLE: {"default": {"type": "server_vad", "threshold": 0.9}}}
    documents = pair({"fields": {f"{WHOLE}.threshold": {"max": 0.5}}}, loud)
    assert detection(documents, "child")["threshold"] == 0.5


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({WHOLE: {"lock": None}, MEMBER: {"lock": True}}, "stands inside"),
        ({WHOLE: {"allow": [OFF]}, MEMBER: {"lock": True}}, "fits none"),
        ({WHOLE: {"default": {"type": "server_vad", "threshold": 0.9}}, f"{WHOLE}.threshold": {"max": 0.5}}, "default"),
    ],
)
def test_one_document_that_contradicts_itself_is_an_error(document, errors, fields, words):
    found = errors(lint([document("p", "Hello.", match={}, session={"fields": fields})]))
    assert any(words in one for one in found), found
