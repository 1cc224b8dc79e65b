"""The keys of an issuer: discovery, rotation, and an issuer that is away, slow, huge or somebody else."""

from __future__ import annotations

import asyncio
import json
import time

import pytest
from jwt.algorithms import ECAlgorithm
from support.idp import ec_key, rsa_key

from relay.identity.fetch import ANSWER_MOST_BYTES, FetchError, IssuerHttp
from relay.identity.jwks import ASK_AGAIN_SECONDS, KEEP_SECONDS, KeysAwayError, asked, public_key

DISCOVERY, KEYS = "/.well-known/openid-configuration", "/keys"


async def test_keys_are_fetched_once_for_many_tokens(idp, verifier, heard):
    for _ in range(20):
        assert await verifier.verify(idp.token(), time.time())
    assert idp.fetches == {DISCOVERY: 1, KEYS: 1}
    assert heard == [None]


async def test_a_thousand_unknown_names_ask_the_issuer_once(idp, keys, clock):
    assert await keys.find("rsa-1", "RS256")
    clock.now += ASK_AGAIN_SECONDS
    idp.held = asyncio.Event()
    idp.asked.clear()
    asking = [asyncio.create_task(keys.find(f"unknown-{n}", "RS256")) for n in range(1000)]
    await idp.asked.wait()
    idp.held.set()
    assert await asyncio.gather(*asking) == [None] * 1000
    assert [await keys.find(f"unknown-{n}", "RS256") for n in range(1000)] == [None] * 1000
    assert idp.fetches == {DISCOVERY: 2, KEYS: 2}


async def test_new_keys_are_taken_and_the_old_ones_fall(idp, verifier, clock, refused):
    old = idp.token()
    assert await verifier.verify(old, time.time())
    idp.rotate()
    assert await verifier.verify(idp.token(), time.time()) is None  # asked a moment ago
    clock.now += ASK_AGAIN_SECONDS
    assert await verifier.verify(idp.token(), time.time())
    assert await verifier.verify(old, time.time()) is None
    assert refused == ["key", "key"]
    assert idp.fetches[KEYS] == 2


async def test_an_issuer_that_is_away_locks_nobody_out_for_a_day(idp, verifier, keys, clock, heard, refused):
    assert await verifier.verify(idp.token(), time.time())
    await idp.go_away()
    clock.now += 3600 + KEEP_SECONDS
    assert await verifier.verify(idp.token(), time.time())
    assert keys.age == 3600 + KEEP_SECONDS
    clock.now += 1
    with pytest.raises(KeysAwayError):
        await verifier.verify(idp.token(), time.time())
    assert refused == ["keys_away"]
    await idp.start()
    clock.now += ASK_AGAIN_SECONDS
    assert await verifier.verify(idp.token(), time.time())
    assert heard == [None, "discovery: cannot be asked (ClientConnectorError)", None]


async def test_an_issuer_that_was_never_there(idp, verifier, clock, heard):
    await idp.go_away()
    for _ in range(3):
        with pytest.raises(KeysAwayError):
            await verifier.verify(idp.token(), time.time())
    assert heard == ["discovery: cannot be asked (ClientConnectorError)"]
    await idp.start()
    clock.now += ASK_AGAIN_SECONDS
    assert await verifier.verify(idp.token(), time.time())
    assert heard[1:] == [None]


async def test_who_gives_up_waiting_leaves_the_answer_to_others(idp, keys):
    idp.held = asyncio.Event()
    first, second = (asyncio.create_task(keys.find("rsa-1", "RS256")) for _ in range(2))
    await idp.asked.wait()
    first.cancel()
    idp.held.set()
    assert await second
    assert idp.fetches == {DISCOVERY: 1, KEYS: 1}


async def test_watching_fetches_at_once_and_closing_ends_a_fetch(idp, keys):
    idp.held = asyncio.Event()
    watching = asyncio.create_task(keys.watch())
    await idp.asked.wait()
    idp.held.set()
    assert await keys.find("rsa-1", "RS256")
    assert idp.fetches == {DISCOVERY: 1, KEYS: 1}
    watching.cancel()


