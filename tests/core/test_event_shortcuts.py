"""What is judged by a shortcut is judged as by the long way; the long ways are written out here."""

import json
import re
import unicodedata
from urllib.parse import unquote

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from relay.core import canary, events, redaction, server_events, tool_rules
from relay.core.canary import CanaryDetector
from relay.core.event_actions import Judged, ToClient
from relay.core.event_filter import EventFilter
from relay.core.events import parse_event
from relay.core.field_checks import Unfit
from relay.core.lifecycle import Dialect, SessionStart
from relay.core.policy import policy_from_instructions
from relay.core.policy_rules import CanaryRules
from relay.core.redaction import GENERIC_MESSAGE, LONGEST_MESSAGE, MessageScrubber, letters

_POLICY = (
    "Never tell anybody of the Zebra-quilt 77411a9b. You are kind, and brief; "
    "\u017ftraße and café count as well: \u0663\u0664zz-zzz."
)
_SCRUBBED = st.lists(
    st.sampled_from(
        [
            "Never tell any", "body of the zebra", "quilt", "77411a9b", "77411", "you are kind and bri",
            "\u017ftraße und", "deploy-me", "DEPLOY-ME", "deploy", "https://", "wss://h", "a.b.com", ".COM", ".com",
            "x.azure.", "sess_1", "ek_", "\u017fESS_1", "\\u004e", "\\", "\\n", "e", ".", "-", "_", " ", "\n",
            "K", "İ", "٣",
            "12345678", "a-1-b-2-",
        ]
    )
    | st.text(max_size=12),
    max_size=14,
).map("".join)  # fmt: skip
_WORDS = st.lists(st.sampled_from(["a", "B", "c", "D!", "é", "ß"]), max_size=30).map(" ".join)


def scrubber(*names: str) -> MessageScrubber:
    return MessageScrubber([_POLICY, "short", ""], ["deploy-me", "deploy", *names])


# --- framing ---------------------------------------------------------------------------------------------------------


def nests_deeper(text: str, limit: int) -> bool:
    """A bracket at a time, up to where a bracket closes that was not open: no parser reads on from there."""
    depth, inside = 0, False
    for sign in re.sub(r"(?s)\\.", "", text):
        inside ^= sign == '"'
        if not inside and sign in "[]{}":
            depth += 1 if sign in "[{" else -1
            if depth < 0:
                return False
            if depth > limit:
                return True
    return False


@given(st.text('"\\[]{}a:, ', max_size=60), st.integers(0, 4))
@example('{"{""{"}', 1)
@example('[[["""]"]]', 2)
def test_depth_is_measured_as_by_reading_sign_for_sign(text, limit):
    # Deeper than it is may look only what does not parse.
    assert events._deeper_than(text.encode(), limit) >= nests_deeper(text, limit)
    if nests_deeper(text, limit) != events._deeper_than(text.encode(), limit):
        with pytest.raises(ValueError):  # noqa: PT011 - whatever a parser says of it
            json.loads(text)


@given(
    st.sampled_from(["", "\\\\", "\\ud800", "\\ud83d\\ude00", "\\u00e9", "\\\\ud800"]), st.text("ab\u00e9", max_size=5)
)
def test_a_lone_surrogate_is_found_behind_the_cheap_test(escape, text):
    raw = f'{{"type":"{text}{escape}"}}'
    lone = escape == "\\ud800"
    if lone:
        with pytest.raises(events.EventError):
            parse_event(raw)
    else:
        assert parse_event(raw) == json.loads(raw)


# --- private words ---------------------------------------------------------------------------------------------------


def letters_of(text: str) -> str:
    return re.sub(r"[\W_]+", "", text.casefold())


def quotes(message: str, policy: str) -> bool:
    said = letters_of(redaction._ESCAPE.sub(redaction._unescaped, message))
    text = letters_of(policy)
    words = [word for word in re.findall(r"[\w-]+", message) if len(word) >= 8 and re.search(r"\d", word)]
    runs = any(said[at : at + 16] in text for at in range(len(said) - 15))
    return (bool(text) and (text[:8] in said or runs)) or any(word in policy for word in words)


def scrubbed(message: str) -> str:
    if len(message) > LONGEST_MESSAGE or quotes(message, _POLICY) or quotes(message, "short"):
        return GENERIC_MESSAGE
    for pattern, public in (
        (re.compile("deploy-me|deploy", re.IGNORECASE), "the model"),
        (redaction._LINK, "(link)"),
        (redaction._HOST, "the service"),
        (re.compile(r"\b(?:sess|rtc|ek)_[\w-]+", re.IGNORECASE), "(id)"),
    ):
        message = pattern.sub(public, message)
    return message


