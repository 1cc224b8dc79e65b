"""Policies in the store: published whole or not at all, in order, by one of many, and followed by every node."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import update
from support.admin import GOVERNOR
from support.governing import node
from support.policies import document, put
from support.postgres import running_postgres

from relay.core.revision_files import NotThere, UnfitFiles, files_hash, tag_of
from relay.core.stored import AuditNote, StaleRevision, StoreError
from relay.errors import ConfigError
from relay.governance import InvalidPolicies
from relay.policy_loader import LoaderBusy
from relay.store.tables import POLICY_REVISIONS


@pytest.fixture
def seed(tmp_path) -> Path:
    return put(tmp_path / "policies", base=document(text="one"))


@pytest.fixture
def url(tmp_path) -> str:
    return f"sqlite:///{tmp_path}/relay.db"


async def test_an_empty_store_takes_the_documents_once(tmp_path, seed, url):
    async with node(url, seed) as first:
        assert (first.number, first.text()) == (1, "one")
        (row,) = await first.store.revisions.list(None, 9)
        assert row.author == "seed"
        put(seed, base=document(text="other"))
        await first.put("two")
    async with node(url, seed) as second:
        assert (second.number, second.text()) == (2, "two")
    async with node(url) as third:
        assert third.text() == "two"
        rows = reversed(await third.store.audit.search())
        notes = [(each.note.actor, each.note.action, each.note.target) for each in rows]
    assert notes == [("seed", "policy.publish", "1"), ("gabi", "policy.publish", "2")]


async def test_a_store_with_nothing_and_no_documents_is_a_reason_not_to_start(url):
    with pytest.raises(ConfigError, match=r"set policy\.documents"):
        async with node(url):
            pass


async def test_texts_that_documents_name_are_seeded_with_them_and_nothing_else_is(tmp_path, url):
    directory = put(tmp_path / "policies", base=document().replace('"text": ', '"file": "prompts/a.md", "x": '))
    whole = document(instructions={"file": "prompts/a.md"})
    put(directory, base=whole)
    (directory / "prompts").mkdir()
    (directory / "prompts" / "a.md").write_text("from a file")
    (directory / "notes.txt").write_text("nobody names this")
    async with node(url, directory) as only:
        assert only.text() == "from a file"
        assert sorted(await only.governance.files()) == ["base.yaml", "prompts/a.md"]


async def test_a_document_that_cannot_be_read_is_not_left_out_of_a_seed(seed, url):
    (seed / "sales.yaml").symlink_to("nowhere.yaml")
    with pytest.raises(ConfigError, match=r"sales\.yaml"):
        async with node(url, seed):
            pass


async def test_what_is_published_is_in_force_when_it_is_answered(seed, url):
    async with node(url, seed) as only:
        changes = []
        only.policies.on_change = lambda: changes.append(only.text())
        published = await only.put("two")
        assert changes == ["two"]
        assert (published.revision.number, published.revision.author) == (2, "gabi")
        assert only.governance.in_force == published.revision


@pytest.mark.parametrize(
    ("broken", "path"),
    [
        (document(instructionz={}), "spec.instructionz"),
        (document(mode="lenient"), "spec.mode"),
        (document(text="{{claim.department}} {{CANARY"), "spec.instructions.text"),
        (document(canary={"words": "CANARY-7f3a"}), "spec.canary.words"),
        (document(tests=[{"name": "t", "client": {"type": "response.cancel"}, "expect": {"decision": "refuse"}}]),
         "spec.tests"),
        ("spec: [", ""),
    ],
)  # fmt: skip
async def test_a_broken_document_is_refused_with_the_field_named_and_the_last_good_one_stays(seed, url, broken, path):
    async with node(url, seed) as only:
        with pytest.raises(InvalidPolicies) as caught:
            await only.governance.change({"base.yaml": broken}, "", only.tag, GOVERNOR)
        found = caught.value.findings[0]
        assert (found.file, found.path, found.line > 0) == ("base.yaml", path, True)
        assert "CANARY" not in found.message
        assert (only.number, only.text()) == (1, "one")
        assert len(await only.store.revisions.list(None, 9)) == 1
        await only.put("two")
        assert only.text() == "two"


async def test_a_stale_tag_is_refused_and_so_is_one_of_another_store(seed, url):
    async with node(url, seed) as only:
        stale = only.tag
        await only.put("two")
        for tag in (stale, "2-000000000000", "2", "*", ""):
            with pytest.raises(StaleRevision):
                await only.governance.change({"base.yaml": document(text="lost")}, "", tag, GOVERNOR)
        assert only.text() == "two"


async def test_a_rollback_is_a_new_revision_with_the_old_content(seed, url):
    async with node(url, seed) as only:
        await only.put("two")
        back = await only.governance.rollback(1, "as it was", only.tag, GOVERNOR)
        assert (back.revision.number, only.text()) == (3, "one")
        first = await only.governance.revision(1)
        assert (back.revision.hash, back.revision.files) == (first.hash, first.files)
        last = (await only.store.audit.search())[0].note
        assert (last.action, last.body["of_revision"], last.body["note"]) == ("policy.rollback", 1, "as it was")
        with pytest.raises(NotThere):
            await only.governance.rollback(9, "", only.tag, GOVERNOR)


async def test_of_many_publishers_exactly_one_wins_each_number_and_none_is_lost(seed, url):
    async with node(url, seed) as only:
        won = []

        async def publisher(name: int) -> None:
            for tries in range(50):
                try:
                    done = await only.put(f"text {name}")
                except StaleRevision:
                    continue
                won.append((done.revision.number, name, tries))
                return

        await asyncio.gather(*(publisher(name) for name in range(8)))
        assert sorted(number for number, _, _ in won) == list(range(2, 10))
        assert sum(tries for _, _, tries in won) > 0
        for number, name, _ in won:
            files = (await only.governance.revision(number)).files
            assert json.loads(files["base.yaml"])["spec"]["instructions"]["text"] == f"text {name}"
        assert only.number == 9
        assert len(await only.store.audit.search()) == 9


async def test_more_publishers_than_may_wait_are_told_to_come_again(seed, url):
    async with node(url, seed) as only:
        answers = await asyncio.gather(*(only.put(str(name)) for name in range(20)), return_exceptions=True)
        kinds = [type(answer).__name__ for answer in answers]
        assert (kinds.count("Published"), kinds.count("LoaderBusy")) == (1, 4)
        assert any(isinstance(answer, LoaderBusy) for answer in answers)


async def test_whoever_goes_away_leaves_nothing_that_is_stored_and_not_in_force(seed, url):
    async with node(url, seed) as only:
        asking = asyncio.create_task(only.put("two"))
        while not only.governance._publishing:  # noqa: ASYNC110 - one turn of the loop, and nothing tells
            await asyncio.sleep(0)
        asking.cancel()
        await only.heard.until(lambda: len(only.heard.loaded) == 2)
        assert (only.number, only.text()) == (2, "two")


async def test_after_a_crash_between_store_and_swap_what_is_stored_is_in_force(seed, url, monkeypatch):
    async with node(url, seed) as crashed:
        swap = crashed.policies.put_in_force

        def crash(_: object) -> None:
            raise OSError

        monkeypatch.setattr(crashed.policies, "put_in_force", crash)
        with pytest.raises(OSError):  # noqa: PT011 - our own
            await crashed.put("two")
        assert crashed.text() == "one"
        async with node(url) as after:
            assert (after.number, after.text()) == (2, "two")
        monkeypatch.setattr(crashed.policies, "put_in_force", swap)
        await crashed.governance._catch_up()
        assert (crashed.number, crashed.text()) == (2, "two")


async def test_a_store_that_takes_nothing_changes_nothing(seed, url, monkeypatch):
    async with node(url, seed) as only:

        async def away(*_: object) -> None:
            raise StoreError("OperationalError")

        monkeypatch.setattr(only.store.revisions, "publish", away)
        with pytest.raises(StoreError):
            await only.put("two")
        assert (only.number, only.text()) == (1, "one")


@pytest.fixture(scope="module")
def shared() -> Iterator[str]:
    with running_postgres() as server:
        yield server.new_database()


class TestTwoNodes:
    async def converge(self, url: str, seed: Path) -> None:
        async with node(url, seed, follow=True) as one, node(url, seed, follow=True) as other:
            assert one.tag == other.tag
            await one.put("by one")
            await other.heard.until(lambda: other.text() == "by one")
            # Whoever asks the other node with the tag of the first is not told that it is stale.
            await other.governance.change({"base.yaml": document(text="by other")}, "", one.tag, GOVERNOR)
            await one.heard.until(lambda: one.text() == "by other")
            both = await asyncio.gather(one.put("A"), other.put("B"), return_exceptions=True)
            assert sorted(type(each).__name__ for each in both) == ["Published", "StaleRevision"]
            await one.heard.until(lambda: one.number == 4)
            await other.heard.until(lambda: other.number == 4)
            assert one.text() == other.text()
            assert one.policies.revisions == other.policies.revisions

    async def test_on_one_sqlite_file_they_converge(self, seed, url):
        await self.converge(url, seed)

    @pytest.mark.stores
    async def test_on_one_postgresql_they_converge(self, seed, shared):
        await self.converge(shared, seed)


async def test_what_this_program_cannot_load_leaves_the_last_good_set_and_keeps_another_from_starting(seed, url):
    async with node(url, seed, follow=True) as running:
        await running.put("two")
        newer = {"base.yaml": document(text="three", sometimeLater={"a": 1})}
        note = AuditNote("newer", "governor", "policy.publish")
        await running.store.revisions.publish(newer, files_hash(newer), "newer", "", 2, note, 1.0)
        await running.heard.until(lambda: running.heard.refused)
        assert "base.yaml" in running.heard.refused[0]
        assert (running.number, running.text()) == (2, "two")
        assert len(running.heard.refused) == 1
        with pytest.raises(ConfigError, match=r"revision 3 .* cannot be put in force by this program") as caught:
            async with node(url):
                pass
        assert "relay policy export" in str(caught.value)
        assert "spec" in str(caught.value)


async def test_files_that_were_changed_in_the_database_are_not_put_in_force(seed, url):
    async with node(url, seed) as only:
        changed = json.dumps({"base.yaml": document(text="by nobody")})
        await only.store.database.run(lambda c: c.execute(update(POLICY_REVISIONS).values(files=changed)))
        with pytest.raises(ConfigError, match="not those it was published with"):
            async with node(url):
                pass


async def test_an_outage_of_the_store_is_told_once_and_over_when_it_is(seed, url, monkeypatch):
    async with node(url, seed, follow=True) as only:
        listed = only.store.revisions.list
        asked = 0

        async def away(*_: object) -> None:
            nonlocal asked
            asked += 1
            only.heard._news.set()
            raise StoreError("OperationalError")

        monkeypatch.setattr(only.store.revisions, "list", away)
        await only.heard.until(lambda: asked > 3)
        assert only.heard.warned == ["policies_not_followed"]
        monkeypatch.setattr(only.store.revisions, "list", listed)
        async with node(url) as other:
            await other.put("two")
        await only.heard.until(lambda: only.text() == "two")


async def test_sets_too_large_never_reach_the_checker(seed, url):
    async with node(url, seed) as only:
        for files in ({"a.md": "x" * 524_289}, {f"{n}.md": "" for n in range(513)}, {"../a.yaml": ""}):
            with pytest.raises(UnfitFiles):
                await only.governance.publish(files, "", only.tag, GOVERNOR)
        assert tag_of(await only.store.revisions.head()) == only.tag  # type: ignore[arg-type]
