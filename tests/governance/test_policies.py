"""The policies in force: loaded whole or not at all, seen to change, asked at every door."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from support.policies import ConfigMap, document, put

from relay.core.kill_switch import KillSwitch, parse_kill_switch
from relay.core.policy_resolve import Identity, ServiceDefaults
from relay.errors import ApiError, ConfigError, ErrorCode
from relay.policies import Policies, documents_at

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

    def kill_switch_changed(self, switch: KillSwitch) -> None:
        self.switches.append(switch)
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
    watch = asyncio.create_task(policies.watch())
    try:
        yield policies, listener
    finally:
        watch.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watch


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
