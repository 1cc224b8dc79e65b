"""Inheritance only tightens: by cases, and as laws over random documents."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from relay.core.lifecycle import Dialect
from relay.core.policy import ConfigRefusal, compose_service_session, judge_wish
from relay.core.policy_check import same
from relay.core.policy_document import read_document
from relay.core.policy_fields import field_rule, freedom, meet_rules, normal, permits, rule_of
from relay.core.policy_inherit import LEAVES, completed, loosened, meet, said_by
from relay.core.policy_lint import lint
from relay.core.policy_paths import CLOSED_FIELDS, INNER_FIELDS, OPEN_FIELDS
from relay.core.policy_resolve import Identity, PolicyRequest, ServiceDefaults, Unresolved, merged, resolve_document
from relay.core.policy_schema import EXTENDS_MAX_DEPTH

VALUES = {
    "audio.output.voice": ["marin", "cedar", "verse", "alloy"],
    "audio.output.speed": [0.5, 1, 1.5],
    "max_output_tokens": [1, 100, 2048, "inf"],
    "output_modalities": [["audio"], ["text"]],
    "parallel_tool_calls": [True, False],
    "tool_choice": ["auto", "none", "required"],
    "audio.input.turn_detection": [None, {"type": "semantic_vad"}, {"type": "server_vad"}],
    "audio.input.turn_detection.type": ["semantic_vad", "server_vad"],
    "reasoning": [{"effort": "low"}, {"effort": "high"}],
    "truncation": ["auto", "disabled"],
}
# How fast documents are made says nothing of the rules.
SLOW = [HealthCheck.too_slow]
NUMBERS = {"audio.output.speed", "max_output_tokens"}


def rules_of(path):
    value = st.sampled_from(VALUES[path])
    parts = {
        "default": value,
        "allow": st.lists(value, max_size=3, unique_by=repr),
        "otherwise": st.sampled_from(["strip", "refuse"]),
    }
    if path in NUMBERS:
        parts |= {"min": st.sampled_from([0.5, 1, 2]), "max": st.sampled_from([2, 1000, 3000])}
    open_rule = st.fixed_dictionaries({}, optional=parts)
    locked = st.fixed_dictionaries({"lock": value}, optional={"otherwise": parts["otherwise"]})
    return st.one_of(open_rule, locked)


def value_of(path, schema):  # noqa: C901, PLR0911, PLR0912 - one case a kind
    match schema["x-inherit"]:
        case "tightest":
            return st.sampled_from(schema["enum"])
        case "all":
            return st.booleans()
        case "smallest" | "smallest_but_zero" | "last" if schema["type"] == "integer":
            return st.integers(schema["minimum"], schema["maximum"])
        case "smallest":
            return st.sampled_from([schema["minimum"], 0.5, 2, schema["maximum"]])
        case "last":
            return st.booleans()
        case "first":
            return st.sampled_from(["one", "two"])
        case "common_keys" | "first_of_each":
            return st.dictionaries(st.sampled_from("abc"), st.sampled_from(["one", "two"]), max_size=3)
        case "common" | "union" if "enum" in schema["items"]:
            return st.lists(st.sampled_from(schema["items"]["enum"][:5]), unique=True, max_size=4)
        case "common":
            return st.lists(st.sampled_from(["north", "south", "west"]), unique=True, min_size=1)
        case "union" if path == "tools.admin":
            tools = [{"type": "function", "name": name, "description": words} for name in "fg" for words in ("1", "2")]
            return st.lists(st.sampled_from(tools), unique_by=lambda tool: tool["name"], max_size=2)
        case "union":
            return st.lists(st.sampled_from(["canary-1", "canary-2", "canary-3"]), unique=True)
        case "common_names":
            tools = [{"name": name, "definition": {"description": words}} for name in "fgh" for words in ("1", "2")]
            return st.lists(st.sampled_from(tools), unique_by=lambda tool: tool["name"], max_size=3)
        case "joined":
            return st.sampled_from(["Be kind.", "Be brief."])
        case "session":
            fields = st.fixed_dictionaries({}, optional={name: rules_of(name) for name in VALUES})
            words = st.sampled_from(["allow", "strip", "refuse"])
            return st.fixed_dictionaries({}, optional={"default": words, "fields": fields})
    raise AssertionError(path)


def nested(flat):
    spec = {}
    for path, value in flat.items():
        *parents, leaf = path.split(".")
        place = spec
        for parent in parents:
            place = place.setdefault(parent, {})
        place[leaf] = value
    return spec


SPECS = st.fixed_dictionaries(
    {}, optional={path: value_of(path, LEAVES[path]) for path in LEAVES if path != "instructions.file"}
).map(nested)


def document(name, spec, *extends):
    data = {"apiVersion": "relay/v1", "kind": "SessionPolicy", "metadata": {"name": name}}
    found, problems = read_document(data | {"spec": spec | {"extends": list(extends)}})
    assert not problems, problems
    return found


def effective(documents, name):
    identity, request = Identity(), PolicyRequest("a")
    try:
        return resolve_document(documents, name, identity, request, ServiceDefaults("rt", "tr")).policy
    except Unresolved:
        assume(False)


@settings(max_examples=60, deadline=None, suppress_health_check=SLOW)
@given(SPECS, SPECS, SPECS)
def test_it_does_not_matter_in_which_order_documents_are_combined(one, two, three):
    a, b, c = (said_by(spec, name) for spec, name in ((one, "a"), (two, "b"), (three, "c")))
    left, right = without_order(meet(meet(a, b), c)), without_order(meet(a, meet(b, c)))
    assert left[:2] == right[:2]
    assert left[2].keys() == right[2].keys()
    for path, rule in left[2].items():
        other = right[2][path]
        # Locks that contradict each other, or what is listed beside them: nobody chooses; which value stands is order.
        assert rule == other or (closed(rule) and closed(other) and not ("lock" in rule and "lock" in other)), path


def closed(rule):
    """Whether nobody may choose."""
    return "lock" in rule or rule.get("allow") == []


def without_order(said):
    """What is said, without what depends on what stands below: defaults, members, models that nobody granted yet."""
    session = said.get("session", {})
    paths = [path for path in session.get("fields", {}) if not path.startswith("audio.input.turn_detection")]
    rules = {path: freedom(rule_of(session, path)) for path in paths}
    rest = {path: value for path, value in said.items() if path not in ("session", "upstream.models")}
    return rest, session.get("default"), rules


@settings(max_examples=60, deadline=None, suppress_health_check=SLOW)
@given(SPECS, SPECS)
def test_a_document_combined_with_itself_says_what_it_says(one, two):
    said = completed(said_by(one, "a"))
    once = meet(said, said_by(two, "b"))
    assert meet(once, once) == once
    assert meet(once, said_by(two, "b")) == once


STRICTNESS = {"allow": 0, "strip": 1, "refuse": 2}


@settings(max_examples=60, deadline=None, suppress_health_check=SLOW)
@given(SPECS, SPECS)
def test_a_child_allows_nothing_that_its_base_does_not(base, child):
    documents = [document("base", base), document("child", child, "base")]
    parent, kid = effective(documents, "base"), effective(documents, "child")
    words = list(LEAVES["instructions.client"]["enum"])
    assert words.index(kid.instructions.client) >= words.index(parent.instructions.client)
    assert kid.instructions.text.startswith(parent.instructions.text)
    assert kid.instructions.client_max_chars <= parent.instructions.client_max_chars
    assert set(kid.models.map.items()) <= set(parent.models.map.items()) or not base.get("upstream", {}).get("models")
    assert (
        kid.deployment == parent.deployment
        or "default" not in base.get("upstream", {})
        or kid.models.map != parent.models.map
    )
    for region, deployment in itertools.product(("north", "south", "west", None), repeat=2):
        assert parent.residency.allows(region, str(deployment)) >= kid.residency.allows(region, str(deployment))
    assert STRICTNESS[kid.fields_default] >= STRICTNESS[parent.fields_default]
    assert STRICTNESS[kid.responses.overrides] >= STRICTNESS[parent.responses.overrides]
    assert kid.responses.fields <= parent.responses.fields
    assert kid.responses.out_of_band <= parent.responses.out_of_band
    assert kid.responses.max_in_flight <= parent.responses.max_in_flight
    assert (kid.responses.max_output_tokens or 9999) <= (parent.responses.max_output_tokens or 9999)
    assert kid.items.allow <= parent.items.allow
    for name in ("history_import", "retrieve", "delete", "truncate", "insert_first", "remote_images"):
        assert getattr(kid.items, name) <= getattr(parent.items, name)
    assert kid.items.max_text_chars <= parent.items.max_text_chars
    assert set(map(repr, parent.tools.admin)) <= set(map(repr, kid.tools.admin))
    assert STRICTNESS[kid.tools.client_functions] >= STRICTNESS[parent.tools.client_functions]
    if parent.tools.client_functions != "allow":
        assert set(map(repr, kid.tools.client)) <= set(map(repr, parent.tools.client))
    for name in ("client", "server"):
        if (most := getattr(parent.events, name)) is not None:
            assert getattr(kid.events, name) <= most
    assert kid.events.hide_fields >= parent.events.hide_fields
    assert kid.events.pass_unknown <= parent.events.pass_unknown
    for name in ("session_seconds", "idle_seconds", "events_per_second"):
        if (most := getattr(parent.limits, name)) is not None:
            assert getattr(kid.limits, name) <= most
    for name in ("sessions", "minutes", "tokens", "dollars"):
        above, below = getattr(parent.limits.allowance, name), getattr(kid.limits.allowance, name)
        for scope in above.scopes:
            assert 0 < below.of(scope) <= above.of(scope)
    assert set(kid.canary.words) >= set(parent.canary.words)
    assert ["disabled", "audit", "enforce"].index(kid.mode) >= ["disabled", "audit", "enforce"].index(parent.mode)
    assert ["fail_open", "fail_closed"].index(kid.on_sink_failure) >= ["fail_open", "fail_closed"].index(
        parent.on_sink_failure
    )


def wish_of(path, value):
    session = value
    for part in reversed(path.split(".")):
        session = {part: session}
    return {"type": "realtime", **session}


def got(policy, path, value):
    """What the engine lets a client have of one value; None for nothing."""
    try:
        fields = judge_wish(policy, wish_of(path, value), Dialect.GA).fields
    except ConfigRefusal:
        return None
    for part in path.split("."):
        fields = fields.get(part) if isinstance(fields, dict) else None
    return fields


@settings(max_examples=25, deadline=None, suppress_health_check=SLOW)
@given(SPECS, SPECS, st.sampled_from(sorted(set(VALUES) - set(INNER_FIELDS))), st.data())
def test_the_engine_lets_no_client_of_a_child_have_what_its_base_denies(base, child, path, data):
    value = data.draw(st.sampled_from(VALUES[path]))
    documents = [document("base", base), document("child", child, "base")]
    had = got(effective(documents, "child"), path, value)
    if had is not None:
        assert got(effective(documents, "base"), path, had) == had


@given(st.sampled_from(sorted(VALUES)), st.data())
def test_two_rules_permit_what_both_permit(path, data):
    one, two = normal(data.draw(rules_of(path))), normal(data.draw(rules_of(path)))
    met = meet_rules(one, two)
    for value in VALUES[path]:
        assert permits(met, value) <= permits(one, value)
        if "lock" not in one and met.get("allow") != []:
            assert permits(met, value) == (permits(one, value) and permits(two, value))
    rule = field_rule(met)
    if rule.has_default:
        assert permits(met, rule.default)
        assert permits(normal(one), rule.default)


@pytest.mark.parametrize(
    ("base", "child", "met"),
    [
        ({"lock": "a"}, {"lock": "b"}, {"lock": "a"}),
        ({"lock": "a"}, {"allow": ["b"], "default": "b"}, {"lock": "a"}),
        ({"allow": ["a", "b"]}, {"lock": "a"}, {"lock": "a"}),
        ({"allow": ["a", "b"]}, {"lock": "c"}, {"allow": []}),
        ({"allow": ["a", "b"], "default": "a"}, {"allow": ["b", "c"]}, {"allow": ["b"], "default": "b"}),
        ({"min": 1, "max": 9}, {"min": 0, "max": 5}, {"min": 1, "max": 5}),
        ({"max": 9}, {"lock": 10}, {"max": 9, "allow": []}),
        ({"max": 9}, {"lock": "inf"}, {"max": 9, "allow": []}),
        ({"default": 8, "max": 15}, {"allow": []}, {"default": 8, "max": 15, "allow": []}),
        ({"default": 8, "max": 15}, {"allow": [], "max": 6}, {"default": 6, "max": 6, "allow": []}),
        ({"default": 8, "max": 15}, {"min": 20}, {"default": 8, "max": 15, "allow": []}),
        ({"default": 8, "max": 15, "allow": []}, {"max": 5}, {"default": 8, "max": 15, "allow": []}),
        ({"default": 8, "max": 15}, {"default": 40}, {"default": 8, "max": 15}),
        ({"default": 8, "max": 15}, {"max": 5}, {"default": 5, "max": 5}),
        ({"default": "a", "allow": ["a", "b"]}, {"default": "c"}, {"default": "a", "allow": ["a", "b"]}),
        ({"allow": [500, "inf"]}, {"max": 1000}, {"allow": [500], "max": 1000}),
        ({"allow": []}, {"default": "a"}, {"allow": []}),
        ({"default": None, "allow": [None, 1]}, {"allow": [None]}, {"default": None, "allow": [None]}),
        ({"otherwise": "refuse"}, {"allow": ["a"], "otherwise": "strip"}, {"allow": ["a"], "otherwise": "refuse"}),
        ({}, {"default": "a"}, {"default": "a"}),
        ({"default": "b"}, {"default": "a"}, {"default": "a"}),
        ({"lock": 1}, {"lock": True}, {"lock": 1}),
        ({"allow": [1]}, {"lock": True}, {"allow": []}),
    ],
)
def test_how_two_rules_combine(base, child, met):
    assert meet_rules(base, child) == met


def minted(policy):
    session = compose_service_session(policy, None, Dialect.GA, Dialect.GA)
    paths = [*VALUES, INSIDE, f"{WHOLE}.threshold"]
    return {path: found for path in paths if (found := at(session, path)) is not ABSENT}


ABSENT = object()


def at(session, path):
    for part in path.split("."):
        session = session.get(part, ABSENT) if isinstance(session, dict) else ABSENT
    return session


INSIDE = "audio.input.turn_detection.create_response"
WHOLE = "audio.input.turn_detection"
DETECTIONS = [None, {"type": "server_vad"}, *({"type": kind, "create_response": flag}
              for kind in ("server_vad", "semantic_vad") for flag in (True, False))]  # fmt: skip


def detection_rules(values):
    value = st.sampled_from(values)
    parts = {"default": value, "allow": st.lists(value, max_size=3, unique_by=repr)}
    return st.one_of(st.fixed_dictionaries({}, optional=parts), st.fixed_dictionaries({"lock": value}))


FIELDS = st.fixed_dictionaries(
    {},
    optional={
        **{path: rules_of(path) for path in VALUES if not path.startswith(WHOLE)},
        WHOLE: detection_rules(DETECTIONS),
        INSIDE: detection_rules([True, False]),
        f"{WHOLE}.threshold": st.sampled_from([{"max": 0.5}, {"min": 0.6, "max": 0.8, "default": 0.7}, {"lock": 0.2}]),
    },
)
SESSIONS = st.fixed_dictionaries(
    {}, optional={"default": st.sampled_from(["allow", "strip", "refuse"]), "fields": FIELDS}
)


@settings(max_examples=200, deadline=None, suppress_health_check=SLOW)
@given(SESSIONS, SESSIONS)
def test_what_a_child_sets_without_any_wish_lies_within_the_rule_of_its_base(base, child):
    documents = [document("base", {"session": base}), document("child", {"session": child}, "base")]
    said = merged(documents, "base")[0]["session"]
    had, has = minted(effective(documents, "base")), minted(effective(documents, "child"))
    assert {path for path in had if not (path.startswith(f"{WHOLE}.") and has[WHOLE] is None)} <= has.keys()
    for path, value in has.items():
        assert permits(rule_of(said, path), value) or same(value, had.get(path, ABSENT)), path


def test_a_default_that_bases_do_not_allow_gives_way_to_a_value_they_do():
    assert field_rule({"allow": ["b"], "default": "a"}).default == "b"
    assert field_rule({"max": 1, "default": 2}).default == 1
    assert not field_rule({"min": 3, "max": 1, "default": 2}).has_default


def test_what_default_means_for_a_field_that_no_rule_names():
    assert rule_of({}, OPEN_FIELDS[0]) == {}
    assert rule_of({"default": "allow"}, OPEN_FIELDS[0]) == {}
    assert rule_of({"default": "allow"}, CLOSED_FIELDS[0]) == {"allow": []}
    assert rule_of({"default": "refuse"}, OPEN_FIELDS[0]) == {"allow": [], "otherwise": "refuse"}


def test_a_rule_for_a_member_does_not_open_what_a_base_closes():
    documents = [
        document("base", {"session": {"default": "strip"}}),
        document(
            "child", {"session": {"fields": {"audio.input.turn_detection.type": {"allow": ["server_vad"]}}}}, "base"
        ),
    ]
    policy = effective(documents, "child")
    assert got(policy, "audio.input.turn_detection", {"type": "server_vad"}) is None


def test_the_tools_of_a_child_are_those_that_its_base_lists():
    one = {"name": "f", "definition": {"description": "base"}}
    documents = [
        document("base", {"tools": {"client": [one]}}),
        document(
            "child",
            {"tools": {"client": [{**one, "definition": {"description": "kid"}}, {**one, "name": "g"}]}},
            "base",
        ),
        document("strict", {"tools": {"clientFunctions": "refuse"}}, "base"),
    ]
    tools = effective(documents, "child").tools
    assert [(tool.name, tool.definition["description"]) for tool in tools.client] == [("f", "base")]
    assert tools.client_functions == "strip"
    assert effective(documents, "strict").tools.client == ()


def test_instructions_are_joined_base_first_each_once():
    documents = [
        document("top", {"instructions": {"text": "Top."}}),
        document("left", {"instructions": {"text": "Left."}}, "top"),
        document("right", {}, "top"),
        document("leaf", {"instructions": {"text": "Leaf."}}, "left", "right"),
    ]
    said, chain = merged(documents, "leaf")
    assert chain == ("top", "left", "right", "leaf")
    assert effective(documents, "leaf").instructions.text == "Top.\n\nLeft.\n\nLeaf."
    assert said["instructions.text"] == [["top", "Top."], ["left", "Left."], ["leaf", "Leaf."]]


def test_circles_unknown_bases_and_long_chains_are_refused():
    with pytest.raises(Unresolved, match="a extends b extends a: a circle"):
        merged([document("a", {}, "b"), document("b", {}, "a")], "a")
    with pytest.raises(Unresolved, match="a extends b: unknown"):
        merged([document("a", {}, "b")], "a")
    names = [f"d{number}" for number in range(EXTENDS_MAX_DEPTH + 2)]
    chain = [document(name, {}, *names[index + 1 : index + 2]) for index, name in enumerate(names)]
    with pytest.raises(Unresolved, match="through more than"):
        merged(chain, "d0")
    merged(chain, "d2")


@settings(max_examples=60, deadline=None, suppress_health_check=SLOW)
@given(SPECS, SPECS)
def test_lint_judges_any_document_and_what_it_finds_no_fault_with_holds_as_written(base, child):
    documents = [document("base", base), document("child", child, "base")]
    assert all(str(problem) for problem in lint(documents))
    above, below = merged(documents, "base")[0], said_by(documents[1].spec, "child")
    at_fault = {path for path, _ in loosened(above, below)}
    both = merged(documents, "child")[0]
    for path, value in below.items():
        if LEAVES[path]["x-inherit"] in {"tightest", "all", "smallest", "first"} and path not in at_fault:
            assert both[path] == value
        if LEAVES[path]["x-inherit"] == "common" and path not in at_fault:
            assert set(both[path]) == set(value)
