"""What lint finds: errors that keep documents out, and what an administrator should know of."""

from __future__ import annotations

import pytest

from relay.core.policy_lint import lint

TESTS = [{"name": "t", "client": {"type": "input_audio_buffer.commit"}, "expect": {"decision": "forward"}}]

TOKENS = "max_output_tokens"


def tokens(**rule):
    return {"session": {"fields": {TOKENS: rule}}}


def function(description):
    return {"tools": {"client": [{"name": "f", "definition": {"description": description}}]}}


@pytest.fixture
def policy(document):
    """A document without problems, changed by what is given."""

    def make(name="p", text="Hello.", **spec):
        spec.setdefault("match", {})
        if spec["match"] is None:
            del spec["match"]
        else:
            spec.setdefault("tests", TESTS)
        return document(name, text, **spec)

    return make


def test_a_sound_document_has_no_problems(policy):
    assert lint([policy()]) == []


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"match": {"default": True, "tenants": ["a"]}}, "spec.match.default: takes no other key"),
        ({"match": {"origins": ["https://A.example"], "tenants": ["a"]}}, "can never match"),
        ({"match": {"origins": ["https://a.example/"], "tenants": ["a"]}}, "can never match"),
        ({"match": {"origins": ["a.example"], "tenants": ["a"]}}, "can never match"),
        ({"session": {"fields": {"audio.output.voice": {"lock": "a", "allow": ["a"]}}}}, "allow: stands beside lock"),
        ({"session": {"fields": {"audio.output.voice": {"lock": "a", "default": "a"}}}}, "default: stands beside lock"),
        (
            {"session": {"fields": {"audio.output.voice": {"default": "b", "allow": ["a"]}}}},
            "default: is not what the rule",
        ),
        ({"session": {"fields": {"audio.output.voice": {"min": 1}}}}, "min: the field is no number"),
        ({"session": {"fields": {"audio.output.speed": {"min": 1.2, "max": 1.1}}}}, "min: is above max"),
        ({"session": {"fields": {"audio.output.speed": {"lock": "fast"}}}}, "'fast' has the wrong type"),
        ({"session": {"fields": {"audio.output.speed": {"lock": 9}}}}, "9 is not a value the service takes"),
        ({"session": {"fields": {"max_output_tokens": {"allow": [0]}}}}, "0 is not a value"),
        ({"session": {"fields": {"audio.input.turn_detection.type": {"allow": ["vad"]}}}}, "'vad' is not a value"),
        ({"session": {"fields": {"audio.input.turn_detection.threshold": {"lock": 7}}}}, "threshold cannot be"),
        (
            {"session": {"fields": {"audio.input.transcription": {"allow": [{"prompt": "x"}]}}}},
            "prompt cannot be a client's",
        ),
        ({"session": {"fields": {"max_output_tokens": {"max": 0}}}}, "max: 0 leaves nothing"),
        ({"session": {"fields": {"max_output_tokens": {"max": 0.5}}}}, "must be a whole number here"),
        ({"session": {"fields": {"max_output_tokens": {"max": 9000}}}}, "9000 is not a value the service takes"),
        ({"session": {"fields": {"audio.output.speed": {"min": 50}}}}, "min: 50 leaves nothing"),
        ({"session": {"fields": {"audio.output.speed": {"max": 0.01}}}}, "max: 0.01 leaves nothing"),
        ({"session": {"fields": {"tracing": {"lock": 5}}}}, "null, auto, or a group of keys"),
        (
            {"tools": {"admin": [{"type": "mcp", "server_label": "x", "server_url": "javascript:x"}]}},
            "server_url: must begin with https://",
        ),
        ({"tools": {"admin": [{"type": "function"}]}}, "lacks name"),
        ({"tools": {"admin": [{"type": "mcp", "server_label": "x"}]}}, "lacks server_url"),
        ({"tools": {"client": [{"name": "f"}]}}, "needs a definition or a schemaHash"),
        (
            {"tools": {"client": [{"name": "f", "definition": {}}, {"name": "f", "definition": {"description": "x"}}]}},
            "listed twice",
        ),
        ({"tests": [{"name": "t", "expect": {"decision": "forward"}}]}, "exactly one of client, server, mint"),
        ({"tests": [*TESTS, {**TESTS[0], "client": {"type": "x"}}]}, "the name of another test"),
        ({"tests": [{**TESTS[0], "before": [{}]}]}, "exactly one of client, server"),
        ({"text": "{{claims.x}}"}, "'{{claims.x}}' is no variable"),
        ({"text": "Hello {{"}, "is no variable"),
        ({"instructions": {}, "text": None}, "spec.instructions: there are none"),
        ({"extends": ["bas"]}, "no document bas"),
        ({"extends": ["p"]}, "a circle"),
    ],
)
def test_errors(policy, errors, spec, words):
    found = errors(lint([policy(**spec)]))
    assert any(words in one for one in found), found


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"tests": []}, "has no tests"),
        ({"match": {"origins": ["https://a.example"]}}, "they choose whether it applies"),
        ({"match": {"deployments": ["rt"]}}, "they choose whether it applies"),
        ({"match": {"tenants": ["a"]}}, "no document is the default"),
        ({"mode": "audit"}, "written down and not carried out"),
        ({"mode": "disabled"}, "none of its rules is applied"),
        ({"instructions": {"client": "append"}}, "the last word is the client's"),
        ({"instructions": {"client": "prepend"}}, "the first word is the client's"),
        ({"instructions": {"client": "passthrough"}}, "take the place of yours"),
        ({"instructions": {"allowEmpty": True}, "text": None}, "NO INSTRUCTIONS"),
        ({"instructions": {"claimDefaults": {"x": "y"}}}, "no instructions use this claim"),
        ({"events": {"passUnknown": True}}, "passUnknown"),
        ({"events": {"client": []}}, "no client event passes"),
        ({"canary": {"words": ["canary-1"]}}, "is not in the instructions"),
        ({"canary": {"overlapWords": 3}}, "occur by chance"),
        ({"session": {"fields": {"audio.output.voice": {"allow": ["a"]}}}}, "the service's own voice"),
        ({"session": {"fields": {"truncation": {}}}}, "opens nothing without `allow`"),
        ({"session": {"fields": {"max_output_tokens": {"allow": [500]}}}}, "answers have no cap"),
        (
            {"tests": [{**TESTS[0], "expect": {"decision": "forward", "result": {"session.intsructions": None}}}]},
            "no event has this path",
        ),
        ({"tools": {"admin": [{"type": "function", "name": "f"}]}}, "nothing answers its calls"),
    ],
)
def test_warnings(policy, errors, warnings, spec, words):
    problems = lint([policy(**spec)])
    assert errors(problems) == []
    assert any(words in one for one in warnings(problems)), problems


