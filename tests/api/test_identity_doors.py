"""Tenants' keys and users' tokens at the doors: whom they prove, what their ephemeral keys are bound to."""

from __future__ import annotations

import logging
import time
from dataclasses import replace

import pytest
from structlog.testing import capture_logs
from support.idp import AUDIENCE, SUBJECT, IdentityProvider, rsa_key
from support.stored_keys import KeysInMemory

from relay.config import Secret
from relay.core.claims import TokenRules, UserRules, subject_hash
from relay.identity.callers import Callers, UserTokens
from relay.identity.fetch import IssuerHttp
from relay.identity.jwks import KeySet
from relay.identity.keys import ConfiguredKeys, KeyRing, digest_of, new_key
from relay.identity.oidc import TOKEN_MOST_BYTES, TokenVerifier

CLIENT_KEY = "client-key-of-alice-0001"
PAGE = "https://app.example.com"
MINTS = ["/v1/realtime/client_secrets", "/openai/realtimeapi/sessions"]
HANGUP = "/v1/realtime/calls/rs_1/hangup"


@pytest.fixture
async def idp():
    async with IdentityProvider() as provider:
        yield provider


@pytest.fixture
def stored():
    return KeysInMemory()


@pytest.fixture
def ring(stored):
    return KeyRing(stored)


@pytest.fixture
def user_rules():
    return UserRules("contoso", None, ("department",))


@pytest.fixture
async def callers(idp, ring, user_rules):
    keys = KeySet(idp.issuer, IssuerHttp(), 3600)
    rules = TokenRules(idp.issuer, frozenset({AUDIENCE}), frozenset({"RS256"}))
    yield Callers(ConfiguredKeys([Secret(CLIENT_KEY)]), ring, UserTokens(TokenVerifier(rules, keys), user_rules))
    await keys.close()


@pytest.fixture
def doors(doors):
    doors.clock.now = time.time()
    return doors


async def opened(doors, credential, **options):
    """Mint and call with one credential; what the session is opened for."""
    key = await doors.key(key=credential, **options)
    answer = await doors.call(key, headers=options.get("headers", {}))
    assert answer.status == 201, answer.text
    return doors.sessions.requests[-1]


@pytest.mark.parametrize("path", MINTS)
@pytest.mark.parametrize("header", ["Authorization", "api-key"])
async def test_a_users_token_mints_at_every_door(doors, idp, path, header):
    value = f"Bearer {idp.token()}" if header == "Authorization" else idp.token()
    assert (await doors.post(path, key=None, headers={header: value}, json={})).status == 200


async def test_a_session_is_opened_for_the_user_that_the_token_names(doors, idp):
    request = await opened(doors, idp.token(department="sales", email="ann@example.com"))
    identity = request.identity
    assert identity.tenant == "contoso"
    assert identity.subject_hash == request.owner == subject_hash("oidc", idp.issuer, SUBJECT)
    assert identity.claims == {"department": "sales"}


async def test_only_plain_values_of_the_named_claims_are_handed_on(doors, idp):
    request = await opened(doors, idp.token(department={"name": "sales"}))
    assert request.identity.claims == {}
    request = await opened(doors, idp.token(department=["sales", 7]))
    assert request.identity.claims == {"department": ["sales", 7]}


async def test_a_session_is_opened_for_the_tenant_of_a_key(doors, stored):
    sales = await opened(doors, stored.add("backend", "sales"))
    support = await opened(doors, stored.add("backend", "support"))
    assert (sales.identity.tenant, support.identity.tenant) == ("sales", "support")
    assert sales.owner != support.owner
    assert (await opened(doors, CLIENT_KEY)).identity.tenant == "default"


@pytest.mark.parametrize("path", ["/v1/realtime/calls", "/v1/realtimertc"])
async def test_keys_and_tokens_open_calls_themselves(doors, idp, stored, path):
    for credential in (idp.token(), stored.add("backend", "sales")):
        assert (await doors.call(credential, path)).status == 201
    assert [request.identity.tenant for request in doors.sessions.requests] == ["contoso", "sales"]


async def test_every_wrong_credential_gets_the_same_answer_at_every_door(doors, idp, stored, ring):
    revoked, expired = stored.add("old", "sales"), stored.add("older", "sales", expires_at=1.0)
    stored.rows[digest_of(revoked)] = replace(stored.rows[digest_of(revoked)], revoked_at=1.0)
    wrong = [
        "wrong-key-of-somebody", new_key(), revoked, expired, idp.token(exp=1), idp.token(aud="other"),
        idp.token(sub=None), rsa_key("rsa-1").token(idp.claims()), rsa_key("own").token(idp.claims()),
        idp.rsa.token(idp.claims(), alg="none"), idp.token()[:-2], "x" * 600, "eyJ" + "a" * 8_000,
    ]  # fmt: skip
    answers = set()
    for credential in wrong:
        doors.clock.now += 60
        for path in MINTS:
            answer = await doors.post(path, key=credential, json={})
            answers.add((answer.status, answer.text, tuple(sorted(set(answer.headers) - {"X-Request-Id"}))))
        answer = await doors.call(credential)
        answers.add((answer.status, answer.text, tuple(sorted(set(answer.headers) - {"X-Request-Id"}))))
    assert len(answers) == 1
    assert answers.pop()[0] == 401
    assert doors.sessions.requests == []


