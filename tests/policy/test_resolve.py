"""Which document a session gets, and the policy it becomes."""

from __future__ import annotations

import pytest

from relay.core.allowance import Allowance, Bound
from relay.core.policy import policy_from_instructions
from relay.core.policy_resolve import Identity, PolicyRequest, Unresolved, UnresolvedReason, resolve
from relay.core.policy_rules import LimitRules, Mode, OnDrift, Strictness


def refused(resolved, *documents, **session):
    with pytest.raises(Unresolved) as caught:
        resolved(*documents, **session)
    return caught.value


def test_one_text_is_the_same_policy_as_the_setting_makes(document, resolved):
    made = resolved(document("default", " Hello. ", match={"default": True})).policy
    plain = policy_from_instructions("Hello.", "settings-rt", "settings-transcribe")
    assert {**fields(made), "revision": ""} == {**fields(plain), "revision": ""}


def fields(policy):
    return {name: getattr(policy, name) for name in policy.__dataclass_fields__}


@pytest.mark.parametrize(
    ("match", "session", "matches"),
    [
        ({}, {}, True),
        ({"tenants": ["a"]}, {"tenant": "a"}, True),
        ({"tenants": ["a"]}, {"tenant": "A"}, False),
        ({"tenants": ["a*"]}, {"tenant": "ab"}, False),
        ({"tenants": ["*"]}, {"tenant": "ab"}, True),
        ({"origins": ["https://a.example"]}, {"origin": "https://a.example"}, True),
        ({"origins": ["https://a.example"]}, {"origin": "https://a.example.evil"}, False),
        ({"origins": ["https://a.example"]}, {}, False),
        ({"origins": ["*"]}, {}, False),
        ({"deployments": ["rt"]}, {"model": "rt"}, True),
        ({"deployments": ["rt"]}, {}, False),
        ({"deployments": ["*"]}, {}, True),
        ({"claims": {"role": ["x", "y"]}}, {"role": "y"}, True),
        ({"claims": {"role": ["x"]}}, {"role": ["a", "x"]}, True),
        ({"claims": {"role": ["x"]}}, {"role": "a"}, False),
        ({"claims": {"role": ["x"]}}, {}, False),
        ({"claims": {"role": ["*"]}}, {"role": "a"}, True),
        ({"claims": {"role": ["*"]}}, {"role": ""}, False),
        ({"claims": {"level": ["3"]}}, {"level": 3}, True),
        ({"claims": {"staff": ["true"]}}, {"staff": True}, True),
        ({"claims": {"role": ["x"]}}, {"role": {"x": 1}}, False),
        ({"tenants": ["a"], "claims": {"role": ["x"]}}, {"tenant": "a"}, False),
    ],
)
def test_every_key_that_is_given_must_hold(document, resolved, match, session, matches):
    policy = document("p", "Hello.", match=match)
    if matches:
        assert resolved(policy, **session).policy.name == "p"
    else:
        assert refused(resolved, policy, **session).reason is UnresolvedReason.NO_POLICY


def test_the_highest_priority_wins_and_all_are_explained(document, resolved):
    found = resolved(
        document("low", "Low.", match={"priority": 1}),
        document("high", "High.", match={"priority": 2, "tenants": ["a"]}),
        document("other", "Other.", match={"priority": 3, "tenants": ["b"]}),
        document("rest", "Rest.", match={"default": True}),
        document("base", "Base."),
        tenant="a",
    )
    assert found.policy.name == "high"
    assert [(one.name, one.matched) for one in found.considered] == [("low", True), ("high", True), ("other", False)]
    assert found.considered[2].why == "tenant is 'a', not 'b'"


def test_the_default_is_for_what_is_left(document, resolved):
    documents = [document("p", "P.", match={"tenants": ["a"]}), document("rest", "Rest.", match={"default": True})]
    assert resolved(*documents, tenant="b").policy.name == "rest"
    assert resolved(*documents, tenant="a").policy.name == "p"


def test_without_a_default_what_is_left_is_refused(document, resolved):
    assert refused(resolved, document("p", "P.", match={"tenants": ["a"]})).reason is UnresolvedReason.NO_POLICY
    assert refused(resolved).reason is UnresolvedReason.NO_POLICY


def test_a_tie_that_only_the_session_shows_is_refused(document, resolved):
    documents = [document(name, "P.", match={"claims": {"team": [name]}}) for name in ("sales", "service")]
    assert resolved(*documents, team="sales").policy.name == "sales"
    refusal = refused(resolved, *documents, team=["sales", "service"])
    assert refusal.reason is UnresolvedReason.TIE
    assert "sales and service match with the same priority 0" in str(refusal)


