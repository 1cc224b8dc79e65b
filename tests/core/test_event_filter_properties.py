from __future__ import annotations

import json

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from relay.core.event_actions import ToClient, ToService
from relay.core.events import CLIENT_EVENT_TYPES, SERVER_EVENT_TYPES
from relay.core.lifecycle import Dialect

CANARY = "zebra-quilt-marzipan-0451"
POLICY = f"Speak of nothing but gardens. The pass phrase is {CANARY}. Be brief."
DEPLOYMENTS = ("contoso-rt", "contoso-transcribe")

# Two slow shared cores: no deadlines, few and small examples.
quick = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])

scalars = st.none() | st.booleans() | st.integers(-5, 5000) | st.floats(-2, 2) | st.text(max_size=6)
words = st.sampled_from(
    [
        "type",
        "realtime",
        "message",
        "user",
        "system",
        "assistant",
        "function",
        "mcp",
        "server_vad",
        "semantic_vad",
        "none",
        "auto",
        "inf",
        "text",
        "audio",
        "input_text",
        "item_1",
        "root",
        "instructions",
        "x",
        "function_call_output",
        "call_1",
        "item_reference",
        "output_text",
        "item.input_audio_transcription.logprobs",
        POLICY,
        CANARY,
    ]
)
names = st.sampled_from(
    [
        "instructions",
        "type",
        "audio",
        "input",
        "output",
        "turn_detection",
        "transcription",
        "voice",
        "speed",
        "tools",
        "model",
        "tool_choice",
        "prompt",
        "modalities",
        "output_modalities",
        "max_output_tokens",
        "content",
        "role",
        "item",
        "id",
        "text",
        "name",
        "metadata",
        "conversation",
        "session",
        "response",
        "call_id",
        "item_id",
        "previous_item_id",
        "include",
        "tracing",
        "parameters",
        "description",
        "threshold",
        "create_response",
        "noise_reduction",
        "input_audio_transcription",
        "audio_end_ms",
        "content_index",
        "response_id",
        "language",
        "languages",
        "truncation",
        "error",
        "message",
        "code",
        "param",
        "max_response_output_tokens",
        "turn_detection.type",
        "part",
        "event_id",
        "status_details",
        "foo",
    ]
)
values = st.recursive(
    scalars | words,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(names, inner, max_size=3),
    max_leaves=8,
)
objects = st.dictionaries(names, values, max_size=4)
dialects = st.sampled_from(list(Dialect))


# Most of what is drawn at random is refused; these are not, so that something goes up.
legal = st.sampled_from([{}, {"audio": {"output": {"speed": 1.2}}}, {"max_output_tokens": 7}, {"metadata": {"a": "b"}}])
session_wishes = st.one_of(
    st.builds(lambda fields, text: {**fields, "instructions": text}, legal, words),
    st.builds(lambda fields, more: {"type": "realtime", **fields, **more}, legal, objects),
)
targeted = st.one_of(
    st.builds(lambda session: {"type": "session.update", "session": session}, session_wishes),
    st.builds(lambda response: {"type": "response.create", "response": response}, session_wishes),
    st.builds(lambda item: {"type": "conversation.item.create", "item": item}, objects),
)
untargeted = st.builds(
    lambda fields, name: {**fields, "type": name}, objects, st.sampled_from(sorted(CLIENT_EVENT_TYPES)) | words
)
client_events = st.builds(lambda event, event_id: {**event, "event_id": event_id}, targeted | untargeted, scalars)


@st.composite
def server_events(draw):
    fields = draw(objects)
    for name in ("session", "response", "item", "error"):
        if draw(st.booleans()):
            fields[name] = draw(objects)
    return {**fields, "type": draw(st.sampled_from(sorted(SERVER_EVENT_TYPES)) | words)}


def instructions_within(value):
    """Every value under the name `instructions`, except inside the free JSON Schema of a tool."""
    if isinstance(value, list):
        for entry in value:
            yield from instructions_within(entry)
    elif isinstance(value, dict):
        for name, entry in value.items():
            if name == "instructions":
                yield entry
            if name != "parameters":
                yield from instructions_within(entry)


