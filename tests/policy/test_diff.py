"""A change told in meaning."""

from __future__ import annotations

import pytest

from relay.core.policy_diff import diff


@pytest.fixture
def change(document):
    """What became of one document, as (path, direction)."""

    def between(old, new, text=("Hello.", "Hello.")):
        before, after = (document("p", words, match={}, **spec) for words, spec in zip(text, (old, new), strict=True))
        return [(one.path, one.direction.value) for one in diff([before], [after])]

    return between


def voice(**rule):
    return {"session": {"fields": {"audio.output.voice": rule}}}


TOKENS = "session.fields[max_output_tokens]"


def tokens(**rule):
    return {"session": {"fields": {"max_output_tokens": rule}}}


def granted(**models):
    return {"upstream": {"unknown": "refuse", "models": models}}


@pytest.mark.parametrize(
    ("old", "new", "path"),
    [
        ({}, {"instructions": {"client": "deny"}}, "instructions.client"),
        ({"mode": "audit"}, {}, "mode"),
        ({}, {"limits": {"sessionSeconds": 60}}, "limits.sessionSeconds"),
        ({"limits": {"sessionSeconds": 60}}, {"limits": {"sessionSeconds": 30}}, "limits.sessionSeconds"),
        ({}, {"limits": {"concurrent": {"tenant": 5}}}, "limits.concurrent.tenant"),
        (
            {"limits": {"costUsdPerDay": {"user": 2}}},
            {"limits": {"costUsdPerDay": {"user": 0.5}}},
            "limits.costUsdPerDay.user",
        ),
        ({}, {"items": {"delete": False}}, "items.delete"),
        ({}, {"items": {"allow": ["user.input_text"]}}, "items.allow"),
        ({}, {"events": {"client": ["response.create"]}}, "events.client"),
        ({}, {"events": {"hideFields": ["include"]}}, "events.hideFields"),
        ({}, {"canary": {"overlapWords": 8}}, "canary.overlapWords"),
        ({"canary": {"overlapWords": 8}}, {"canary": {"overlapWords": 6}}, "canary.overlapWords"),
        ({}, {"canary": {"words": ["canary-1"]}}, "canary.words"),
        ({}, {"upstream": {"regions": ["eastus2"]}}, "upstream.regions"),
        ({"upstream": {"deployments": ["a", "b"]}}, {"upstream": {"deployments": ["b"]}}, "upstream.deployments"),
        ({}, {"session": {"default": "strip"}}, "session.default"),
        ({}, voice(allow=["a"]), "session.fields[audio.output.voice]"),
        (voice(allow=["a", "b"]), voice(allow=["b"]), "session.fields[audio.output.voice]"),
        (voice(allow=["a", "b"]), voice(lock="b"), "session.fields[audio.output.voice]"),
        (voice(allow=["a"]), voice(allow=["a"], otherwise="refuse"), "session.fields[audio.output.voice]"),
        (granted(a="x", b="y"), granted(b="y"), "upstream.models"),
        (granted(a="x"), granted(), "upstream.models"),
        (tokens(lock=4096), tokens(lock=100), TOKENS),
        (tokens(lock="inf"), tokens(lock=100), TOKENS),
        (tokens(max=600), tokens(max=600, allow=[]), TOKENS),
        (tokens(default=500, max=600), tokens(default=500, max=600, allow=[]), TOKENS),
        ({"instructions": {"allowEmpty": True}}, {}, "instructions.allowEmpty"),
    ],
)
def test_tighter_one_way_is_looser_the_other(change, old, new, path):
    assert change(old, new) == [(path, "tighter")]
    assert change(new, old) == [(path, "looser")]


@pytest.mark.parametrize(
    ("old", "new", "path"),
    [
        (voice(lock="a"), voice(lock="b"), "session.fields[audio.output.voice]"),
        (voice(default="a"), voice(default="b"), "session.fields[audio.output.voice]"),
        ({"upstream": {"default": "a"}}, {"upstream": {"default": "b"}}, "upstream.default"),
        ({"upstream": {"models": {"a": "x"}}}, {"upstream": {"models": {"a": "y"}}}, "upstream.models"),
        ({}, {"upstream": {"models": {"a": "x"}}}, "upstream.models"),
        ({}, {"upstream": {"transcription": {"models": {"a": "x"}}}}, "upstream.transcription.models"),
        (voice(allow=["a", "b"]), voice(allow=["b", "a"]), "session.fields[audio.output.voice]"),
        ({}, {"limits": {"warnSeconds": 5}}, "limits.warnSeconds"),
        ({}, {"tools": {"admin": [{"type": "function", "name": "f"}]}}, "tools.admin"),
    ],
)
def test_some_changes_are_neither(change, old, new, path):
    assert change(old, new) == [(path, "changed")]
    assert change(new, old) == [(path, "changed")]


def test_what_allows_anything_new_is_looser_whatever_else_it_forbids(change):
    assert change(voice(allow=["a", "b"]), voice(allow=["b", "c"])) == [
        ("session.fields[audio.output.voice]", "looser")
    ]
    one, other = {"items": {"allow": ["user.input_text"]}}, {"items": {"allow": ["user.input_audio"]}}
    assert change(one, other) == change(other, one) == [("items.allow", "looser")]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (tokens(default=500, max=600), tokens(allow=[])),
        (tokens(max=600), tokens()),
        (tokens(lock=100), tokens(lock="inf")),
    ],
)
def test_a_cap_that_goes_is_looser_whatever_clients_may_choose(change, old, new):
    assert change(old, new) == [(TOKENS, "looser")]


def test_the_same_in_other_words_is_no_difference(change):
    assert change(voice(allow=["a"], otherwise="strip"), voice(allow=["a"])) == []
    assert change({"items": {"delete": True}, "mode": "enforce"}, {}) == []
    one, other = (
        {"items": {"allow": names}}
        for names in (["user.input_text", "user.input_audio"], ["user.input_audio", "user.input_text"])
    )
    assert change(one, other) == []
    assert change({}, {}, ("Hello.", " Hello.\n")) == []


def test_instructions_are_never_shown(document):
    old, new = document("p", "SECRET one.", match={}), document("p", "SECRET two, longer.", match={})
    (change,) = diff([old], [new])
    assert (change.path, change.direction) == ("instructions.text", "changed")
    assert change.old.startswith("11 characters, sha256 ")
    assert change.new.startswith("19 characters, sha256 ")
    assert "SECRET" not in repr(change)


def test_a_change_of_a_base_shows_in_what_is_built_on_it(document):
    child = document("p", "P.", match={}, extends=["base"])
    found = list(diff([document("base", "B."), child], [document("base", "B.", items={"delete": False}), child]))
    assert [(one.document, one.path, one.direction) for one in found] == [
        ("base", "items.delete", "tighter"),
        ("p", "items.delete", "tighter"),
    ]


def test_documents_come_go_and_match_others(document):
    one, other = document("one", "P.", match={}), document("other", "P.", match={"tenants": ["a"]})
    moved = document("other", "P.", match={"tenants": ["b"]})
    assert [(change.document, change.old, change.new) for change in diff([one], [other])] == [
        ("one", "a document", "nothing"),
        ("other", "nothing", "a document"),
    ]
    (change,) = diff([other], [moved])
    assert (change.path, change.direction) == ("match", "changed")
