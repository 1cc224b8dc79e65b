"""Users with tokens through a whole relay: the policy of a session is the one that a claim of theirs matches."""

from __future__ import annotations

import json

import aiohttp
from structlog.testing import capture_logs
from support.client import Client
from support.idp import AUDIENCE, SUBJECT, IdentityProvider
from support.policies import document, put
from support.service import bench

from relay.config import ClientSettings, OidcSettings, PolicySettings

SALES, OTHERS = "CANARY-7f3a. Speak of prices to {{ claim.department }}.", "CANARY-7f3a. Never speak of prices."


async def test_a_token_opens_a_session_under_the_policy_that_its_claim_matches(tmp_path):
    policies = put(
        tmp_path / "policies",
        base=document(text=OTHERS),
        sales=document("sales", SALES, match={"tenants": ["contoso"], "claims": {"department": ["sales"]}}),
    )
    async with IdentityProvider() as idp:
        sections = {
            "policy": PolicySettings(documents=str(policies)),
            "clients": ClientSettings(),
            "oidc": OidcSettings(idp.issuer, (AUDIENCE,), tenant="contoso", claims=("department",)),
        }
        tokens = {"sales": idp.token(department="sales"), "support": idp.token(department="support", sub="another")}
        with capture_logs() as lines:
            async with bench(**sections) as world:
                for token, text in ((tokens["sales"], "to sales."), (tokens["support"], "Never speak of prices.")):
                    async with Client(world.url, token) as client:
                        await client.connect()
                        await client.event("session.created")
                        seen = world.simulator.state()["sessions"][-1]["session"]["instructions"]
                        assert text in seen
                        assert await client.hang_up() == 200
                async with (
                    Client(world.url, idp.token(aud="api://another")) as stranger,
                    stranger.http.post(
                        f"{world.url}/v1/realtime/client_secrets",
                        headers={"Authorization": f"Bearer {stranger.key}"}, json={},
                    ) as answer,
                ):  # fmt: skip
                    assert answer.status == 401
                    assert SUBJECT not in await answer.text()
                exposition = await metrics(world)
        assert 'relay_oidc_refused_total{reason="audience",section="oidc"} 1.0' in exposition
        assert 'relay_oidc_fetches_total{result="ok",section="oidc"} 1.0' in exposition
        everything = json.dumps(lines, default=str) + exposition
        for secret in (*tokens.values(), *(token.split(".")[1] for token in tokens.values()), SUBJECT):
            assert secret not in everything


async def metrics(world) -> str:
    async with aiohttp.ClientSession() as http, http.get(f"{world.relay.operations_url}/metrics") as answer:
        return await answer.text()