async def test_what_was_wrong_is_counted_by_its_form(doors, idp):
    for credential in ("wrong-key-of-somebody", new_key(), idp.token(exp=1)):
        await doors.mint(key=credential)
    assert doors.facts.failed == ["client_key", "tenant_key", "token"]


async def test_failures_of_all_kinds_count_and_lock_out_only_what_could_be_guessed(doors, idp, stored):
    known = stored.add("backend", "sales")
    assert (await doors.mint(key=known)).status == 200
    for _ in range(10):
        assert (await doors.mint(key=idp.token(exp=1))).status == 401
        assert (await doors.mint(key=new_key())).status == 401
    asked = len(stored.asked)
    for credential in ("wrong-key-of-somebody", CLIENT_KEY, idp.token(exp=1), new_key()):
        assert (await doors.mint(key=credential)).status == 429
    assert len(stored.asked) == asked
    for credential in (known, idp.token()):
        assert (await doors.mint(key=credential)).status == 200


async def test_the_longest_token_fits_the_listener(doors, idp):
    fitting = [token for n in range(5_300, 5_600, 2) if len(token := idp.token(x="y" * n)) <= TOKEN_MOST_BYTES]
    assert (await doors.mint(key=max(fitting, key=len))).status == 200


class TestATenantByClaim:
    @pytest.fixture
    def user_rules(self):
        return UserRules(tenant_claim="tid")

    async def test_it_is_the_claims(self, doors, idp):
        assert (await opened(doors, idp.token(tid="fabrikam"))).identity.tenant == "fabrikam"

    @pytest.mark.parametrize("tenant", [None, "", "*", "a b", "a\nb", 7, ["fabrikam"], "t" * 129])
    async def test_without_a_name_in_it_the_token_is_no_good(self, doors, idp, tenant):
        assert (await doors.mint(key=idp.token(tid=tenant))).status == 401


async def test_a_fresh_ephemeral_key_falls_with_the_tenant_key_behind_it(doors, stored, ring):
    tenant_key = stored.add("backend", "sales")
    running, fresh = await doors.key(key=tenant_key), await doors.key(key=tenant_key)
    assert (await doors.call(running)).status == 201
    digest = digest_of(tenant_key)
    stored.rows[digest] = replace(stored.rows[digest], revoked_at=doors.clock.now)
    await ring.refresh()
    refused = await doors.call(fresh)
    assert refused.refusal == (401, "invalid_api_key", None)
    assert refused.text == (await doors.call("ek_0000")).text
    assert (await doors.mint(key=tenant_key)).status == 401
    # The session that runs goes on: it is ended by ending it.
    assert (await doors.call(running, "/v1/realtime/calls/rs_1")).status == 200
    assert (await doors.post(HANGUP, key=running)).status == 200


async def test_the_key_that_takes_anothers_place_is_the_same_principal(doors, stored, ring):
    await doors.call(await doors.key(key=stored.add("backend", "sales")))
    namesake = stored.add("backend", "support")
    assert (await doors.post(HANGUP, key=namesake)).status == 404
    assert (await doors.post(HANGUP, key=stored.add("backend", "sales"))).status == 200


async def test_a_session_is_its_users_alone(doors, idp):
    await doors.call(await doors.key(key=idp.token()))
    assert (await doors.post(HANGUP, key=idp.token(sub="somebody else"))).status == 404
    assert (await doors.post(HANGUP, key=idp.token())).status == 200


async def test_an_ephemeral_key_of_a_user_is_bound_to_origin_user_and_one_use(doors, idp, stored):
    key = await doors.key(key=idp.token(), headers={"Origin": PAGE})
    for stolen in (
        {"Origin": f"http://127.0.0.1:{doors.port}"},
        {"Origin": PAGE, "api-key": idp.token(sub="somebody else")},
        {"Origin": PAGE, "api-key": stored.add("backend", "contoso")},
    ):
        assert (await doors.call(key, headers=stolen)).refusal == (401, "invalid_api_key", None), stolen
    own = {"Origin": PAGE, "api-key": idp.token()}
    assert (await doors.call(key, headers=own)).status == 201
    assert (await doors.call(key, offer="v=0\r\nanother", headers=own)).status == 401
    assert len(doors.sessions.requests) == 1


async def test_the_store_or_the_issuer_being_away_says_nothing_of_a_credential(doors, idp, stored):
    await idp.go_away()
    stored.away = True
    answers = [await doors.mint(key=credential) for credential in (idp.token(), stored.add("b", "s"), new_key())]
    assert {(answer.status, answer.text) for answer in answers} == {(503, answers[0].text)}
    assert answers[0].refusal == (503, "identity_unavailable", None)
    assert answers[0].headers["retry-after"] == "10"
    assert (await doors.mint(key=idp.token(aud="other"))).status == 401
    assert (await doors.mint(key=CLIENT_KEY)).status == 200


async def test_no_credential_stands_in_a_log_or_an_answer(doors, idp, stored, caplog):
    caplog.set_level(logging.DEBUG)
    wrong, key = idp.token(exp=1), stored.add("backend", "sales")
    shown = [wrong, key, good := idp.token(department="sales")]
    with capture_logs() as lines:
        texts = [(await doors.mint(key=wrong)).text, (await doors.call(key)).text, (await doors.call(good)).text]
        doors.sessions.refusal = RuntimeError(good)
        texts.append((await doors.call(good)).text)
    doors.facts.warnings.get_nowait()
    everything = repr(lines) + caplog.text + repr(texts)
    for credential in shown:
        for part in (credential, *credential.split(".")[1:], SUBJECT):
            assert part not in everything
