"""The schema: complete, valid, and read by our own checker as a complete validator reads it."""

from __future__ import annotations

import copy

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.core.policy_check import violations
from relay.core.policy_document import read_document
from relay.core.policy_inherit import LEAVES
from relay.core.policy_paths import CLOSED_FIELDS, FORBIDDEN_FIELDS, INNER_FIELDS, LOCK_ONLY_FIELDS, OPEN_FIELDS
from relay.core.policy_schema import POLICY_SCHEMA, SPEC
from relay.core.session_fields import NEVER_A_CLIENTS, SESSION_FIELDS, Treatment

VALIDATOR = jsonschema.Draft202012Validator(POLICY_SCHEMA)


def properties(schema, path=""):
    for name, part in schema.get("properties", {}).items():
        yield f"{path}.{name}".lstrip("."), part
        yield from properties(part, f"{path}.{name}")
        yield from properties(part.get("items", {}), f"{path}.{name}[]")


def minimal(**spec):
    return {"apiVersion": "relay/v1", "kind": "SessionPolicy", "metadata": {"name": "p"}, "spec": spec}


def test_it_is_a_valid_schema_of_the_draft():
    jsonschema.Draft202012Validator.check_schema(POLICY_SCHEMA)


def test_every_key_is_described():
    for path, part in properties(POLICY_SCHEMA):
        assert len(part.get("description", "")) > 5, path


def test_every_object_refuses_unknown_keys_or_says_what_they_hold():
    for path, part in properties(POLICY_SCHEMA):
        if "properties" in part:
            assert part["additionalProperties"] is False, path


def test_every_decided_value_says_what_becomes_of_it_in_a_child():
    undecided = {"extends", "match", "tests"}
    tops = {name for name in SPEC["properties"] if name not in undecided}
    assert {path.split(".")[0] for path in LEAVES} == tops
    for path, part in properties(SPEC):
        top = path.split(".")[0]
        if top in undecided or top == "session" or "[]" in path or "properties" in part:
            continue
        inside = any(path.startswith(leaf + ".") for leaf in LEAVES)
        assert inside or "x-inherit" in part, path


def test_every_default_is_a_value_that_the_schema_takes():
    for path, part in properties(POLICY_SCHEMA):
        if "default" in part and path != "":
            assert list(violations(part["default"], part)) == [], path


def test_the_fields_are_those_of_the_one_table():
    named = {*OPEN_FIELDS, *CLOSED_FIELDS, *LOCK_ONLY_FIELDS, *FORBIDDEN_FIELDS}
    assert named == set(SESSION_FIELDS)
    stripped = {path for path, field in SESSION_FIELDS.items() if field.treatment in (Treatment.STRIP, Treatment.FIXED)}
    assert stripped.isdisjoint(OPEN_FIELDS)
    assert set(CLOSED_FIELDS) <= stripped
    assert {*FORBIDDEN_FIELDS, *LOCK_ONLY_FIELDS} >= NEVER_A_CLIENTS
    assert all(path.rpartition(".")[0] in OPEN_FIELDS for path in INNER_FIELDS)


def spoilt(value, path, replacement):
    """A copy with the value at a path replaced, or removed for `...`."""
    whole = copy.deepcopy(value)
    place = whole
    for name in path[:-1]:
        place = place[name]
    if replacement is ...:
        del place[path[-1]]
    else:
        place[path[-1]] = replacement
    return whole


FULL = minimal(
    mode="audit",
    extends=["base"],
    match={"priority": 3, "tenants": ["a"], "claims": {"x": ["1"]}, "origins": ["*"]},
    upstream={"default": "d", "models": {"m": "d"}, "unknown": "refuse", "transcription": {"default": "t"}},
    instructions={"text": "Hello.", "client": "append", "clientMaxChars": 10, "claimDefaults": {"x": "y"}},
    session={
        "default": "strip",
        "fields": {"audio.output.voice": {"default": "a", "allow": ["a"], "otherwise": "strip"}},
    },
    responses={"fields": ["metadata"], "maxInFlight": 1},
    items={"allow": ["user.input_text"], "delete": False},
    tools={"client": [{"name": "f", "schemaHash": "sha256:" + "0" * 64}], "admin": [{"type": "function", "name": "g"}]},
    events={"client": ["response.create"], "hideFields": ["include"]},
    limits={"sessionSeconds": 60},
    canary={"words": ["canary-1"], "overlapWords": 8, "action": "cut"},
    tests=[
        {"name": "t", "client": {"type": "response.create"}, "expect": {"decision": "refuse", "rule": "events.type"}}
    ],
)