WRONG = {
    "slow": (lambda idp: setattr(idp, "held", asyncio.Event()), "discovery: no answer within 0.2 s"),
    "failing": (lambda idp: setattr(idp, "status", 503), "discovery: the answer is 503"),
    "huge": (lambda idp: setattr(idp, "body", b" " * (ANSWER_MOST_BYTES + 1)),
             f"keys: the answer is longer than {ANSWER_MOST_BYTES} bytes"),
    "somebody else": (lambda idp: idp.discovery.update(issuer="https://login.example"),
                      "discovery: the document is of another issuer than the setting names"),
    "nobody": (lambda idp: idp.discovery.update(issuer=None),
               "discovery: the document is of another issuer than the setting names"),
    "without keys": (lambda idp: idp.discovery.update(jwks_uri=None), "discovery: jwks_uri is no https URL"),
    "with keys for all to change": (lambda idp: idp.discovery.update(jwks_uri="http://keys.example/"),
                                    "discovery: jwks_uri is no https URL"),
    "with keys in a file": (lambda idp: idp.discovery.update(jwks_uri="file:///etc/keys"),
                            "discovery: jwks_uri is no https URL"),
    "with keys that are none": (lambda idp: setattr(idp, "body", b'{"keys": []}'),
                                "keys: there is none that can be used"),
    "with too many keys": (lambda idp: setattr(idp, "listed", [idp.ec.jwk] * 101),
                           "keys: the document is no list of at most 100 keys"),
    "with keys that are no JSON": (lambda idp: setattr(idp, "body", b"<html>"), "keys: the answer is no JSON object"),
    "with a name twice": (lambda idp: setattr(idp, "body", json.dumps({"keys": idp.listed}).encode().replace(
        b'{"keys"', b'{"keys": [], "keys"')), "keys: the answer is no JSON object"),
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG)
async def test_an_issuer_that_is(idp, what):
    change, words = WRONG[what]
    change(idp)
    with pytest.raises(FetchError) as caught:
        await asked(idp.issuer, IssuerHttp(seconds=0.2 if what == "slow" else 5.0))
    assert str(caught.value) == words


async def test_no_redirect_is_followed(idp):
    idp.status, idp.headers = 302, {"Location": f"{idp.issuer}{KEYS}"}
    with pytest.raises(FetchError, match="discovery: the answer is 302"):
        await asked(idp.issuer, IssuerHttp())
    assert idp.fetches == {DISCOVERY: 1}


async def test_where_people_sign_in_is_told_only_if_it_is_safe(idp):
    told = await asked(idp.issuer, IssuerHttp())
    assert told.authorization_endpoint == f"{idp.issuer}/authorize"
    assert told.token_endpoint == f"{idp.issuer}/token"
    idp.discovery = {"authorization_endpoint": "javascript:alert(1)", "token_endpoint": "http://evil.example/"}
    told = await asked(idp.issuer, IssuerHttp())
    assert (told.authorization_endpoint, told.token_endpoint) == (None, None)


def test_keys_that_are_not_for_this_are_passed_over():
    key = ec_key("k")
    good = key.jwk
    assert public_key(good) is not None
    assert public_key({**good, "kid": None}) is not None
    rsa = rsa_key("r").jwk
    bad = [
        {**good, "use": "enc"},
        {**good, "key_ops": ["encrypt"]},
        {**good, "alg": "ES384"},
        {**good, "alg": "HS256"},
        {**good, "crv": "secp256k1", "alg": "ES256K"},
        {**good, "x": "AAAA"},
        {**good, "x": good["y"]},  # no point of the curve
        {**good, **ECAlgorithm.to_jwk(key.private, as_dict=True)},  # the private half too
        {**good, "kid": "k" * 300},
        {"kty": "oct", "k": "c2VjcmV0", "alg": "HS256"},
        {**rsa, "e": "A" * 400 + "B"},
        {**rsa, "n": "AQAB"},
        rsa_key("short", bits=1024).jwk,
        {},
        "key",
    ]
    assert [public_key(jwk) for jwk in bad] == [None] * len(bad)


def test_a_key_that_names_no_algorithm_is_for_all_of_its_type():
    found = public_key({name: value for name, value in rsa_key("r").jwk.items() if name != "alg"})
    assert found.algorithms == {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}