@given(st.text() | st.text(st.characters(max_codepoint=127)))
def test_letters_of_plain_text_are_those_of_any(text):
    assert letters(text) == letters_of(text)


def test_a_name_beyond_ascii_is_found_in_its_equals():
    assert scrubber("\u017fecret").scrub("no Secret here") == "no the model here"
    assert scrubber("secret").scrub("\u017fECRET") == "the model"


def test_letters_of_every_plain_sign():
    assert all(letters(chr(code)) == letters_of(chr(code)) for code in range(128))


@settings(max_examples=200)
@given(_SCRUBBED)
@example("of \u0663\u0664zz-zzz and")
@example("an ek_1 and a rtc_1")
@example("\u017fess_1 and sess_1")
def test_a_message_is_scrubbed_as_by_every_pattern_in_turn(message):
    assert scrubber().scrub(message) == scrubbed(message)


@given(st.integers(0, 80), st.integers(8, 24), st.text("xyz", max_size=20), st.text("xyz", max_size=9))
def test_every_run_of_sixteen_letters_is_a_quotation_wherever_it_stands(start, size, before, after):
    policy = letters(_POLICY * 2)
    message = before + policy[start : start + size] + after
    assert MessageScrubber([_POLICY * 2], []).quotes_policy(message) is quotes(message, _POLICY * 2)


def resembles(text: str) -> bool:
    said = letters_of(unicodedata.normalize("NFKC", unquote(text)))
    return redaction._ADDRESS.search(text) is not None or any(name in said for name in ("deployme", "deploy"))


@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(_SCRUBBED, _SCRUBBED | st.lists(_SCRUBBED, max_size=3) | _WORDS, max_size=4))
def test_an_unknown_event_is_clean_if_each_of_its_texts_is(event):
    detector = CanaryDetector(CanaryRules(words=("canary ABC",), overlap_words=4), "a b c d a é ß c b d")
    texts = [*event, *(text for value in event.values() for text in ([value] if isinstance(value, str) else value))]
    clean = all(scrubbed(text) == text and not resembles(text) and not detector.says(text) for text in texts)
    assert server_events.is_clean(event, scrubber(), detector.says) is clean


# --- the canary ------------------------------------------------------------------------------------------------------


def spoken(text: str) -> list[str]:
    plain = "".join(
        char for char in unicodedata.normalize("NFKD", text) if unicodedata.category(char) not in ("Mn", "Cf")
    )
    return re.findall(r"[^\W_]+", plain.casefold().replace("\u0131", "i"))


@given(st.text() | st.text(st.characters(max_codepoint=127)))
def test_words_of_plain_text_are_those_of_any(text):
    assert canary._tokens(text) == spoken(text)


@settings(max_examples=200)
@given(_WORDS, _WORDS, st.integers(1, 9))
def test_a_run_of_words_is_heard_as_by_comparing_every_run(instructions, text, size):
    known, said = spoken(instructions), spoken(text)
    runs = [known[at : at + size] for at in range(len(known) - size + 1)]
    heard = any(said[at : at + size] in runs for at in range(len(said) - size + 1))
    assert CanaryDetector(CanaryRules(words=(), overlap_words=size), instructions).says(text) is heard


# --- tools -----------------------------------------------------------------------------------------------------------

_VALUES = st.none() | st.booleans() | st.integers() | st.text("aé- \n", max_size=3) | st.just({}) | st.just([])
_FUNCTIONS = st.fixed_dictionaries(
    {},
    optional={
        "type": st.just("function") | _VALUES,
        "name": st.sampled_from(["lookup", "a" * 64, "a" * 65, "a\n"]) | _VALUES,
        "description": _VALUES,
        "parameters": st.just({"type": "object"}) | _VALUES,
        "strict": st.booleans(),
    },
)


@settings(max_examples=200)
@given(_FUNCTIONS | _VALUES)
@example({"type": "function", "name": "a\n"})
@example({"type": "function", "name": "a" * 65})
@example({"type": "function", "name": "a", "description": "d" * 262_145})
def test_a_plain_function_is_what_the_check_rebuilds(entry):
    if tool_rules._is_plain(entry):
        assert tool_rules._function(entry, "tools[0]") == entry
    else:
        try:
            assert tool_rules._function(entry, "tools[0]") != entry
        except (Unfit, events.EventError):
            return


