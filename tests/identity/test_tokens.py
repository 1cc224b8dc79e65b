"""Bad tokens, one by one; each differs from a good one in one thing."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives import serialization
from support.idp import AUDIENCE, SUBJECT, b64, ec_key, ed_key, rsa_key, segment

from relay.identity.oidc import TOKEN_MOST_BYTES, TokenVerifier

HOUR = 3600


def pem(key) -> bytes:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return key.private.public_key().public_bytes(serialization.Encoding.PEM, form)


def with_shared_secret(idp, secret: bytes) -> str:
    signed = f"{segment({'alg': 'HS256', 'typ': 'JWT', 'kid': idp.rsa.kid})}.{segment(idp.claims())}"
    return f"{signed}.{b64(hmac.digest(secret, signed.encode(), hashlib.sha256))}"


def unsigned(idp, algorithm: str) -> str:
    return f"{segment({'alg': algorithm, 'typ': 'JWT', 'kid': idp.rsa.kid})}.{segment(idp.claims())}."


def foreign(idp):
    """A key of somebody else under the name of one of ours."""
    return rsa_key(idp.rsa.kid)


def signed_text(idp, payload: str) -> str:
    return idp.rsa.token(payload)


def twice(idp, name: str, value: object) -> str:
    """The claims as JSON with one name twice, the second time as it should be."""
    return f"{{{json.dumps(name)}: {json.dumps(value)}, {json.dumps(idp.claims())[1:]}"


def bent(token: str) -> str:
    """The same token, its signature spelt with other bits where none count."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    return token[:-1] + alphabet[alphabet.index(token[-1]) + 1]