def paths(value, at=()):
    yield at
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, part in pairs:
        yield from paths(part, (*at, name))


@settings(deadline=None)
@given(st.sampled_from([path for path in paths(FULL) if path]), st.data())
def test_the_checker_agrees_with_a_complete_validator(path, data):
    junk = st.sampled_from([..., None, True, 0, -1, 10**9, 1.5, "", "x", "X" * 300, [], ["x", "x"], {}, {"zzz": 1}])
    value = spoilt(FULL, path, data.draw(junk))
    ours = not list(violations(value, POLICY_SCHEMA))
    assert ours == VALIDATOR.is_valid(value)


def test_the_full_document_is_valid():
    assert list(violations(FULL, POLICY_SCHEMA)) == []


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"instructons": {}}, "spec.instructons: unknown key; did you mean instructions?"),
        ({"instructions": {"client_max_chars": 1}}, "did you mean clientMaxChars?"),
        ({"limits": {"call-seconds": 1}}, "unknown key"),
        ({"mode": "enforced"}, '"enforced" is none of disabled, audit, enforce; did you mean enforce?'),
        ({"mode": True}, "must be text, not true or false; put it in quotes"),
        ({"extends": "base"}, "must be a list, not text; write [base]"),
        ({"items": {"delete": "no"}}, "must be true or false, not text"),
        ({"limits": {"sessionSeconds": 1}}, "1 is not between 10 and 86400"),
        ({"session": {"fields": {"audio.output.voise": {}}}}, "did you mean audio.output.voice?"),
        ({"session": {"fields": {"voice": {}}}}, "is the preview's name; write audio.output.voice"),
        ({"session": {"fields": {"prompt": {}}}}, "no rule can give it to a client: a stored prompt"),
        ({"session": {"fields": {"model": {}}}}, "no rule can give it to a client: use spec.upstream"),
        ({"session": {"fields": {"tracing": {"allow": ["auto"]}}}}, "unknown key"),
        ({"events": {"client": ["response.creat"]}}, "did you mean response.create?"),
        ({"instructions": {"text": "a", "file": "b.md"}}, "stands beside text"),
        ({"instructions": {"file": "b.md"}}, "there are no files here"),
        ({"instructions": {"text": "a\x00b"}}, "control character (U+0000)"),
        ({"instructions": {"text": "\ud800"}}, "control character (U+D800)"),
        ({"upstream": {"default": "a\ud800"}}, "control character (U+D800)"),
        ({"upstream": {"models": {"a\n": "x"}}}, "a key holds a control character (U+000A)"),
        ({"canary": {"words": ["a\x1b[31mbc"]}}, "control character (U+001B)"),
        ({"session": {"fields": {"tracing": {"lock": {"a": "\ud800"}}}}}, "control character (U+D800)"),
        ({"tests": [{"name": "x", "client": "\ud800", "expect": {"decision": "refuse"}}]}, "control character"),
        ({"match": {"claims": {"x": []}}}, "must not be an empty list"),
        ({"tools": {"client": [{"name": "g\n", "definition": {}}]}}, "does not have the form"),
        ({"tests": [{"name": "x", "expect": {"decision": "forward", "result": {}}}]}, "must not be empty"),
        ({"tests": [{"name": "x", "expect": {}}]}, "spec.tests[0].expect: lacks decision"),
    ],
)
def test_what_is_wrong_is_told_in_words(spec, words):
    found, problems = read_document(minimal(**spec))
    assert found is None
    assert words in "\n".join(map(str, problems))


@pytest.mark.parametrize("path", sorted(FORBIDDEN_FIELDS))
def test_no_rule_gives_a_client_what_is_never_its(path):
    found, problems = read_document(minimal(session={"fields": {path: {"allow": ["x"]}}}))
    assert found is None
    assert "no rule can give it to a client" in str(problems[0])


def test_one_number_has_one_form():
    one, _ = read_document(minimal(session={"fields": {"audio.output.speed": {"lock": 1.0}}}))
    assert repr(one.spec["session"]["fields"]["audio.output.speed"]["lock"]) == "1"
