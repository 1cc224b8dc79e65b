"""Events that would be dear to judge are refused before they are: by what they are, not by a clock."""

from __future__ import annotations

import json

import pytest
from vectors.case import p0, update
from vectors.test_live import started

from relay.core import tool_rules
from relay.core.ephemeral_keys import Begun, EphemeralKeys, Grant
from relay.core.event_actions import ToClient
from relay.core.lifecycle import Dialect, SessionLimits
from relay.core.policy_rules import ClientTool, Strictness
from relay.rtc.bridge import Bridge

MANY = {f"k{number}": 1 for number in range(100)}


@pytest.mark.parametrize("session", [MANY, {"audio": MANY}, {"audio": {"input": MANY}}, {"audio": {"output": MANY}}])
def test_a_session_of_more_members_than_any_has_is_refused_whole(session) -> None:
    run = started()
    run.take(update(**session, max_output_tokens=7))
    assert (run.up, [event["error"]["code"] for event in run.down]) == ([], ["invalid_value"])
    assert run.judged[0].rule == "session.fields"


def test_a_few_unknown_members_are_dropped_as_ever() -> None:
    run = started()
    run.take(update(**dict(list(MANY.items())[:30]), max_output_tokens=7))
    assert run.up[0]["session"] == {"type": "realtime", "max_output_tokens": 7}


def test_a_list_of_more_functions_than_any_session_has_is_refused_unread(monkeypatch) -> None:
    listed = p0(tools={"client": (ClientTool("f", None, "sha256:00"),), "client_functions": Strictness.STRIP})
    hashed = []
    monkeypatch.setattr(tool_rules, "schema_hash", lambda function: hashed.append(function) or "")
    function = {"type": "function", "name": "f"}
    run = started(listed)
    run.take(update(tools=[function] * 129))
    assert (run.up, hashed, run.down[0]["error"]["param"]) == ([], [], "session.tools")
    run.take(update(tools=[function] * 128))
    assert len(hashed) == 128


def test_a_key_that_waits_holds_the_bytes_that_are_counted() -> None:
    keys = EphemeralKeys()
    wish = {"x": [{} for _ in range(100)]}
    minted = keys.mint(b"x" * 32, Grant(Dialect.GA, None, wish, "me", len(json.dumps(wish))), 0.0, 60)
    [key] = keys._keys.values()
    assert (key.grant.client_session, json.loads(key.wish)) == (None, wish)
    match keys.begin(minted.value, "offer", 1.0):
        case Begun(grant):
            assert grant.client_session == wish
        case other:
            raise AssertionError(other)


class Quiet:
    """A bridge's listener, and the filter's place in it."""

    def __init__(self) -> None:
        self.read, self.refused, self.ended = 0, 0, []

    def client_event(self, _text):
        self.read += 1
        return []

    def client_over_rate(self):
        self.refused += 1
        return [ToClient("{}")]

    def tell(self, fact):
        self.told = fact

    def on_first_audio(self, leg):
        raise AssertionError(leg)

    def end(self, reason, detail=""):
        self.ended.append(reason)


def test_bytes_of_a_client_have_a_rate_of_their_own() -> None:
    """In the burst every event is read, then none until the bucket fills; how many there are does not matter."""
    quiet = Quiet()
    limits = SessionLimits(client_bytes_per_second=1, client_burst_bytes=100_000)
    bridge = Bridge(quiet, limits, quiet)
    for _ in range(15):
        bridge.on_text("downstream", "x" * 10_000)
    assert (quiet.read, quiet.refused, quiet.ended) == (10, 5, [])


def test_the_default_lets_pass_what_clients_send() -> None:
    """An image as large as an event may be, at once, and sound as base64 for as long as one likes."""
    limits = SessionLimits()
    assert limits.client_burst_bytes >= 2 * 262_144
    assert limits.client_bytes_per_second > 24_000 * 2 * 4 / 3


def test_what_does_not_go_up_does_not_keep_a_session_from_being_idle(monkeypatch) -> None:
    run = started()
    bridge = Bridge(run.filter, SessionLimits(), Quiet())
    before = bridge.last_event
    monkeypatch.setattr("relay.rtc.bridge.time.monotonic", lambda: before + 60)
    bridge.on_text("downstream", update(instructions="x").text)
    assert bridge.last_event == before
