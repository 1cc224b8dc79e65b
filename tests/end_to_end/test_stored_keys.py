"""A tenant's key of the store through a whole relay: its policy, and its end."""

from __future__ import annotations

from support.client import Client
from support.policies import document, put
from support.service import bench

from relay.config import PolicySettings, StateSettings
from relay.core.stored import AuditNote, KeyKind
from relay.identity.key_office import KeyOffice

NOTE = AuditNote("test", "owner", "key.create")


async def test_a_tenants_key_opens_sessions_under_its_policy_until_it_is_revoked(tmp_path):
    policies = put(
        tmp_path / "policies",
        sales=document("sales", "CANARY-7f3a. Speak of prices.", match={"tenants": ["sales"]}),
    )
    sections = {
        "policy": PolicySettings(documents=str(policies)),
        "state": StateSettings(str(tmp_path / "state")),
    }
    async with bench(**sections) as world:
        office = KeyOffice(world.relay.store.keys, world.relay.identities.ring.changed)
        row, key = await office.create(KeyKind.TENANT, "backend", "sales", None, None, NOTE)
        async with Client(world.url, key) as client:
            fresh = await client.mint()
            await client.connect()
            await client.event("session.created")
            seen = world.simulator.state()["sessions"][-1]["session"]["instructions"]
            assert "Speak of prices" in seen
            await office.revoke(row.id, NOTE)
            assert await client.hang_up() == 200
        async with Client(world.url, key) as late:
            assert (await late.post_offer(await late.offer(), fresh))[0] == 401
            headers = {"Authorization": f"Bearer {key}"}
            async with late.http.post(f"{world.url}/v1/realtime/client_secrets", headers=headers, json={}) as answer:
                assert answer.status == 401
