"""`relay store …` on the command line."""

from __future__ import annotations

import asyncio
import json

import pytest
from sqlalchemy import text

from relay.cli import ExitCode, main
from relay.core.stored import AuditNote
from relay.store import open_store
from relay.store.migrate import NEWEST


@pytest.fixture
def state(tmp_path, monkeypatch):
    for name in ("RELAY_CONFIG", "RELAY_STORE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RELAY_STATE_DIRECTORY", str(tmp_path))
    return tmp_path


async def fill(directory, statement=None):
    store = await open_store(f"sqlite:///{directory}/relay.db")
    for number in range(4):
        row = await store.audit.append(AuditNote("ada", "owner", "test.change", target=str(number)))
    if statement:
        await store.database.run(lambda connection: connection.execute(text(statement)))
    await store.close()
    return row.hash


def test_a_store_is_made_and_looked_at(state, capsys):
    assert main(["store", "check"]) == ExitCode.CONFIGURATION
    assert "not there yet" in capsys.readouterr().err
    assert not (state / "relay.db").exists()
    assert main(["store", "migrate"]) == 0
    assert main(["store", "check", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert shown == {
        "kind": "sqlite",
        "place": str(state / "relay.db"),
        "form": NEWEST,
        "newest": NEWEST,
        "ready": True,
        "writable": True,
        "durable": True,
    }


def test_a_store_of_an_older_form_is_not_ready(state, capsys):
    head = "UPDATE alembic_version SET version_num = '0001'"
    asyncio.run(fill(state, head))
    assert main(["store", "check"]) == ExitCode.FAILED
    assert "relay store migrate" in capsys.readouterr().err
    assert main(["store", "audit-verify"]) == ExitCode.CONFIGURATION


def test_an_audit_log_proves_itself_up_to_a_head(state, capsys):
    head = asyncio.run(fill(state))
    assert main(["store", "audit-verify", "--head", f"4:{head}"]) == 0
    assert capsys.readouterr().out == "4 rows, a whole chain\n"
    asyncio.run(fill(state, "DELETE FROM audit WHERE number >= 4"))
    # Cut off at its end it is a whole chain still, but for the head.
    assert main(["store", "audit-verify"]) == 0
    assert main(["store", "audit-verify", "--head", f"4:{head}", "--json"]) == 1
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["missing_heads"] == [4]
    asyncio.run(fill(state, "UPDATE audit SET actor = 'eve' WHERE number = 2"))
    assert main(["store", "audit-verify"]) == 1
    assert "broken at row 2" in capsys.readouterr().out


def test_without_a_place_there_is_nothing_to_look_at(monkeypatch, capsys):
    for name in ("RELAY_CONFIG", "RELAY_STORE_URL", "RELAY_STATE_DIRECTORY"):
        monkeypatch.delenv(name, raising=False)
    assert main(["store", "check"]) == ExitCode.CONFIGURATION
    assert "neither store.url nor state.directory" in capsys.readouterr().err