@pytest.mark.parametrize(
    ("one", "other", "tie"),
    [
        ({}, {}, True),
        ({"tenants": ["a"]}, {"tenants": ["b"]}, False),
        ({"tenants": ["a", "b"]}, {"tenants": ["b"]}, True),
        ({"tenants": ["a"]}, {"tenants": ["*"]}, True),
        ({"tenants": ["a"]}, {"origins": ["https://x.example"]}, True),
        ({"tenants": ["a"], "claims": {"r": ["x"]}}, {"tenants": ["a"], "claims": {"r": ["y"]}}, False),
        ({"tenants": ["a"], "claims": {"r": ["x"]}}, {"tenants": ["a"], "claims": {"s": ["y"]}}, True),
        ({"priority": 1}, {"priority": 2}, False),
    ],
)
def test_documents_that_can_match_one_session_need_an_order(policy, errors, one, other, tie):
    found = errors(lint([policy("one", match=one), policy("other", match=other)]))
    assert any("one has the same priority" in text for text in found) == tie


def test_claims_that_can_be_lists_are_told(policy, errors, warnings):
    problems = lint([policy(name, match={"claims": {"groups": [name]}}) for name in ("one", "other")])
    assert errors(problems) == []
    assert any("can match one too, at the same priority" in one for one in warnings(problems))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (tokens(lock=4000), tokens(lock=100)),
        (tokens(lock=4000), tokens(max=100)),
        (tokens(max=100), tokens(lock=4000)),
        (tokens(max=100), tokens(min=200)),
        (tokens(allow=[1]), tokens(allow=[2])),
        (function("A"), function("B")),
        ({"upstream": {"default": "a"}}, {"upstream": {"default": "b"}}),
        ({"upstream": {"models": {"m": "a"}}}, {"upstream": {"models": {"m": "b"}}}),
        ({"instructions": {"claimDefaults": {"c": "a"}}}, {"instructions": {"claimDefaults": {"c": "b"}}}),
        ({"tools": {"admin": [{"type": "function", "name": "f"}]}},
         {"tools": {"admin": [{"type": "function", "name": "f", "description": "x"}]}}),
    ],
)  # fmt: skip
def test_bases_that_contradict_each_other_are_an_error(policy, errors, one, other):
    bases = [policy("one", match=None, **one), policy("other", match=None, **other)]
    found = errors(lint([*bases, policy(extends=["one", "other"])]))
    assert any("spec.extends[1]: other contradicts one" in text for text in found), found