def without_canary(value):
    """A client does not know the policy: only then is its text upstream a sign of mixing."""
    text = json.dumps(value).replace(json.dumps(POLICY), '"p"').replace(CANARY, "c")
    return json.loads(text)


@quick
@given(
    st.lists(st.tuples(st.booleans(), client_events, server_events()), max_size=4), dialects, dialects, st.booleans()
)
def test_the_policy_never_rides_with_client_material(new_talk, steps, dialect, service, repair) -> None:
    talk = new_talk(dialect, service, instructions=POLICY)
    actions = []
    actions += talk.filter.client_event(json.dumps(without_canary(steps[0][1]))) if steps else []
    actions += talk.created(**({"instructions": "other"} if repair else {})).actions
    actions += talk.updated().actions if repair else []
    for from_client, mine, theirs in steps:
        if from_client:
            actions += talk.filter.client_event(json.dumps(without_canary(mine)))
        else:
            actions += talk.filter.server_event(json.dumps(theirs), 1000.0)
    own = {"instructions": POLICY} if service is Dialect.PREVIEW else {"type": "realtime", "instructions": POLICY}
    for action in actions:
        if not isinstance(action, ToService):
            continue
        event = json.loads(action.text)
        if "session" in event and "instructions" in event["session"]:
            assert event["session"] == own
        else:
            assert CANARY not in action.text
            assert list(instructions_within(event.get("session"))) == []
            assert "instructions" not in event.get("response", {})
        assert event["event_id"].startswith("event_")
        assert event["type"] in CLIENT_EVENT_TYPES


@quick
@given(
    st.sampled_from(["session.created", "session.updated"]),
    objects,
    st.text(max_size=30),
    st.text(max_size=30),
    dialects,
    dialects,
    st.booleans(),
)
def test_no_echo_shows_the_policy_or_a_deployment(
    new_talk, kind, extra, before, after, dialect, service, confirmed
) -> None:
    talk = new_talk(dialect, service, instructions=POLICY)
    outs = [talk.created()] if confirmed else []
    session = {name: value for name, value in without_canary(extra).items() if name != "tools"}
    hidden = {"prompt": {"id": CANARY}, "tracing": {"x": CANARY}, "unknown": [CANARY], "tool_choice": POLICY}
    outs.append(talk.server({"type": kind, "event_id": "s", "session": talk.session(**session) | hidden}))
    error = {"type": "x", "message": f"{before}{CANARY}{after}", "code": "c", "param": before, "event_id": None}
    outs.append(talk.server({"type": "error", "event_id": "s", "error": error}))
    error["message"] = f"{before} {POLICY[10:60]} {after} contoso-rt"
    outs.append(talk.server({"type": "error", "event_id": "s", "error": error}))
    outs.append(talk.updated())
    for out in outs:
        for action in out.actions:
            if isinstance(action, ToClient):
                assert CANARY not in action.text
                assert POLICY[10:60] not in action.text
                assert not any(name in action.text for name in DEPLOYMENTS)
                assert "sess_upstream" not in action.text


@quick
@given(
    st.lists(st.tuples(st.booleans(), st.text(max_size=60) | client_events | server_events()), max_size=8),
    dialects,
    dialects,
)
def test_no_sequence_of_texts_raises_and_each_is_judged_once(new_talk, steps, dialect, service) -> None:
    talk = new_talk(dialect, service, instructions=POLICY)
    talk.created()
    waiting = 0
    for from_client, event in steps:
        out = talk.client(event) if from_client else talk.server(event)
        if out.end is not None:
            return
        waiting += 1 - len(out.judged)
        # A client's event waits while the policy is found not to be in force; all that waited are judged together.
        assert waiting == 0 or (waiting > 0 and (from_client or len(out.judged) == 1))
        assert not out.judged or out.actions[0] is out.judged[0]
        for judged in out.judged:
            assert judged.event_type in CLIENT_EVENT_TYPES | SERVER_EVENT_TYPES | {"other"}


@quick
@given(client_events)
def test_judging_does_not_change_the_event(open_talk, event) -> None:
    talk = open_talk()
    before = json.dumps(event)
    talk.client(event)
    assert json.dumps(event) == before
