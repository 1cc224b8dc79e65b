"""Which files a revision may have: nothing that leads out of it, is hidden, or is two files on some disk."""

from __future__ import annotations

import pytest

from relay.core.revision_files import (
    FILE_MAX_BYTES,
    MOST_FILES,
    NotThere,
    UnfitFiles,
    files_hash,
    laid_over,
    require_fit,
    require_path,
)


@pytest.mark.parametrize("path", ["base.yaml", "prompts/a.md", "A-1_b.c.yml", "a/b/c/d/e/f/g/h.txt", "_x.yaml"])
def test_plain_paths_are_fit(path):
    files = {path: "text"}
    require_fit(files)
    assert files_hash(files) != files_hash({"other.yaml": "text"})


@pytest.mark.parametrize(
    "path",
    [
        "", "/", "/etc/passwd.md", "../a.yaml", "a/../b.yaml", "a/./b.yaml", "./a.yaml", "a//b.yaml", "a/", ".a.yaml",
        "a/.git/b.md", "..", "a\\b.yaml", "..\\a.yaml", "C:a.yaml", "a\0.yaml", "a\n.yaml", "a b.yaml", "-rf.yaml",
        "a.yaml.", "a./b.yaml", "nul.md", "prompts/COM1.txt", "\uff41.yaml", "a\u202e.yaml", "~/a.yaml",
        "%2e%2e/a.yaml",
        "a.sh", "KILL", "a", "a.yaml/", "x" * 101 + ".yaml", "/".join("a" * 9) + ".yaml",
        "a" * 99 + "/" + "b" * 99 + ".md",
        "a.YAML", "\ud800.yaml",
    ],
)  # fmt: skip
def test_hostile_paths_are_not(path):
    with pytest.raises(UnfitFiles) as caught:
        require_path(path)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 1_500


@pytest.mark.parametrize(
    ("files", "too_large"),
    [
        ({"a.md": "x" * (FILE_MAX_BYTES + 1)}, True),
        ({"a.md": "\N{SNOWMAN}" * (FILE_MAX_BYTES // 3 + 1)}, True),
        ({f"{number}.md": "" for number in range(MOST_FILES + 1)}, True),
        ({f"{number}.md": "x" * FILE_MAX_BYTES for number in range(17)}, True),
        ({"a.md": "\ud800"}, False),
        ({"a.md": "a\0b"}, False),
        ({"a.md": "", "A.md": ""}, False),
        ({"a.md": "", "a.md/b.md": ""}, False),
        ({"A.md": "", "a.md/b/c.md": ""}, False),
    ],
)
def test_sets_that_no_disk_and_no_store_can_hold_are_refused(files, too_large):
    with pytest.raises(UnfitFiles) as caught:
        require_fit(files)
    assert caught.value.too_large is too_large


def test_the_hash_is_of_the_content_in_any_order():
    assert files_hash({"a.md": "1", "b.md": "2"}) == files_hash({"b.md": "2", "a.md": "1"})
    assert files_hash({"a.md": "12", "b.md": ""}) != files_hash({"a.md": "1", "b.md": "2"})


def test_changes_are_laid_over_and_what_is_not_there_cannot_be_taken_away():
    assert list(laid_over({"b.md": "", "c.md": "1"}, {"a.md": "2", "c.md": None})) == ["a.md", "b.md"]
    assert laid_over({"b.md": ""}, {"b.md": None}) == {}
    with pytest.raises(NotThere):
        laid_over({}, {"a.md": None})