def test_bases_of_which_one_is_tighter_are_fine(policy, errors):
    bases = [
        policy("one", match=None, **tokens(max=100), limits={"sessionSeconds": 60}),
        policy("other", match=None, **tokens(max=200), limits={"sessionSeconds": 90}, items={"delete": False}),
    ]
    assert errors(lint([*bases, policy(extends=["one", "other"])])) == []


def test_names_and_defaults_are_unique(policy, errors):
    assert any("p is taken" in one for one in errors(lint([policy(), policy()])))
    defaults = [policy(name, match={"default": True}) for name in ("a", "b")]
    assert any("a is the default already" in one for one in errors(lint(defaults)))


def test_documents_that_no_session_gets_are_told(policy, warnings):
    found = warnings(
        lint([policy(match={"priority": 1}), policy("low", match={"tenants": ["a"]}), policy("base", match=None)])
    )
    assert any("is never used: p is taken" in one for one in found)
    assert any("has no match, and no document extends it" in one for one in found)
    assert warnings(lint([policy(extends=["base"]), policy("base", match=None)])) == []


@pytest.mark.parametrize(
    ("base", "child", "words"),
    [
        ({"instructions": {"client": "deny"}}, {"instructions": {"client": "append"}}, "append is looser than deny"),
        ({"items": {"delete": False}}, {"items": {"delete": True}}, "true is looser than false"),
        ({"limits": {"sessionSeconds": 60}}, {"limits": {"sessionSeconds": 90}}, "90 is looser than 60"),
        ({"limits": {"concurrent": {"user": 1}}}, {"limits": {"concurrent": {"user": 3}}}, "3 is looser than 1"),
        (
            {"items": {"allow": ["user.input_text"]}},
            {"items": {"allow": ["user.input_audio"]}},
            "user.input_audio: not so",
        ),
        (
            {"events": {"client": ["response.create"]}},
            {"events": {"client": ["response.cancel"]}},
            "response.cancel: not so",
        ),
        ({"upstream": {"models": {"a": "x"}}}, {"upstream": {"models": {"a": "y"}}}, "spec.upstream.models: a: not so"),
        ({"upstream": {"default": "a"}}, {"upstream": {"default": "b"}}, "b is looser than a"),
        ({"session": {"default": "refuse"}}, {"session": {"default": "strip"}}, "strip is looser than refuse"),
        (
            {"session": {"fields": {"audio.output.voice": {"lock": "a"}}}},
            {"session": {"fields": {"audio.output.voice": {"lock": "b"}}}},
            "spec.session.fields[audio.output.voice].lock: b is not within",
        ),
        (
            {"session": {"fields": {"audio.output.voice": {"allow": ["a"], "default": "a"}}}},
            {"session": {"fields": {"audio.output.voice": {"allow": ["a", "b"]}}}},
            "is not within",
        ),
        ({}, {"session": {"fields": {"truncation": {"allow": ["auto"]}}}}, "is not within"),
        (
            {"session": {"fields": {"audio.input.turn_detection": {"allow": [{"type": "server_vad"}]}}}},
            {"session": {"fields": {"audio.input.turn_detection": {"allow": [None, {"type": "server_vad"}]}}}},
            "is not within",
        ),
        (
            {"session": {"default": "strip"}},
            {"session": {"fields": {"audio.input.turn_detection.type": {"allow": ["server_vad"]}}}},
            "has no effect: the document it extends closes audio.input.turn_detection",
        ),
        (
            {"tools": {"client": [{"name": "f", "definition": {"description": "1"}}]}},
            {"tools": {"client": [{"name": "f", "definition": {"description": "2"}}]}},
            "f: not so",
        ),
        ({"instructions": {"claimDefaults": {"x": "a"}}}, {"instructions": {"claimDefaults": {"x": "b"}}}, "x: not so"),
        ({"mode": "enforce"}, {"mode": "audit"}, "audit is looser than enforce"),
        (
            {"upstream": {"default": "rt", "unknown": "refuse"}},
            {"upstream": {"models": {"gpt-big": "expensive"}}},
            "spec.upstream.models: gpt-big: not so",
        ),
        (tokens(default=800, max=1500), tokens(default=4000), "default: 4000 is not within"),
        (tokens(min=200), tokens(max=100), "max: 100 is not within"),
    ],
)
def test_a_child_that_loosens_is_an_error_where_it_does(policy, errors, base, child, words):
    found = errors(lint([policy("base", match=None, **base), policy(extends=["base"], **child)]))
    assert any(words in one and "base" in one for one in found), found


