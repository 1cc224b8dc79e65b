"""The kill switch of the store: at once here, soon elsewhere, beside the file and never in its place."""

from __future__ import annotations

import pytest
from support.admin import GOVERNOR
from support.governing import ALICE, DEFAULTS, Heard, node
from support.policies import document, put

from relay.core.kill_switch import KillSwitch
from relay.core.stored import StoreError, UnfitText
from relay.errors import ApiError
from relay.policies import Policies, documents_at
from relay.stored_switch import StoredSwitch

EVERYBODY = KillSwitch(everybody=True)
SALES = KillSwitch(tenants=frozenset({"sales"}), policies=frozenset({"old"}))


async def test_it_acts_at_once_on_its_node_and_soon_on_the_others(tmp_path):
    seed = put(tmp_path / "policies", base=document())
    url = f"sqlite:///{tmp_path}/relay.db"
    async with node(url, seed) as here, node(url, follow=True) as there:
        changes = []
        here.policies.on_change = lambda: changes.append(here.policies.switch)
        await here.switch.move(EVERYBODY, "an incident", GOVERNOR)
        assert changes == [EVERYBODY]
        with pytest.raises(ApiError):
            here.policies.admit(ALICE, None)
        await there.heard.until(lambda: there.heard.switches == [EVERYBODY])
        await here.switch.move(SALES, "narrower", GOVERNOR)
        assert here.policies.switch == SALES
        await there.heard.until(lambda: there.policies.switch == SALES)
        await here.switch.move(KillSwitch(), "over", GOVERNOR)
        assert here.text()
        await there.heard.until(lambda: not there.policies.switch.active)
        rows = [row.note for row in reversed(await here.store.audit.search(action="kill_switch"))]
        assert [(row.actor, row.body["note"], row.body["to"]["everybody"]) for row in rows] == [
            ("gabi", "an incident", True), ("gabi", "narrower", False), ("gabi", "over", False),
        ]  # fmt: skip
        assert (
            rows[1].body["to"]
            == rows[2].body["from"]
            == {"everybody": False, "tenants": ["sales"], "policies": ["old"]}
        )
        async with node(url) as later:
            assert not (await later.switch.read()).active


async def test_nothing_is_moved_that_the_audit_log_has_no_room_to_tell(tmp_path):
    seed = put(tmp_path / "policies", base=document())
    wide = KillSwitch(tenants=frozenset(f"{number:03}{chr(233) * 90}" for number in range(200)))
    fitting = [KillSwitch(tenants=frozenset(f"{one}{number:03}{'x' * 80}" for number in range(200))) for one in "ab"]
    async with node(f"sqlite:///{tmp_path}/relay.db", seed) as here:
        with pytest.raises(UnfitText):
            await here.switch.move(wide, "", GOVERNOR)
        assert not (await here.switch.read()).active
        for switch in fitting:
            await here.switch.move(switch, "\U0001f512" * 2_000, GOVERNOR)
        [row, _] = await here.store.audit.search(action="kill_switch")
        assert set(row.note.body) == {"from", "to", "note"}
        assert row.note.body["from"]["tenants"] == sorted(fitting[0].tenants)


async def test_the_file_counts_whatever_the_store_says_and_while_it_is_away(tmp_path):
    class Away:
        async def all(self):
            raise StoreError("OperationalError")

    seed = put(tmp_path / "policies", base=document())
    policies = Policies(documents_at(str(seed), DEFAULTS), str(seed), Heard())
    policies.stop_also(SALES)
    (seed / "KILL").write_text("tenant a")
    policies._filed_switch = policies._kill_file.read()
    policies._join_switches()
    assert policies.switch == KillSwitch(tenants=frozenset({"a", "sales"}), policies=frozenset({"old"}))
    with pytest.raises(StoreError):
        await StoredSwitch(Away(), policies, Heard().warn).read()
    assert policies.switch.stops("sales")
    policies.stop_also(KillSwitch())
    assert policies.switch == KillSwitch(tenants=frozenset({"a"}))
