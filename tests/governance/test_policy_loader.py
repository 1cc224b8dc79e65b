"""The process that checks policies: warm, replaced when it is lost, and never left behind."""

from __future__ import annotations

import asyncio

import pytest
from support.governing import DEFAULTS
from support.policies import document

from relay.errors import ConfigError
from relay.policy_files import check_policies
from relay.policy_loader import LoaderBusy, PolicyLoader
from relay.policy_loading import load
from relay.policy_revision import check_files, files_at, findings

GOOD = {"base.yaml": document()}


@pytest.fixture
async def loader():
    made = PolicyLoader(DEFAULTS, most=2)
    yield made
    await made.close()


async def test_one_process_answers_all_and_says_what_a_directory_would(loader, tmp_path):
    (tmp_path / "base.yaml").write_text(GOOD["base.yaml"])
    outcome = await loader.load(GOOD)
    process = loader._process
    assert outcome.loaded.revisions == load(str(tmp_path), DEFAULTS).revisions
    refused = await loader.load({"base.yaml": "spec: ["})
    assert refused.loaded is None
    assert [(found.file, found.line) for found in refused.findings] == [("base.yaml", 1)]
    assert loader._process is process


async def test_one_that_was_lost_is_replaced(loader):
    await loader.load(GOOD)
    lost = loader._process
    lost.kill()
    await lost.wait()
    with pytest.raises(ConfigError, match="failed"):
        await loader.load(GOOD)
    assert (await loader.load(GOOD)).loaded is not None
    assert loader._process is not lost


async def test_who_waits_no_longer_has_it_ended_and_more_than_may_wait_are_turned_away(loader):
    await loader.load(GOOD)
    process = loader._process
    async with loader._turn:
        waiting = [asyncio.create_task(loader.load(GOOD)) for _ in range(2)]
        while loader._waiting < 2:  # noqa: ASYNC110 - two turns of the loop, and nothing tells
            await asyncio.sleep(0)
        with pytest.raises(LoaderBusy):
            await loader.load(GOOD)
    await asyncio.gather(*waiting)
    loader._seconds = 0
    with pytest.raises(ConfigError, match="not checked within"):
        await loader.load(GOOD)
    assert process.returncode is not None
    assert loader._process is None


@pytest.mark.parametrize(
    "files",
    [
        {"base.yaml": document(), "note.txt": "nobody reads this"},
        {"base.yaml": "\ufeff" + document(instructions={"file": "prompts/a.md"}), "prompts/a.md": "\ufefftext"},
        {"base.yaml": document(instructions={"file": "./prompts//a.md"}), "prompts/a.md": "text"},
        {"base.yaml": document(instructions={"file": "../a.md"}), "a.md": "text"},
        {"base.yaml": document(instructions={"file": "gone.md"})},
        {"base.yaml": document(instructions={"file": "a.md"}), "a.md": "x" * 70_000},
        {"base.yaml": document(), "other.yaml": document("other")},
        {"base.yaml": document(), "below/other.yaml": document("other")},
        {"base.yaml": "# nothing\n"},
        {"base.txt": document()},
    ],
)
def test_a_set_is_judged_as_the_directory_with_its_files(tmp_path, files):
    for path, text in files.items():
        place = tmp_path / path
        place.parent.mkdir(exist_ok=True)
        place.write_text(text)
    of_files, of_disk = check_files(files), check_policies(str(tmp_path))
    words = [str(problem).replace(f"{tmp_path}/", "") for problem in of_disk.problems]
    if of_files.documents or of_files.errors == ():
        assert [str(problem) for problem in of_files.problems] == words
    assert bool(of_files.errors) == bool(of_disk.errors)
    assert [each.spec for each in of_files.documents] == [each.spec for each in of_disk.documents]
    if not of_files.errors:
        assert (
            files_at(str(tmp_path)).items()
            <= {path: text.removeprefix("\ufeff") for path, text in files.items()}.items()
        )


RESULT = {"result": {"session.instructions": "x"}}


def test_findings_quote_no_instructions():
    text = "PLANTED-41c7 never say this"
    shaky = "\n".join(f"{text} {number}: [" for number in range(3))
    sets = [
        document(text=f"{{{{{text}}}}}"),
        document(canary={"words": text}),
        document(canary={"words": ["a"], "action": text}),
        document(**{text: {}}),
        document(tests=[{"name": "t", "mint": {"type": "realtime"}, "expect": RESULT}], text=text),
        f"spec:\n  instructions:\n    text: |\n  {shaky}",
    ]  # fmt: skip
    for broken in sets:
        checked = check_files({"base.yaml": broken})
        assert checked.errors
        assert "41c7" not in repr(findings(checked)), broken
