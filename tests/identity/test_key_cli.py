"""`relay key …` on a store of its own: the first administrator, a tenant's key, their end, and the record of it."""

from __future__ import annotations

import asyncio
import json
import os

import pytest

from relay.cli import main
from relay.core.stored import KeyKind
from relay.identity.keys import KeyRing, digest_of
from relay.store import open_store

FAR = 4_000_000_000.0


@pytest.fixture(autouse=True)
def state(monkeypatch, tmp_path):
    for name in [name for name in os.environ if name.startswith("RELAY_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("RELAY_STATE_DIRECTORY", str(tmp_path / "state"))
    return tmp_path / "state"


@pytest.fixture
def stored(state):
    """Ask the store that the commands wrote to."""

    def ask(work):
        async def run():
            store = await open_store(f"sqlite:///{state}/relay.db")
            try:
                return await work(store)
            finally:
                await store.close()

        return asyncio.run(run())

    return ask


def key(capsys, *arguments):
    """The exit code, and what was printed for programs and for people."""
    code = main(["key", *arguments])
    out, err = capsys.readouterr()
    return code, out, err


def test_the_first_administrator_is_made_without_a_relay(capsys, stored, state):
    code, out, err = key(capsys, "create", "--kind", "admin", "--name", "ann", "--role", "owner")
    made = out.strip()
    assert code == 0
    assert made.startswith("rk_")
    assert "all tenants  open" in err
    assert made not in err
    row = stored(lambda store: KeyRing(store.keys).find(made, KeyKind.ADMIN, FAR))
    assert (row.name, row.role, row.tenant) == ("ann", "owner", None)
    assert row.created_by.startswith("command line ")
    everything = b"".join(path.read_bytes() for path in state.iterdir())
    assert made.encode() not in everything
    assert digest_of(made).encode() in everything


def test_a_tenants_key_is_listed_replaced_and_revoked_and_all_of_it_is_on_record(capsys, stored):
    _, out, _ = key(capsys, "create", "--kind", "tenant", "--tenant", "sales", "--name", "backend", "--days", "30",
                    "--json")  # fmt: skip
    old = json.loads(out)
    assert (old["tenant"], old["role"], round(old["expires_at"] - old["created_at"])) == ("sales", None, 30 * 86_400)
    _, out, _ = key(capsys, "rotate", old["id"], "--overlap", "60", "--json")
    new = json.loads(out)
    assert (new["name"], new["tenant"]) == ("backend", "sales")
    assert new["key"] != old["key"]
    assert stored(lambda store: store.keys.get(old["id"])).expires_at < old["expires_at"]
    assert key(capsys, "revoke", old["id"])[0] == 0
    assert stored(lambda store: KeyRing(store.keys).find(old["key"], KeyKind.TENANT, 0.0)) is None
    assert stored(lambda store: KeyRing(store.keys).find(new["key"], KeyKind.TENANT, 0.0)).id == new["id"]
    _, out, _ = key(capsys, "list", "--tenant", "sales")
    assert [("open" in line, "revoked" in line) for line in out.splitlines()] == [(True, False), (False, True)]
    assert old["key"] not in out
    notes = [row.note for row in stored(lambda store: store.audit.search())]
    assert sorted(note.action for note in notes) == ["key.create", "key.revoke", "key.rotate"]
    assert old["key"] not in repr(notes)


@pytest.mark.parametrize(
    "arguments",
    [
        ["create", "--kind", "tenant", "--name", "backend"],
        ["create", "--kind", "tenant", "--name", "backend", "--tenant", "sales", "--role", "owner"],
        ["create", "--kind", "admin", "--name", "ann"],
    ],
)
def test_what_does_not_go_together_is_said(capsys, arguments):
    code, out, err = key(capsys, *arguments)
    assert (code, out) == (3, "")
    assert "needs --" in err


@pytest.mark.parametrize("tenant", ["*", "", "a b", "t" * 129])
def test_a_tenant_that_no_token_could_name_has_no_key(capsys, tenant):
    code, out, err = key(capsys, "create", "--kind", "tenant", "--name", "backend", "--tenant", tenant)
    assert (code, out) == (1, "")
    assert err.startswith("tenant: ")


def test_a_key_that_is_not_there(capsys):
    for verb in ("revoke", "rotate"):
        code, out, err = key(capsys, verb, "key_nothing")
        assert (code, out) == (1, "")
        assert "relay key list" in err


def test_a_store_in_memory_is_no_place_for_keys(capsys, monkeypatch):
    monkeypatch.delenv("RELAY_STATE_DIRECTORY")
    assert key(capsys, "list")[0] == 3
