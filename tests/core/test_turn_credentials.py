"""The shared-secret form of TURN credentials."""

from __future__ import annotations

import pytest

from relay.core.turn_credentials import turn_credential


def test_the_credential_is_what_the_draft_says():
    made = turn_credential("north", "mbzrxpgjys", 1433895918)
    assert made.username == "1433895918:mbzrxpgjys"
    assert made.expires_at == 1433895918
    # printf %s 1433895918:mbzrxpgjys | openssl dgst -sha1 -hmac north -binary | base64
    assert made.password == "d2Q1V6JRLjCTMOhoc8cTgEoi7u0="


def test_another_secret_tag_or_time_gives_another_password():
    made = {
        turn_credential(secret, tag, expires_at).password
        for secret in ("north", "south")
        for tag in ("a", "b")
        for expires_at in (1, 2)
    }
    assert len(made) == 8


def test_the_password_is_not_shown():
    made = turn_credential("north", "tag", 1)
    assert made.password not in repr(made)


@pytest.mark.parametrize("tag", ["", "a:b", "a b", 'a"', "a\r\nLink: x", "\u00e9", "a" * 65, "a\n"])
def test_a_tag_that_could_break_out_is_refused(tag):
    with pytest.raises(ValueError, match="plain tag"):
        turn_credential("north", tag, 1)


def test_a_time_before_1970_is_refused():
    with pytest.raises(ValueError, match="a time"):
        turn_credential("north", "tag", -1)