NOW = int(time.time())
BAD = {
    "no signature, alg none": ("malformed", lambda idp: unsigned(idp, "none")),
    "a signature, alg none": ("algorithm", lambda idp: idp.rsa.token(idp.claims(), alg="none")),
    "alg nOnE": ("algorithm", lambda idp: idp.rsa.token(idp.claims(), alg="nOnE")),
    "no alg": ("algorithm", lambda idp: idp.rsa.token(idp.claims(), alg=None)),
    "alg is a list": ("algorithm", lambda idp: idp.rsa.token(idp.claims(), alg=["RS256"])),
    "HS256 with the public key as secret": ("algorithm", lambda idp: with_shared_secret(idp, pem(idp.rsa))),
    "HS256 with nothing as secret": ("algorithm", lambda idp: with_shared_secret(idp, b"")),
    "an algorithm that is not configured": (
        "algorithm", lambda idp: replace(idp.rsa, algorithm="RS512").token(idp.claims())),
    "ES256 by the name of an RSA key": ("key", lambda idp: ec_key(idp.rsa.kid).token(idp.claims())),
    "RS256 by the name of an EC key": ("key", lambda idp: rsa_key(idp.ec.kid).token(idp.claims())),
    "an unknown kid": ("key", lambda idp: idp.rsa.token(idp.claims(), kid="unheard-of")),
    "a key of another JWKS by our key's name": ("signature", lambda idp: foreign(idp).token(idp.claims())),
    "a key of another JWKS and no kid": ("signature", lambda idp: foreign(idp).token(idp.claims(), kid=None)),
    "its own key in the header": (
        "signature", lambda idp: foreign(idp).token(idp.claims(), jwk=foreign(idp).jwk)),
    "its own key in the header, unnamed": (
        "key", lambda idp: (own := rsa_key("own")).token(idp.claims(), jwk=own.jwk)),
    "its own key at an address": (
        "key", lambda idp: rsa_key("own").token(idp.claims(), jku=f"{idp.issuer}/keys", x5u=f"{idp.issuer}/keys")),
    "a kid that is no text": ("header", lambda idp: idp.rsa.token(idp.claims(), kid=7)),
    "a kid that is a path": ("key", lambda idp: idp.rsa.token(idp.claims(), kid="../../dev/null")),
    "a kid without end": ("header", lambda idp: idp.rsa.token(idp.claims(), kid="k" * 300)),
    "crit": ("header", lambda idp: idp.rsa.token(idp.claims(), crit=["exp"])),
    "an empty crit": ("header", lambda idp: idp.rsa.token(idp.claims(), crit=[])),
    "b64": ("header", lambda idp: idp.rsa.token(idp.claims(), b64=False)),
    "a logout token": ("header", lambda idp: idp.rsa.token(idp.claims(), typ="logout+jwt")),
    "typ is no text": ("header", lambda idp: idp.rsa.token(idp.claims(), typ=1)),
    "another issuer": ("issuer", lambda idp: idp.token(iss="https://login.example")),
    "the issuer with a slash": ("issuer", lambda idp: idp.token(iss=f"{idp.issuer}/")),
    "no issuer": ("issuer", lambda idp: idp.token(iss=None)),
    "another audience": ("audience", lambda idp: idp.token(aud="api://another")),
    "more than the audience": ("audience", lambda idp: idp.token(aud=f"{AUDIENCE}/x")),
    "no audience": ("audience", lambda idp: idp.token(aud=None)),
    "audiences of which none is ours": ("audience", lambda idp: idp.token(aud=["api://a", "api://b"])),
    "an audience that is an object": ("audience", lambda idp: idp.token(aud={AUDIENCE: True})),
    "audiences that are not all texts": ("audience", lambda idp: idp.token(aud=[AUDIENCE, 1])),
    "expired": ("expired", lambda idp: idp.token(exp=NOW - 61)),
    "no end": ("malformed", lambda idp: idp.token(exp=None)),
    "an end that is a text": ("malformed", lambda idp: idp.token(exp=str(NOW + HOUR))),
    "an end that is true": ("malformed", lambda idp: idp.token(exp=True)),
    "an end beyond all time": ("malformed", lambda idp: signed_text(idp, json.dumps(idp.claims(exp=5)).replace(
        '"exp": 5', '"exp": 1e999'))),
    "an end that is not a number": ("malformed", lambda idp: idp.token(exp=float("nan"))),
    "not yet valid": ("not_yet_valid", lambda idp: idp.token(nbf=NOW + HOUR)),
    "issued in the future": ("not_yet_valid", lambda idp: idp.token(iat=NOW + HOUR)),
    "issued at a text": ("malformed", lambda idp: idp.token(iat="now")),
    "no subject": ("subject", lambda idp: idp.token(sub=None)),
    "an empty subject": ("subject", lambda idp: idp.token(sub="")),
    "a subject that is a number": ("subject", lambda idp: idp.token(sub=7)),
    "a subject with a line end": ("subject", lambda idp: idp.token(sub="user\n7")),
    "a subject longer than a subject": ("subject", lambda idp: idp.token(sub="s" * 256)),
    "a subject of 10 kB": ("malformed", lambda idp: idp.token(sub="s" * 10_000)),
    "a claim twice": ("malformed", lambda idp: signed_text(idp, twice(idp, "sub", "somebody else"))),
    "a header twice": ("malformed", lambda idp: idp.rsa.signed(
        b64(b'{"alg":"none","alg":"RS256","kid":"rsa-1"}'), segment(idp.claims()))),
    "a lone surrogate": ("malformed", lambda idp: signed_text(idp, json.dumps(idp.claims(name="\ud800")))),
    "claims that are a list": ("malformed", lambda idp: signed_text(idp, "[]")),
    "claims without end": ("malformed", lambda idp: signed_text(idp, '{"a":' + "[" * 1100 + "]" * 1100 + "}")),
    "claims that are not UTF-8": ("malformed", lambda idp: idp.rsa.token(b'{"sub": "\xff"}')),
    "another payload under the signature": ("signature", lambda idp: ".".join(
        [idp.token().split(".")[0], segment(idp.claims(sub="admin")), idp.token().split(".")[2]])),
    "no base64": ("malformed", lambda idp: idp.token().replace(".", ".!", 1)),
    "padding": ("malformed", lambda idp: idp.token() + "="),
    "bits left over": ("malformed", lambda idp: bent(idp.token())),
    "a line end at the end": ("malformed", lambda idp: idp.token() + "\n"),
    "five parts": ("malformed", lambda idp: f"{idp.token()}.a.b"),
    "nothing": ("malformed", lambda _idp: ""),
    "dots": ("malformed", lambda _idp: ".."),
}  # fmt: skip