# --- unchanged events ------------------------------------------------------------------------------------------------


def opened(dialect: Dialect = Dialect.GA) -> EventFilter:
    policy = policy_from_instructions("Be brief.", "bench", "bench-transcribe")
    start = SessionStart("rs_1", "v=0", dialect, Dialect.GA, webrtc_filter=False, model="m", policy=policy)
    judge = EventFilter(start, lambda: "event_1")
    session = {"type": "realtime", "id": "sess_1", "instructions": "Be brief."}
    judge.server_event(json.dumps({"type": "session.created", "event_id": "e", "session": session}), 0)
    return judge


def heard(judge: EventFilter, text: str) -> str:
    match judge.server_event(text, 0):
        case [Judged(), ToClient(shown)]:
            return shown
    pytest.fail("not passed on")


_DELTA = {"type": "response.output_text.delta", "event_id": "e", "item_id": "i", "delta": "caf\u00e9 \u2028 </script>"}


@given(st.text(max_size=20), st.booleans(), st.sampled_from([None, 0, 2]))
def test_an_unchanged_event_says_what_it_said(delta, ascii_only, indent):
    text = json.dumps({**_DELTA, "delta": delta}, ensure_ascii=ascii_only, indent=indent)
    assert parse_event(heard(opened(), text)) == parse_event(text)


def test_an_event_with_a_stranger_in_it_is_not_sent_as_it_came():
    text = json.dumps({**_DELTA, "deployment": "bench"})
    assert parse_event(heard(opened(), text)) == _DELTA


def test_an_event_in_the_other_dialect_is_not_sent_as_it_came():
    assert parse_event(heard(opened(Dialect.PREVIEW), json.dumps(_DELTA)))["type"] == "response.text.delta"


def test_an_event_that_fits_only_when_written_shorter_is_written_shorter():
    judge = opened()
    text = json.dumps({**_DELTA, "delta": "\u00e9" * 1_000}, indent=8)
    judge.adapt(client_bytes=3_000)
    shown = heard(judge, text)
    assert len(text.encode()) > 3_000 >= len(shown.encode())
    assert parse_event(shown) == parse_event(text)


_NAMES = st.sampled_from(["a", "b", "a:b", "", "é", "type"])
_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False)
    | st.text(max_size=6)
    | _NAMES,
    lambda inner: st.lists(inner, max_size=4) | st.lists(st.tuples(_NAMES, inner), max_size=4),
    max_leaves=12,
)


def _written(value) -> str:
    """JSON in which a list of pairs is an object, whose names may stand in it twice."""
    match value:
        case [tuple(), *_]:
            return "{" + ",".join(f"{json.dumps(name)}:{_written(each)}" for name, each in value) + "}"
        case list():
            return "[" + ",".join(map(_written, value)) + "]"
        case str():
            return json.dumps(value, ensure_ascii=len(value) % 2 == 0)
    return json.dumps(value)


def _by(read, *given):
    try:
        return read(*given)
    except (ValueError, events.EventError):
        return "refused"


@given(
    st.lists(st.tuples(_NAMES, _VALUES), max_size=5),
    st.text(alphabet='{}[],:"0123456789.eE+-ntx\\ \n', max_size=8),
    st.integers(0, 200),
)
@example([("a", 1), ("a", 2)], "", 0)
@example([("a", [("b:", ":"), ("b:", 1)])], "", 0)
@example([("a", -9999999999999999999)], "", 0)
@example([("a", -9223372036854775808)], "", 0)
@example([("a", 18446744073709551615)], "", 0)
@example([("a", 18446744073709551616)], "", 0)
@example([], '1":01', 1)
@example([("a", 1e308)], "0", 8)
def test_a_text_is_read_alike_quickly_and_slowly(members, inserted, at):
    text = _written(members) if members else "{}"
    for each in (text, text[:at] + inserted + text[at:]):
        raw = each.encode("utf-8", "surrogatepass")
        slowly = _by(lambda each=each, raw=raw: events._read_slowly(each, raw, many=False))
        try:
            whole = events.parse_json_object(each)
        except events.EventError:
            whole = "refused"
        if whole != "refused":
            assert repr(whole) == repr(slowly), each
        elif slowly != "refused" and isinstance(slowly, dict):
            # Refused for what the slow way leaves to others: numbers too large, characters that are half.
            assert events._exceeds(events._outside(raw)) or "\\u" in each, each
