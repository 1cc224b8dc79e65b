"""Who may do what: every route of the table, every role, and everybody who is nobody."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
import pytest_asyncio
from sqlalchemy import update
from support.administrators import ADMIN_KEY, FOREIGN, TENANT, Office, office, patient
from support.service import CLIENT_KEY

from relay.app import Running
from relay.core.access import Role
from relay.store.tables import KEYS

pytestmark = pytest.mark.asyncio(loop_scope="module")

READ, OPERATE, READ_POLICIES, GOVERN, OWN = "read", "operate", "read_policies", "govern", "own"
MAY = {
    READ: set(Role),
    OPERATE: {Role.OPERATOR, Role.GOVERNOR, Role.OWNER},
    READ_POLICIES: {Role.GOVERNOR, Role.OWNER},
    GOVERN: {Role.GOVERNOR, Role.OWNER},
    OWN: {Role.OWNER},
}
# Written down a second time: whoever adds a route, or lets more people use one, says so here.
TABLE = {
    ("GET", "/openapi.json"): (None, False),
    ("GET", "/sign-in"): (None, False),
    ("GET", "/me"): (READ, True),
    ("GET", "/status"): (READ, True),
    ("GET", "/upstreams"): (READ, False),
    ("POST", "/drain"): (OPERATE, False),
    ("GET", "/sessions/stream"): (READ, True),
    ("GET", "/sessions"): (READ, True),
    ("GET", "/sessions/recorded"): (READ, True),
    ("GET", "/sessions/{id}"): (READ, True),
    ("POST", "/sessions/{id}/end"): (OPERATE, True),
    ("POST", "/tenants/{tenant}/end"): (OPERATE, True),
    ("GET", "/kill-switch"): (READ, False),
    ("PUT", "/kill-switch"): (OPERATE, False),
    ("GET", "/usage"): (READ, True),
    ("GET", "/limits"): (READ, True),
    ("GET", "/decisions"): (READ, True),
    ("GET", "/audit"): (READ, True),
    ("GET", "/audit/verify"): (READ, False),
    ("GET", "/keys"): (OWN, True),
    ("POST", "/keys"): (OWN, True),
    ("POST", "/keys/{id}/rotate"): (OWN, True),
    ("DELETE", "/keys/{id}"): (OWN, True),
    ("GET", "/policies"): (READ, False),
    ("GET", "/policies/files/{path}"): (READ_POLICIES, False),
    ("GET", "/policies/revisions"): (READ, False),
    ("GET", "/policies/revisions/{number}"): (READ_POLICIES, False),
    ("GET", "/policies/revisions/{number}/diff"): (READ_POLICIES, False),
    ("GET", "/policies/schema"): (READ, False),
    ("POST", "/policies/check"): (READ_POLICIES, False),
    ("POST", "/policies/dry-run"): (READ_POLICIES, False),
    ("PUT", "/policies"): (GOVERN, False),
    ("PUT", "/policies/files/{path}"): (GOVERN, False),
    ("DELETE", "/policies/files/{path}"): (GOVERN, False),
    ("POST", "/policies/revisions/{number}/rollback"): (GOVERN, False),
}


@dataclass(frozen=True)
class Way:
    """A route as a request can be made of it; the parameter that nobody knows is judged after who asks."""

    method: str
    path: str
    permission: str | None
    tenant_bound: bool

    @property
    def url(self) -> str:
        return re.sub(r"\{\w+\}", "rs_1", self.path.replace("{number}", "1")) + "?no_such_parameter=1"


class World:
    def __init__(self, office: Office, relay: Running, ways: list[Way]) -> None:
        self.office = office
        self.relay = relay
        self.ways = ways

    async def everywhere(self, bearer: str | None) -> dict[Way, tuple[int, str]]:
        return {way: (await self.office.ask(way.method, way.url, bearer)).refusal for way in self.ways}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world() -> AsyncIterator[World]:
    with pytest.MonkeyPatch.context() as patch:
        patient(patch)
        async with office() as (asked, relay):
            document = (await asked.ask("GET", "/openapi.json", None)).json
            ways = [
                Way(method.upper(), path, told.get("x-permission"), told.get("x-tenant-bound", False))
                for path, methods in document["paths"].items()
                for method, told in methods.items()
            ]
            yield World(asked, relay, ways)


def expected(way: Way, role: Role, tenant: str | None) -> tuple[int, str]:
    admitted = way.permission is None or (
        role in MAY[way.permission] and (tenant is None or TABLE[way.method, way.path][1])
    )
    return (400, "invalid_request") if admitted else (403, "forbidden")


async def test_the_table_is_what_it_is_known_to_be(world):
    assert {(way.method, way.path): (way.permission, way.tenant_bound) for way in world.ways} == TABLE


async def test_what_is_served_is_what_is_described(world):
    served = {
        (route.method, f"/{resource.canonical.removeprefix('/')}".removeprefix("/admin/v1"))
        for resource in admin_resources(world.relay)
        for route in resource
    }
    assert served == set(TABLE)


def admin_resources(relay: Running) -> list:
    app = relay.operations._runner.app
    [sub] = [resource for resource in app.router.resources() if resource.canonical == "/admin/v1"]
    return list(sub._app.router.resources())


@pytest.mark.parametrize("tenant", [None, TENANT])
@pytest.mark.parametrize("role", list(Role))
async def test_every_role_by_token_and_by_key(world, role, tenant):
    key = (await world.office.key(role, f"matrix {role} {tenant}", tenant))["key"]
    for bearer in (world.office.token(role, tenant), key):
        found = await world.everywhere(bearer)
        assert found == {way: expected(way, role, tenant) for way in world.ways}


async def test_the_key_of_the_settings_is_an_owners(world):
    found = await world.everywhere(ADMIN_KEY)
    assert found == {way: expected(way, Role.OWNER, None) for way in world.ways}


async def test_nobody_gets_past_the_door_and_none_learns_why(world):
    office = world.office
    expired = await office.key(Role.OWNER, "expired", expires_at=time.time() + 3600)
    await expire(world.relay, expired["id"])
    revoked = await office.key(Role.OWNER, "revoked")
    assert (await office.ask("DELETE", f"/keys/{revoked['id']}")).status == 200
    rotated = await office.key(Role.OWNER, "rotated")
    assert (await office.ask("POST", f"/keys/{rotated['id']}/rotate", json={})).status == 201
    of_tenant = await office.ask("POST", "/keys", json={"kind": "tenant", "name": "t", "tenant": TENANT})
    nobodies = {
        "nothing": None,
        "empty": "",
        "a guess": "x" * 24,
        "nearly": ADMIN_KEY + "x",
        "a client key": CLIENT_KEY,
        "a tenant's key": of_tenant.json["key"],
        "an expired key": expired["key"],
        "a revoked key": revoked["key"],
        "a rotated key": rotated["key"],
        **office.bad_tokens(),
    }
    answers = set()
    for who, bearer in nobodies.items():
        for way in world.ways:
            answer = await office.ask(way.method, way.url, bearer)
            wanted = 400 if way.permission is None else 401
            assert answer.status == wanted, (who, way)
            if way.permission is not None:
                answers.add((answer.text, answer.headers["WWW-Authenticate"]))
    assert len(answers) == 1


async def expire(relay: Running, key_id: str) -> None:
    """Let a key's end be past."""
    past = update(KEYS).where(KEYS.c.id == key_id).values(expires_at=time.time() - 1)
    await relay.store.database.run(lambda connection: connection.execute(past))
    await relay.identities.ring.changed(key_id)