@pytest.mark.parametrize(
    "child",
    [
        {"instructions": {"client": "deny"}},
        {"items": {"allow": ["user.input_text"], "delete": False}},
        {
            "session": {
                "default": "strip",
                "fields": {"audio.output.voice": {"default": "b", "allow": ["b"], "otherwise": "refuse"}},
            }
        },
        {"session": {"fields": {"audio.output.voice": {"lock": "b"}}}},
        {"session": {"fields": {"audio.output.voice": {"default": "b"}}}},
        {"upstream": {"models": {"m": "x"}}, "limits": {"warnSeconds": 300}},
        {"tools": {"client": [{"name": "f", "definition": {}}], "clientFunctions": "refuse"}},
    ],
)
def test_a_child_that_tightens_is_fine(policy, errors, child):
    base = policy(
        "base",
        match=None,
        session={"fields": {"audio.output.voice": {"default": "a", "allow": ["a", "b"]}}},
        upstream={"models": {"m": "x", "n": "y"}},
        tools={"client": [{"name": "f", "definition": {}}, {"name": "g", "definition": {}}]},
    )
    assert errors(lint([base, policy(extends=["base"], **child)])) == []


def test_deployments_that_do_not_exist_are_told_when_they_are_known(policy, warnings):
    upstream = {"default": "rt", "models": {"m": "rt-swedn"}, "transcription": {"default": "tr"}}
    documents = [policy(upstream=upstream)]
    assert lint(documents) == []
    found = warnings(lint(documents, ["rt", "rt-sweden"]))
    assert "spec.upstream.models.m: there is no deployment rt-swedn; did you mean rt-sweden?" in found[0]
    assert "spec.upstream.transcription.default: there is no deployment tr" in found[1]


def test_too_much_text_in_all(policy, errors):
    documents = [policy("base", "x" * 40_000, match=None), policy(text="y" * 40_000, extends=["base"])]
    assert any("with those it extends more than" in one for one in errors(lint(documents)))


# --- where sessions may be served


def test_regions_without_a_member_are_named_where_the_pool_is_known(policy, errors, warnings):
    documents = [policy(match={"default": True}, upstream={"regions": ["swedencentrl", "eastus2"]})]
    assert lint(documents) == []
    [one] = warnings(lint(documents, regions=("swedencentral", "eastus2")))
    assert "spec.upstream.regions[0]: no member of the pool is in swedencentrl" in one
    assert "swedencentral" in one.partition("swedencentrl")[2]
    found = lint(documents, regions=())
    assert errors(found) == []
    assert [("every session is refused" in one) for one in warnings(found)] == [True, True]


def test_a_child_cannot_name_another_region_and_two_bases_must_leave_one(policy, errors):
    north, south = (policy(name, match=None, upstream={"regions": [name]}) for name in ("north", "south"))
    assert errors(lint([north, policy(extends=["north"])])) == []
    [one] = errors(lint([north, policy(extends=["north"], upstream={"regions": ["north", "south"]})]))
    assert "spec.upstream.regions: south: not so in the document it extends" in one
    [one] = errors(lint([north, south, policy(extends=["north", "south"])]))
    assert "spec.upstream.regions: with those it extends none is left" in one


def test_a_model_that_no_listed_deployment_serves_is_told(policy, warnings):
    upstream = {"deployments": ["eu"], "default": "eu", "models": {"fast": "world"}}
    [one] = warnings(lint([policy(match={"default": True}, upstream=upstream)]))
    assert "world is not among upstream.deployments" in one
