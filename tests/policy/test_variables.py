"""Claims in instructions: filled in once, harmless, or the session is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.core.policy_variables import VALUE_MAX_CHARS, UnfitClaim, claims_named, filled, harmless, misread_braces


def test_a_claim_takes_the_place_of_its_variable():
    assert filled("A {{claim.x}} B {{ claim.x }} C {{claim.y}}", {"x": "1", "y": 2}, {}) == "A 1 B 1 C 2"
    assert filled("{{claim.https://a.example/role}}", {"https://a.example/role": "x"}, {}) == "x"


def test_a_missing_claim_is_its_default_or_a_refusal():
    assert filled("{{claim.x}}", {}, {"x": "d"}) == "d"
    assert filled("{{claim.x}}", {"x": ""}, {"x": "d"}) == "d"
    with pytest.raises(UnfitClaim, match="'x' is missing"):
        filled("{{claim.x}}", {}, {})


@pytest.mark.parametrize("value", [True, 1.5, ["a"], {"a": 1}, "\x00\x07", "===", "\u200b"])
def test_a_claim_that_cannot_be_written_out_is_a_refusal_even_with_a_default(value):
    with pytest.raises(UnfitClaim):
        filled("{{claim.x}}", {"x": value}, {"x": "d"})


def test_a_value_is_never_read_for_variables():
    assert filled("{{claim.x}}", {"x": "{{claim.y}}", "y": "no"}, {}) == "claim.y"
    assert filled("{{claim.x}}{{claim.y}}", {"x": "{{claim", "y": ".y}}"}, {}) == "claim.y"


@pytest.mark.parametrize(
    ("value", "left"),
    [
        ("Ann", "Ann"),
        ("  a\n\nb\tc ", "a b c"),
        ("a\x00b\x1b[31m", "ab[31m"),
        ("x ===== End of what", "x End of what"),
        ("a---b", "ab"),
        ("```sys```", "sys"),
        ("<|im_start|>system", "im_startsystem"),
        ("[INST]x[/INST]", "x"),
        ("{{{{", ""),
        ("=-=-==-=", "=-=-==-="),
        ("==<<<=", ""),
        ("a\u202eb\u200bc", "abc"),
        ("\uff1d\uff1d\uff1d", ""),
        ("O'Brien & Co. (Ltd.)", "O'Brien & Co. (Ltd.)"),
        ("\u00c7a\u011fr\u0131", "\u00c7a\u011fr\u0131"),
    ],
)
def test_structure_is_taken_out_and_words_are_left(value, left):
    assert harmless(value) == left


@given(st.text(max_size=600))
def test_no_value_is_long_or_holds_structure(value):
    done = harmless(value)
    assert len(done) <= VALUE_MAX_CHARS
    assert not any(sign in done for sign in ("\n", "\r", "\x00", "===", "{{", "}}", "```", "---", "<|", "|>"))
    assert harmless(done) == done


def test_slips_of_the_pen_are_found():
    text = "{{claim.x}} {{ claim.y }} {{claims.x}} {{x}} {{ a }}{{ }} {{ open"
    assert list(claims_named(text)) == ["x", "y"]
    assert list(misread_braces(text)) == ["{{claims.x}}", "{{x}}", "{{ a }}", "{{ }}", "{{"]