@pytest.mark.parametrize("what", BAD)
async def test_a_bad_token_is_refused(idp, verifier, refused, what):
    reason, make = BAD[what]
    assert await verifier.verify(make(idp), time.time()) is None
    assert refused == [reason]


GOOD = {
    "as it comes": lambda idp: idp.token(),
    "of an elliptic curve": lambda idp: idp.ec.token(idp.claims()),
    "no kid where there is one key of the kind": lambda idp: idp.rsa.token(idp.claims(), kid=None),
    "an access token by its type": lambda idp: idp.rsa.token(idp.claims(), typ="at+JWT"),
    "no type": lambda idp: idp.rsa.token(idp.claims(), typ=None),
    "among other audiences": lambda idp: idp.token(aud=["api://another", AUDIENCE]),
    "expired within what clocks differ": lambda idp: idp.token(exp=int(time.time()) - 50),
    "valid within what clocks differ": lambda idp: idp.token(nbf=int(time.time()) + 50, iat=int(time.time()) + 50),
    "neither nbf nor iat": lambda idp: idp.token(nbf=None, iat=None),
    "a certificate's address that nobody looks at": lambda idp: idp.rsa.token(idp.claims(), x5u="http://127.0.0.1:9/"),
}


@pytest.mark.parametrize("what", GOOD)
async def test_a_good_token_is_taken(idp, verifier, refused, what):
    claims = await verifier.verify(GOOD[what](idp), time.time())
    assert claims is not None, refused
    assert (claims.issuer, claims.subject) == (idp.issuer, SUBJECT)
    assert refused == []


async def test_the_longest_token_and_one_more_byte(idp, verifier, refused):
    longest = max(
        (idp.token(x="y" * n) for n in range(5_300, 5_600)), key=lambda t: (len(t) <= TOKEN_MOST_BYTES, len(t))
    )
    assert TOKEN_MOST_BYTES - 2 <= len(longest) <= TOKEN_MOST_BYTES
    assert await verifier.verify(longest, time.time()) is not None
    assert await verifier.verify(idp.token(x="y" * 5_700), time.time()) is None
    assert refused == ["malformed"]


@pytest.mark.parametrize("algorithm", ["RS512", "PS256", "ES384", "ES512", "EdDSA"])
async def test_every_algorithm_that_can_be_configured_works(idp, rules, keys, algorithm):
    key = ed_key("k") if algorithm == "EdDSA" else (ec_key if algorithm[0] == "E" else rsa_key)("k", algorithm)
    idp.listed = [idp.rsa.jwk, key.jwk]
    verifier = TokenVerifier(replace(rules, algorithms=frozenset({algorithm})), keys)
    assert await verifier.verify(key.token(idp.claims()), time.time()) is not None
    assert await verifier.verify(idp.token(), time.time()) is None


async def test_two_keys_that_could_be_meant_are_one_too_many(idp, verifier, refused):
    idp.listed = [idp.rsa.jwk, rsa_key("rsa-9").jwk]
    assert await verifier.verify(idp.rsa.token(idp.claims(), kid=None), time.time()) is None
    assert await verifier.verify(idp.token(), time.time()) is not None
    assert refused == ["key"]


async def test_nothing_of_a_token_stands_in_what_is_printed(idp, verifier):
    claims = await verifier.verify(idp.token(email="bob@example.com"), time.time())
    assert SUBJECT not in repr(claims)
    assert "bob" not in repr(claims)
