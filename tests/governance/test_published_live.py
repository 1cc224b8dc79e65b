"""A policy that is published reaches people who are talking, and is seen in force at the service."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from support.admin import admin_api
from support.policies import TEXT, document, put
from support.sessions import Watch, client_of, no_secret_in, watched

from relay.api.admin.policies import policy_routes
from relay.config import PolicySettings, StateSettings
from relay.core.revision_files import tag_of

OTHER_TEXT = "CANARY-7f3a-two. You are Contoso's assistant on its day off."


def instructions(state: dict[str, Any]) -> str:
    return str(state["sessions"][-1]["session"]["instructions"])


def tag(watch: Watch) -> str:
    revision = watch.world.relay.governance.in_force
    assert revision is not None
    return f'"{tag_of(revision)}"'


async def test_published_with_apply_live_it_is_in_force_in_a_running_session(tmp_path):
    seed = put(tmp_path / "policies", base=document())
    sections = {
        "policy": PolicySettings(documents=str(seed), managed=True),
        "state": StateSettings(directory=str(tmp_path / "state")),
    }
    async with watched(**sections) as watch:
        relay = watch.world.relay
        routes = policy_routes(relay.governance, relay.trials)
        await relay.trials.check({})  # the process that tries stays when the client has gone
        async with client_of(watch) as client, admin_api(routes) as admin:
            await client.connect()
            await client.event("session.created")
            live = document(text=OTHER_TEXT, apply="live")
            tried = (await admin.ask("POST", "/policies/dry-run", {"files": {"base.yaml": live}})).json
            assert [(each["from"], each["to"], each["how"]) for each in tried["live"]] == [("base", "base", "now")]
            order: list[str] = []

            async def seen() -> float:
                await watch.world.simulator.until(lambda state: instructions(state) == OTHER_TEXT)
                order.append("in force")
                return time.perf_counter()

            watching = asyncio.create_task(seen())
            began = time.perf_counter()
            done = await admin.ask("PUT", "/policies/files/base.yaml", live, tag=tag(watch))
            answered = time.perf_counter()
            order.append("answered")
            assert done.status == 200, done.text
            async with asyncio.timeout(15):
                in_force = await watching
            print(f"answered after {answered - began:.3f} s, in force {in_force - answered:+.3f} s from there")  # noqa: T201
            assert sorted(order) == ["answered", "in force"]
            broken = await admin.ask("PUT", "/policies/files/base.yaml", document(instructionz={}), tag=tag(watch))
            assert broken.json["problems"][0]["path"] == "spec.instructionz"
            back = await admin.ask("POST", "/policies/revisions/1/rollback", {"note": "back"}, tag=tag(watch))
            assert back.json["revision"] == 3
            # Without `apply: live` the session keeps what it has, and the next one gets what is in force.
            assert instructions(watch.world.simulator.state()) == OTHER_TEXT
            no_secret_in(*client.raw)
        async with client_of(watch) as client:
            await client.connect()
            await client.event("session.created")
            assert instructions(watch.world.simulator.state()) == TEXT
