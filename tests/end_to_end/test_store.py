"""What a session leaves in the store, and a store that goes away under a relay."""

from __future__ import annotations

from sqlalchemy import text
from support.client import Client
from support.service import CLIENT_KEY, INSTRUCTIONS, bench

from relay.config import Secret, StoreSettings


async def test_a_session_and_its_decisions_are_kept_without_a_word_of_them(tmp_path):
    url = f"sqlite:///{tmp_path}/relay.db"
    async with bench(store=StoreSettings(url=Secret(url))) as world, Client(world.url, CLIENT_KEY) as client:
        await client.connect()
        await client.event("session.created")
        client.send({"type": "session.update", "session": {"type": "realtime", "instructions": "a page's own words"}})
        await client.event("session.updated")
        await client.hang_up()
        await client.closed.wait()
        store = world.relay.store
        while not (page := await store.sessions.search()).rows:
            await store.ping()
        # They may be written in two goes: the mint's own decision is of no session yet.
        while len(sessions := {row.record.session for row in await store.decisions.search()}) < 2:
            await store.ping()
        decisions = await store.decisions.search()
        [kept] = page.rows
        assert (kept.reason, kept.tenant, kept.body["door"]) == ("client_hung_up", "default", "ga_calls")
        assert kept.ended_at > kept.started_at > 1_700_000_000
        assert sessions == {kept.id, ""}
        everything = repr((page, decisions, await store.sessions.get(kept.id)))
        assert "own words" not in everything
        assert INSTRUCTIONS not in everything


async def test_sessions_go_on_while_the_store_is_away(tmp_path):
    url = f"sqlite:///{tmp_path}/relay.db"
    async with bench(store=StoreSettings(url=Secret(url))) as world, Client(world.url, CLIENT_KEY) as client:
        store = world.relay.store
        await store.database.run(lambda connection: connection.execute(text("ALTER TABLE sessions RENAME TO gone")))
        failures = world.relay.metrics
        await client.connect()
        await client.event("session.created")
        await client.hang_up()
        await client.closed.wait()
        while not failures.get_sample_value("relay_store_failures_total", {"operation": "sessions"}):
            await store.ping()
        await store.database.run(lambda connection: connection.execute(text("ALTER TABLE gone RENAME TO sessions")))
        while not (await store.sessions.search()).rows:
            await store.ping()
        assert failures.get_sample_value("relay_store_dropped_total", {"kind": "sessions"}) == 0
        assert failures.get_sample_value("relay_store_up") == 1
