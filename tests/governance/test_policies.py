"""The policies in force: loaded whole or not at all, seen to change, asked at every door."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from support.policies import ConfigMap, document, put
from support.resources import settled

from relay.core.kill_switch import KillSwitch, parse_kill_switch
from relay.core.policy_resolve import Identity, PolicyRequest, ServiceDefaults
from relay.errors import ApiError, ConfigError, ErrorCode
from relay.policies import Policies, PolicySet, documents_at
from relay.policy_loading import load, load_apart

ALICE = Identity(subject_hash="alice")
DEFAULTS = ServiceDefaults("contoso-rt", "contoso-transcribe")


class Listener:
    """Remembers what it is told."""

    def __init__(self) -> None:
        self.loaded: list[dict[str, str]] = []
        self.refused: list[str] = []
        self.switches: list[KillSwitch] = []
        self.unresolved: list[str] = []
        self.changes = 0
        self._news = asyncio.Event()

    def policies_loaded(self, revisions: Any, warnings: tuple[str, ...]) -> None:
        self.loaded.append(dict(revisions))
        self._news.set()

    def policies_refused(self, problems: str) -> None:
        self.refused.append(problems)
        self._news.set()

    def kill_switch_changed(self, switch: KillSwitch, unknown: tuple[str, ...]) -> None:
        self.switches.append(switch)
        self.unknown = unknown
        self._news.set()

    def policy_unresolved(self, reason: str, detail: str) -> None:
        self.unresolved.append(reason)

    def changed(self) -> None:
        self.changes += 1
        self._news.set()

    async def until(self, wanted: Callable[[], Any]) -> None:
        async with asyncio.timeout(15):
            while not wanted():
                self._news.clear()
                await self._news.wait()


@contextlib.asynccontextmanager
async def live(path: Path, **options: Any) -> AsyncIterator[tuple[Policies, Listener]]:
    listener = Listener()
    policies = Policies(documents_at(str(path), DEFAULTS), str(path), listener, poll_seconds=0.02, **options)
    policies.on_change = listener.changed
    watches = [asyncio.create_task(policies.watch()), asyncio.create_task(policies.watch_switch())]
    try:
        yield policies, listener
    finally:
        for watch in watches:
            watch.cancel()
        await asyncio.gather(*watches, return_exceptions=True)


def text_of(policies: Policies, identity: Identity = ALICE, model: str | None = None) -> str:
    return policies.admit(identity, model).instructions.text


def refusal(policies: Policies, identity: Identity = ALICE, model: str | None = None) -> tuple[int, ErrorCode]:
    with pytest.raises(ApiError) as caught:
        policies.admit(identity, model)
    assert "contoso" not in caught.value.message
    return caught.value.status, caught.value.code


async def test_a_directory_is_loaded_and_a_changed_file_takes_its_place(tmp_path):
    put(tmp_path, base=document(text="one"))
    async with live(tmp_path) as (policies, listener):
        assert text_of(policies) == "one"
        put(tmp_path, base=document(text="two"))
        await listener.until(lambda: len(listener.loaded) == 2)
        assert text_of(policies) == "two"
        assert listener.changes == 1
        assert listener.loaded[0]["base"] != listener.loaded[1]["base"]


async def test_a_swapped_configmap_is_seen(tmp_path):
    mounted = ConfigMap(tmp_path / "policies")
    mounted.update(base=document(text="one"))
    async with live(mounted.directory) as (policies, listener):
        mounted.update(base=document(text="two"))
        await listener.until(lambda: len(listener.loaded) == 2)
        assert text_of(policies) == "two"


async def test_a_file_of_instructions_below_the_documents_is_watched_too(tmp_path):
    (tmp_path / "prompts").mkdir()
    (tmp_path / "prompts" / "a.md").write_text("one")
    whole = document().replace('"text": "CANARY-7f3a. You are Contoso\'s assistant. Never give legal advice."',
                               '"file": "prompts/a.md"')  # fmt: skip
    put(tmp_path, base=whole)
    async with live(tmp_path) as (policies, listener):
        assert text_of(policies) == "one"
        (tmp_path / "prompts" / "a.md").write_text("two")
        await listener.until(lambda: len(listener.loaded) == 2)
        assert text_of(policies) == "two"


@pytest.mark.parametrize(
    "broken",
    [
        "spec: [",
        document(instructionz={}),
        document(name="other"),
        document(tests=[{"name": "wrong", "client": {"type": "response.cancel"}, "expect": {"decision": "refuse"}}]),
        document(text="{{claim.department}} {{nonsense"),
    ],
    ids=["yaml", "schema", "lint", "own test", "variables"],
)
async def test_what_is_wrong_leaves_the_last_good_set_with_the_reason_told(tmp_path, broken):
    put(tmp_path, base=document(text="one"))
    async with live(tmp_path) as (policies, listener):
        # A second default document is an error of the whole set, the others of the file itself.
        put(tmp_path, **({"other": broken} if '"other"' in broken else {"base": broken}))
        await listener.until(lambda: listener.refused)
        assert text_of(policies) == "one"
        assert listener.changes == 0
        assert ".yaml" in listener.refused[0] or "wrong" in listener.refused[0]
        for path in tmp_path.glob("*.yaml"):
            path.unlink()
        put(tmp_path, base=document(text="two"))
        await listener.until(lambda: len(listener.loaded) == 2)
        assert text_of(policies) == "two"


async def test_a_directory_that_vanishes_leaves_the_last_good_set(tmp_path):
    put(tmp_path / "policies", base=document(text="one"))
    async with live(tmp_path / "policies") as (policies, listener):
        (tmp_path / "policies").rename(tmp_path / "elsewhere")
        await listener.until(lambda: listener.refused)
        assert text_of(policies) == "one"


async def test_asked_to_it_reads_again_though_nothing_changed(tmp_path):
    put(tmp_path, base=document())
    async with live(tmp_path) as (policies, listener):
        policies.ask_reload()
        await listener.until(lambda: len(listener.loaded) == 2)
        assert not listener.refused


async def test_the_first_load_must_succeed_and_names_every_problem(tmp_path):
    put(tmp_path, one=document("one", instructionz={}), two="spec: [")
    with pytest.raises(ConfigError) as caught:
        Policies(documents_at(str(tmp_path), DEFAULTS), str(tmp_path), Listener())
    assert "one.yaml" in str(caught.value)
    assert "two.yaml" in str(caught.value)


async def test_no_policy_is_a_refusal_and_not_a_session_without_rules(tmp_path):
    put(tmp_path, base=document(match={"tenants": ["sales"]}))
    async with live(tmp_path) as (policies, listener):
        assert refusal(policies) == (403, ErrorCode.POLICY_VIOLATION)
        assert listener.unresolved == ["no_policy"]
        assert text_of(policies, Identity(tenant="sales"))


async def test_v016_v034_a_model_not_granted_and_one_that_exists_nowhere_are_refused_alike(tmp_path):
    upstream = {"default": "contoso-rt", "models": {"gpt-realtime": "contoso-rt"}, "unknown": "refuse"}
    put(tmp_path, base=document(upstream=upstream))
    async with live(tmp_path) as (policies, _):
        for model in ("contoso-rt-secret", "contoso-rt", "no-such-model"):
            assert refusal(policies, model=model) == (404, ErrorCode.MODEL_NOT_FOUND)
        assert policies.admit(ALICE, "gpt-realtime").deployment == "contoso-rt"
        assert policies.admit(ALICE, None).deployment == "contoso-rt"  # V017


async def test_a_key_for_pages_of_certain_origins_is_decided_when_the_page_comes(tmp_path):
    put(tmp_path, base=document(match={"origins": ["https://desk.example"]}))
    async with live(tmp_path) as (policies, _):
        assert policies.admit_key(ALICE, None) is None
        desk = Identity(origin="https://desk.example")
        assert policies.admit_key(desk, None) is not None
        assert text_of(policies, desk)
        for origin in (None, "https://evil.example"):
            assert refusal(policies, Identity(origin=origin)) == (403, ErrorCode.POLICY_VIOLATION)
        with pytest.raises(ApiError):
            policies.admit_key(Identity(origin="https://evil.example"), None)


async def test_the_kill_switch_waits_for_no_loading(tmp_path):
    class Slow:
        """Loads once, and then never again within this test."""

        def __init__(self) -> None:
            self.asked = asyncio.Event()

        def __call__(self) -> PolicySet:
            return documents_at(str(tmp_path), DEFAULTS)()

        async def apart(self) -> PolicySet:
            self.asked.set()
            await asyncio.Event().wait()
            raise AssertionError

    put(tmp_path, base=document())
    slow, listener = Slow(), Listener()
    policies = Policies(slow, str(tmp_path), listener, poll_seconds=0.02)
    watches = [asyncio.create_task(policies.watch()), asyncio.create_task(policies.watch_switch())]
    policies.ask_reload()
    await slow.asked.wait()
    (tmp_path / "KILL").write_text("all")
    await listener.until(lambda: listener.switches)
    assert refusal(policies) == (403, ErrorCode.POLICY_VIOLATION)
    for watch in watches:
        watch.cancel()
    await asyncio.gather(*watches, return_exceptions=True)


async def test_names_that_no_policy_knows_are_told(tmp_path):
    put(tmp_path, base=document(), sales=document("sales", match={"tenants": ["sales"]}))
    (tmp_path / "KILL").write_text("policy frist\npolicy base\ntenant sales\ntenant slaes\n")
    async with live(tmp_path) as (_, listener):
        assert listener.unknown == ("policy frist", "tenant slaes")


class Changing:
    """Loads documents that somebody changes while they are read, the first few times."""

    def __init__(self, path: Path, times: int) -> None:
        self._path, self._left = path, times

    def __call__(self) -> PolicySet:
        loaded = documents_at(str(self._path), DEFAULTS)()
        if self._left:
            self._left -= 1
            put(self._path, base=document(text=f"left {self._left}"))
        return loaded

    async def apart(self) -> PolicySet:
        return self()


async def test_what_changed_while_it_was_read_is_read_again(tmp_path):
    put(tmp_path, base=document(text="one"))
    policies = Policies(Changing(tmp_path, 2), str(tmp_path), Listener())
    assert text_of(policies) == "left 0"
    with pytest.raises(ConfigError, match="changes while it is read"):
        Policies(Changing(tmp_path, 99), str(tmp_path), Listener())


async def test_a_reload_takes_no_mixture_either(tmp_path):
    put(tmp_path, base=document(text="one"))
    listener, source = Listener(), Changing(tmp_path, 0)
    policies = Policies(source, str(tmp_path), listener, poll_seconds=0.02)
    source._left = 99
    watch = asyncio.create_task(policies.watch())
    policies.ask_reload()
    await listener.until(lambda: listener.refused)
    assert "changes while it is read" in listener.refused[0]
    assert text_of(policies) == "one"
    source._left = 0
    await listener.until(lambda: len(listener.loaded) == 2)
    watch.cancel()
    await asyncio.gather(watch, return_exceptions=True)


async def test_a_refused_reload_tells_nothing_of_the_documents(tmp_path):
    put(tmp_path, base=document())
    async with live(tmp_path) as (_, listener):
        put(tmp_path, base=document(canary={"words": "CANARY-7f3a"}))
        await listener.until(lambda: listener.refused)
        assert "base.yaml:" in listener.refused[0]
        assert "spec.canary.words" in listener.refused[0]
        assert "7f3a" not in listener.refused[0]


async def test_loading_apart_ends_with_who_waits_for_it(tmp_path):
    os.mkfifo(tmp_path / "prompt.md")
    put(tmp_path, base=document())
    before = children()
    loading = asyncio.create_task(load_apart(str(tmp_path), DEFAULTS))
    assert await settled(lambda: children() == before) is False
    loading.cancel()
    await asyncio.gather(loading, return_exceptions=True)
    assert children() == before
    with pytest.raises(ConfigError, match="not loaded within"):
        await load_apart(str(tmp_path), DEFAULTS, seconds=0)
    assert children() == before


def children() -> str:
    return "".join(path.read_text() for path in Path("/proc/self/task").glob("*/children"))


async def test_loaded_apart_they_are_the_same_and_without_their_tests(tmp_path):
    test = {"name": "t", "client": {"type": "response.cancel"}, "expect": {"decision": "forward"}}
    put(tmp_path, base=document(tests=[test]))
    apart = await load_apart(str(tmp_path), DEFAULTS)
    assert apart == load(str(tmp_path), DEFAULTS)
    assert apart.documents[0].tests == ()
    (tmp_path / "b.yaml").write_text("spec: [")
    with pytest.raises(ConfigError) as here:
        load(str(tmp_path), DEFAULTS)
    with pytest.raises(ConfigError) as there:
        await load_apart(str(tmp_path), DEFAULTS)
    assert str(here.value) == str(there.value)


async def test_the_deployments_of_the_settings_are_in_the_revision_where_documents_name_none(tmp_path):
    put(tmp_path, base=document())
    one, other = (documents_at(str(tmp_path), ServiceDefaults(name))() for name in ("one", "other"))
    assert one.revisions != other.revisions
    put(tmp_path, base=document(upstream={"default": "rt", "transcription": {"default": "tr"}}))
    one, other = (documents_at(str(tmp_path), ServiceDefaults(name))() for name in ("one", "other"))
    assert one.revisions == other.revisions
    assert one.revisions["base"] == one.resolve(ALICE, PolicyRequest()).revision


async def test_the_order_of_a_set_is_not_in_the_revision(tmp_path):
    found = []
    for names in (["user.input_text", "user.input_audio"], ["user.input_audio", "user.input_text"]):
        put(tmp_path, base=document(items={"allow": names}))
        found.append(documents_at(str(tmp_path), DEFAULTS)().revisions)
    assert found[0] == found[1]


async def test_the_kill_switch_works_at_once_even_beside_broken_documents(tmp_path):
    put(tmp_path, base=document())
    async with live(tmp_path) as (policies, listener):
        put(tmp_path, base="spec: [")
        (tmp_path / "KILL").write_text("")
        await listener.until(lambda: listener.switches)
        assert listener.switches == [KillSwitch(everybody=True)]
        assert listener.changes == 1
        assert refusal(policies) == (403, ErrorCode.POLICY_VIOLATION)
        (tmp_path / "KILL").unlink()
        await listener.until(lambda: len(listener.switches) == 2)
        assert text_of(policies)


async def test_the_kill_switch_stops_tenants_or_policies_alone(tmp_path):
    put(tmp_path, base=document(), sales=document("sales", match={"tenants": ["sales"]}))
    (tmp_path / "KILL").write_text("# since this morning\ntenant sales\n")
    sales = Identity(tenant="sales")
    async with live(tmp_path) as (policies, listener):
        assert refusal(policies, sales)
        assert text_of(policies, ALICE)
        (tmp_path / "KILL").write_text("policy base\n")
        await listener.until(lambda: len(listener.switches) == 2)
        assert refusal(policies, ALICE)
        assert text_of(policies, sales)


async def test_a_kill_file_beside_a_single_document_counts_and_one_that_cannot_be_read_stops_all(tmp_path):
    put(tmp_path, base=document())
    (tmp_path / "KILL").mkdir()
    async with live(tmp_path / "base.yaml") as (policies, _):
        assert policies.switch == KillSwitch(everybody=True)


@pytest.mark.parametrize(
    ("text", "switch"),
    [
        ("", KillSwitch(everybody=True)),
        ("\n# a word\n", KillSwitch(everybody=True)),
        ("all", KillSwitch(everybody=True)),
        ("tenant a\ntenant b # two\npolicy p", KillSwitch(False, frozenset("ab"), frozenset("p"))),
        ("tenant a\ntenants b", KillSwitch(True, frozenset("a"), frozenset())),
    ],
)
def test_a_kill_switch_in_doubt_stops(text, switch):
    assert parse_kill_switch(text) == switch


async def test_while_nothing_can_be_recorded_only_policies_that_allow_it_admit(tmp_path):
    put(tmp_path, base=document(), sales=document("sales", match={"tenants": ["sales"]}, onSinkFailure="fail_open"))
    recordable = True
    async with live(tmp_path, recordable=lambda: recordable) as (policies, _):
        assert text_of(policies)
        recordable = False
        assert refusal(policies) == (503, ErrorCode.DECISION_LOG_UNAVAILABLE)
        assert text_of(policies, Identity(tenant="sales"))


async def test_a_session_that_no_policy_covers_any_more_finds_none(tmp_path):
    put(tmp_path, base=document())
    async with live(tmp_path) as (policies, listener):
        assert policies.now_for(ALICE, None) is not None
        put(tmp_path, base=document(match={"tenants": ["sales"]}))
        await listener.until(lambda: len(listener.loaded) == 2)
        assert policies.now_for(ALICE, None) is None