async def test_a_tenants_operator_does_not_drain_the_relay_by_the_old_door(world):
    url, mine = f"{world.office.url}/drain", world.office.token(Role.OWNER, TENANT)
    async with world.office.http.post(url, headers={"Authorization": f"Bearer {mine}"}) as answer:
        assert answer.status == 403
    assert not world.relay.registry.draining


async def test_a_good_token_without_a_role_may_do_nothing(world):
    assert world.office.idp is not None
    for bearer in (world.office.idp.token(), world.office.idp.token(roles=["someone.else"])):
        found = await world.everywhere(bearer)
        assert {status for way, status in found.items() if way.permission} == {(403, "forbidden")}


@pytest.mark.parametrize(
    "headers", [{"Origin": "https://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}]
)
async def test_pages_of_other_origins_are_refused_whoever_they_are(world, headers):
    for way in world.ways:
        answer = await world.office.ask(way.method, way.url, headers=headers)
        assert answer.refusal == (403, "origin_not_allowed"), way


async def test_foreign_unknown_and_gone_look_the_same(world):
    office = world.office
    mine, foreign = office.token(Role.OWNER, TENANT), office.token(Role.OWNER, FOREIGN)
    made = (await office.ask("POST", "/keys", foreign, json={"kind": "tenant", "name": "f", "tenant": FOREIGN})).json
    gone = (await office.ask("POST", "/keys", mine, json={"kind": "tenant", "name": "g", "tenant": TENANT})).json
    assert (await office.ask("DELETE", f"/keys/{gone['id']}", mine)).status == 200
    everyones = await office.key(Role.VIEWER, "of everybody")
    for method, path, body in (("DELETE", "/keys/{}", None), ("POST", "/keys/{}/rotate", {})):
        answers = {
            (answer.status, answer.text)
            for name in (made["id"], gone["id"], everyones["id"], "key_unknown")
            for answer in [await office.ask(method, path.format(name), mine, json=body)]
        }
        assert {status for status, _ in answers} == {404}
        assert len(answers) == 1
    ends = [await office.ask("POST", f"/tenants/{name}/end", mine, json={}) for name in (FOREIGN, "nobody")]
    assert {(answer.status, answer.text) for answer in ends} == {(404, ends[0].text)}
    assert (await office.ask("POST", f"/tenants/{TENANT}/end", mine, json={})).json == {"ended": 0}
    # What one tenant's owner did is not told to another's, and its keys are not listed.
    assert {row["tenant"] for row in (await office.ask("GET", "/keys", mine)).json["keys"]} == {TENANT}
    assert {row["tenant"] for row in (await office.ask("GET", "/audit?limit=500", mine)).json["audit"]} == {TENANT}
    assert (await office.ask("GET", f"/audit?tenant={FOREIGN}", mine)).json == {"audit": [], "next": None}


async def test_who_is_confined_makes_keys_of_the_own_tenant_only(world):
    mine = world.office.token(Role.OWNER, TENANT)
    for body in (
        {"kind": "admin", "name": "escape", "role": "owner"},
        {"kind": "admin", "name": "escape", "role": "viewer", "tenant": FOREIGN},
        {"kind": "tenant", "name": "escape", "tenant": FOREIGN},
    ):
        assert (await world.office.ask("POST", "/keys", mine, json=body)).refusal == (403, "forbidden")
    for name in ("a\u202eb", " "):
        wanted = {"kind": "tenant", "name": name, "tenant": TENANT}
        assert (await world.office.ask("POST", "/keys", mine, json=wanted)).refusal == (400, "invalid_value")
    kept = (await world.office.ask("GET", "/keys")).json["keys"]
    assert not [row for row in kept if row["name"] == "escape"]


async def test_a_list_of_keys_that_is_full_says_so(world, monkeypatch):
    await world.office.key(Role.VIEWER, "one more")
    found = (await world.office.ask("GET", "/keys")).json
    assert found["more"] is False
    monkeypatch.setattr("relay.api.admin.keys.KEYS_MOST", len(found["keys"]))
    assert (await world.office.ask("GET", "/keys")).json["more"] is True


async def test_the_consoles_pages_have_no_use_for_a_microphone(world):
    async with world.office.http.get(f"{world.office.url}/console/") as answer:
        assert answer.headers["Permissions-Policy"] == "microphone=(), camera=(), geolocation=()"


async def test_every_refused_change_is_written_down_with_who_tried(world):
    viewer = world.office.token(Role.VIEWER, name="eve")
    # Looking whether something would be good changes nothing, and is no row.
    asked = {"/policies/check", "/policies/dry-run"}
    changes = [way for way in world.ways if way.method != "GET" and way.path not in asked]
    for way in changes:
        await world.office.ask(way.method, way.url, viewer)
    query = {"actor": (await world.office.ask("GET", "/me", viewer)).json["name"], "accepted": "false"}
    rows = (await world.office.ask("GET", "/audit", params=query)).json["audit"]
    assert len(rows) == len(changes)
    assert {(row["role"], row["body"]["status"], row["body"]["code"]) for row in rows} == {("viewer", 403, "forbidden")}
    assert {row["action"] for row in rows} == {
        "drain", "session.end", "tenant.end", "kill_switch", "key.create", "key.rotate", "key.revoke",
        "policy.publish", "policy.rollback",
    }  # fmt: skip
    assert (await world.office.ask("GET", "/audit/verify")).json["ok"] is True
    assert not (await world.office.ask("GET", "/status")).json["draining"]


async def test_the_old_door_of_the_drain_leaves_a_row_too():
    async with office() as (asked, relay):
        shown = {"Authorization": f"Bearer {ADMIN_KEY}"}
        async with asked.http.post(f"{asked.url}/drain", headers=shown) as answer, asyncio.timeout(10):
            assert answer.status == 202
            while not (rows := await relay.store.audit.search(action="drain")):
                pass
        assert [(row.note.actor, row.note.role) for row in rows] == [("admin.key", "owner")]