def test_every_part_reaches_the_engine(document, resolved):
    policy = resolved(
        document(
            "p",
            "Hello.",
            mode="audit",
            match={},
            upstream={
                "default": "rt-1",
                "models": {"gpt": "rt-2"},
                "transcription": {"default": "t", "models": {"w": "t2"}},
            },
            instructions={"client": "append", "clientMaxChars": 5, "onDrift": "end"},
            session={"default": "refuse", "fields": {"audio.output.speed": {"min": 1, "max": 1.2, "default": 1}}},
            responses={
                "overrides": "refuse",
                "fields": ["metadata"],
                "outOfBand": False,
                "maxInFlight": 1,
                "maxOutputTokens": 9,
            },
            items={"allow": [], "historyImport": True, "delete": False, "maxTextChars": 7},
            tools={"client": [{"name": "f", "definition": {"description": "d"}}], "maxTools": 3},
            events={"client": ["response.create"], "rateLimits": True, "hideFields": ["include"], "maxDepth": 8},
            limits={
                "sessionSeconds": 60,
                "idleSeconds": 30,
                "warnSeconds": 5,
                "eventsPerSecond": 2,
                "concurrent": {"user": 1, "tenant": 9},
                "minutesPerDay": {"user": 30},
                "tokensPerDay": {"tenant": 100},
                "costUsdPerDay": {"user": 0.5},
            },
            canary={"words": ["Hello."], "overlapWords": 9, "action": "end"},
            apply="live",
            onSinkFailure="fail_open",
        ),
        model="gpt",
    ).policy
    assert policy.mode is Mode.AUDIT
    assert (policy.deployment, policy.models.default, policy.transcription_deployment) == ("rt-2", "rt-1", "t")
    assert policy.models.transcription_map == {"w": "t2"}
    assert (policy.instructions.client, policy.instructions.client_max_chars) == ("append", 5)
    assert policy.instructions.on_drift is OnDrift.END
    assert policy.fields_default is Strictness.REFUSE
    speed = policy.fields["audio.output.speed"]
    assert (speed.minimum, speed.maximum, speed.default, speed.has_default) == (1, 1.2, 1, True)
    assert (policy.responses.fields, policy.responses.max_output_tokens) == (frozenset({"metadata"}), 9)
    assert policy.items.allow == frozenset({"assistant.output_text"})
    assert (policy.items.delete, policy.items.retrieve, policy.items.max_text_chars) == (False, True, 7)
    assert policy.tools.client[0].definition == {"type": "function", "name": "f", "description": "d"}
    assert policy.tools.client_functions is Strictness.STRIP
    assert (policy.events.client, policy.events.max_depth) == (frozenset({"response.create"}), 8)
    allowance = Allowance(Bound(1, 9), Bound(30), Bound(tenant=100), Bound(0.5))
    assert policy.limits == LimitRules(60, 30, 5, 2, allowance)
    assert (policy.canary.words, policy.canary.overlap_words, policy.canary.action) == (("Hello.",), 9, "end")
    assert (policy.apply_live, policy.on_sink_failure) == (True, "fail_open")


def test_a_model_that_is_not_granted_is_refused(document, resolved):
    policy = document("p", "P.", match={}, upstream={"default": "rt-1", "models": {"gpt": "rt-2"}, "unknown": "refuse"})
    assert resolved(policy).policy.deployment == "rt-1"
    assert refused(resolved, policy, model="rt-2").reason is UnresolvedReason.UNKNOWN_MODEL


def test_the_revision_is_of_what_is_said_and_not_of_whom_it_serves(document, resolved):
    def revision(text="Hi {{claim.name}}.", **spec):
        policy = document("p", text, match=spec.pop("match", {}), **spec)
        return resolved(policy, name="Ann").policy.revision

    found = resolved(document("p", "Hi {{claim.name}}.", match={}), name="Bob").policy
    assert found.revision == revision()
    assert found.instructions.text == "Hi Bob."
    assert len(found.revision) == 64
    assert revision(match={"priority": 3}) == revision()
    assert revision(tests=[{"name": "t", "mint": {}, "expect": {"decision": "forward"}}]) == revision()
    assert revision(items={"delete": True}) == revision()
    assert revision("Hi {{claim.name}}!") != revision()
    assert revision(items={"delete": False}) != revision()


def test_a_base_is_part_of_the_revision(document, resolved):
    child = document("p", "P.", match={}, extends=["base"])
    assert (
        resolved(document("base", "One."), child).policy.revision
        != resolved(document("base", "Two."), child).policy.revision
    )


def test_no_refusal_and_no_repr_tells_a_claim_or_the_instructions(document):
    policy = document("p", "SECRET-TEXT {{claim.a}} {{claim.b}}", match={})
    identity = Identity(claims={"a": "SECRET-CLAIM"})
    with pytest.raises(Unresolved) as caught:
        resolve([policy], identity, PolicyRequest())
    shown = f"{caught.value} {caught.value!r} {policy!r} {identity!r}"
    assert caught.value.reason is UnresolvedReason.CLAIM
    assert "SECRET" not in shown
    done = resolve([policy], Identity(claims={"a": "SECRET-CLAIM", "b": "x"}), PolicyRequest())
    assert "SECRET" not in repr(done)
