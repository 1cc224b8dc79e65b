"""`relay policy import` and `export`: the store's policies as files, and back."""

from __future__ import annotations

import asyncio
import json

import pytest
from support.policies import document, put

from relay.cli import main
from relay.core.revision_files import files_hash
from relay.core.stored import AuditNote
from relay.store import open_store


@pytest.fixture
def state(tmp_path, monkeypatch):
    monkeypatch.setenv("RELAY_STATE_DIRECTORY", str(tmp_path / "state"))
    monkeypatch.setenv("RELAY_POLICY_MANAGED", "true")
    return tmp_path / "state"


def run(*words: object) -> int:
    return main(["policy", *map(str, words)])


def files_below(directory):
    return {path.relative_to(directory).as_posix(): path.read_text() for path in directory.rglob("*") if path.is_file()}


def test_what_is_imported_is_exported_again(tmp_path, state, capsys):
    directory = put(tmp_path / "in", base=document(instructions={"file": "prompts/a.md"}))
    (directory / "prompts").mkdir()
    (directory / "prompts" / "a.md").write_text("first\r\n")
    assert run("import", directory, "--note", "begin") == 0
    (directory / "prompts" / "a.md").write_text("second")
    assert run("import", directory, "--note", "change") == 0
    assert run("export", tmp_path / "out") == 0
    assert files_below(tmp_path / "out") == files_below(directory)
    assert run("export", tmp_path / "old", "--revision", 1) == 0
    assert (tmp_path / "old" / "prompts" / "a.md").read_bytes() == b"first\r\n"
    assert (tmp_path / "old").stat().st_mode & 0o777 == 0o700
    assert run("export", tmp_path / "none", "--revision", 9) == 1
    assert run("export", tmp_path / "out") == 3
    assert "no empty directory" in capsys.readouterr().err

    async def noted() -> list[tuple[str, str]]:
        store = await open_store(f"sqlite:///{state}/relay.db")
        rows = list(reversed(await store.audit.search()))
        await store.close()
        return [(row.note.actor.partition(":")[0], row.note.body["note"]) for row in rows]

    assert asyncio.run(noted()) == [("cli", "begin"), ("cli", "change")]


def test_what_a_relay_would_not_take_is_not_imported(tmp_path, state, capsys):
    directory = put(tmp_path / "in", base=document(instructionz={}))
    assert run("import", directory, "--note", "x") == 1
    assert "base.yaml:14: error: spec.instructionz: unknown key" in capsys.readouterr().err
    assert run("export", tmp_path / "out") == 1
    with pytest.raises(SystemExit):
        run("import", directory, "--note", " ")


def test_without_a_store_that_lasts_there_is_nothing_to_do(tmp_path, capsys):
    assert run("export", tmp_path / "out") == 3
    assert "state.directory" in capsys.readouterr().err


def test_nothing_in_the_database_is_written_outside_of_the_directory(tmp_path, state, capsys):
    async def hostile() -> None:
        store = await open_store(f"sqlite:///{state}/relay.db")
        files = {"../escaped.yaml": json.dumps({})}
        await store.revisions.publish(
            files, files_hash(files), "x", "", None, AuditNote("x", "", "policy.publish"), 1.0
        )
        await store.close()

    asyncio.run(hostile())
    assert run("export", tmp_path / "out") == 3
    assert not (tmp_path / "escaped.yaml").exists()
    assert not (tmp_path / "out").exists()
