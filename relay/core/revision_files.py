"""The files of one revision: which there may be, how they are told apart, and what is told of their faults. Pure.

A revision is the whole set, `{path: text}`: the documents, `*.yaml` directly in it, and the texts of instructions that
they name. A path is a name below a directory that does not exist, so it is held to what every disk can have.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from relay.core.policy_check import Kind, Problem, Severity
from relay.core.stored import FILES_MOST_BYTES, Revision

FILE_MAX_BYTES = 524_288
MOST_FILES = 512
DOCUMENT_SUFFIXES = (".yaml", ".yml")
SUFFIXES = (*DOCUMENT_SUFFIXES, ".md", ".txt")
_MOST_PATH = 200
_MOST_PARTS = 8
# No leading dot: those names are passed over in directories, and `..` leads out of them. No leading `-`: an option.
_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")
# Names of Windows' devices, with any suffix; an exported set is to be a directory on any machine.
_DEVICE = re.compile(r"(?:con|prn|aux|nul|com[0-9]|lpt[0-9])(?:\..*)?", re.IGNORECASE)
_TAG_DIGITS = 12
# A path beyond it, or with white space in it, is no field's name but text that slipped into a key's place.
_MOST_FIELD = 200


class UnfitFiles(Exception):  # noqa: N818 - a refusal that a door turns into 400 or 413
    """Files that can be no revision. The message names the path and the fault; `too_large`: it is their size."""

    def __init__(self, message: str, *, too_large: bool = False) -> None:
        super().__init__(message)
        self.too_large = too_large


class NotThere(Exception):  # noqa: N818 - a refusal that a door turns into 404
    """No such file, or no such revision."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One problem of a set, as it is told to whoever wrote it; quotes no instructions. `line` 0: not known."""

    file: str
    line: int
    path: str
    message: str
    severity: Severity


def require_path(path: str) -> None:
    """Raise UnfitFiles for a path that no file of a revision can have."""
    parts = path.split("/")
    if len(path) > _MOST_PATH or len(parts) > _MOST_PARTS:
        raise UnfitFiles("a path is too long")
    if any(_PART.fullmatch(part) is None or part.endswith(".") or _DEVICE.fullmatch(part) for part in parts):
        words = "is not a path of a file: names of letters, digits, _, - and ., below no other than such names"
        raise UnfitFiles(f"{path!a} {words}")
    if not path.endswith(SUFFIXES):
        raise UnfitFiles(f"{path}: ends in none of {', '.join(SUFFIXES)}")


def require_fit(files: Mapping[str, str]) -> None:
    """Raise UnfitFiles for files that can be no revision, whatever the documents say."""
    if len(files) > MOST_FILES:
        raise UnfitFiles(f"more than {MOST_FILES} files", too_large=True)
    for path, text in files.items():
        require_path(path)
        try:
            size = len(text.encode())
        except UnicodeEncodeError:
            raise UnfitFiles(f"{path}: holds half a surrogate pair") from None
        if "\0" in text:
            raise UnfitFiles(f"{path}: holds a NUL")
        if size > FILE_MAX_BYTES:
            raise UnfitFiles(f"{path}: larger than {FILE_MAX_BYTES} bytes", too_large=True)
    _require_distinct(files)
    if len(_canonical(files)) > FILES_MOST_BYTES:
        raise UnfitFiles(f"larger than {FILES_MOST_BYTES} bytes in all", too_large=True)


def files_hash(files: Mapping[str, str]) -> str:
    """SHA-256 of the whole set in canonical form: the same files have the same hash, in any order."""
    return hashlib.sha256(_canonical(files)).hexdigest()


def tag_of(revision: Revision) -> str:
    """What names a revision where one is expected: its number and the beginning of its hash, `7-9f2c0a1b2c3d`."""
    return f"{revision.number}-{revision.hash[:_TAG_DIGITS]}"


def laid_over(files: Mapping[str, str], changes: Mapping[str, str | None]) -> dict[str, str]:
    """The files with some of them changed; None takes one away. Raises NotThere for one that is not there.

    In order of path, as documents are read.
    """
    whole = dict(files)
    for path, text in changes.items():
        if text is None:
            if whole.pop(path, None) is None:
                raise NotThere
        else:
            whole[path] = text
    return dict(sorted(whole.items()))


def is_document(path: str) -> bool:
    """Whether it is read as documents; below the first level everything is text."""
    return "/" not in path and path.lower().endswith(DOCUMENT_SUFFIXES)


def finding(problem: Problem) -> Finding:
    """A problem as its author is told: everything that helps, but no words of instructions or of what is planted."""
    is_field = len(problem.path) <= _MOST_FIELD and not re.search(r"\s", problem.path)
    path = problem.path if is_field else problem.public_path
    # Words about planted words and about braces in the text quote them.
    quotes = path.startswith("spec.canary") or (path == "spec.instructions.text" and problem.kind is Kind.RULES)
    told = problem.kind in (Kind.FILE, Kind.YAML) or problem.severity is Severity.WARNING or (is_field and not quotes)
    message = problem.message if told else problem.kind.value
    return Finding(problem.file, problem.line, path, message, problem.severity)


def _require_distinct(files: Mapping[str, str]) -> None:
    """No two names that are one on some disk, and none that is file and directory at once."""
    seen: dict[str, str] = {}
    for path in files:
        other = seen.setdefault(path.lower(), path)
        if other != path:
            raise UnfitFiles(f"{path} and {other} differ in capitals alone")
    for lower, path in seen.items():
        parts = lower.split("/")
        for length in range(1, len(parts)):
            if (above := "/".join(parts[:length])) in seen:
                raise UnfitFiles(f"{seen[above]} is a file, and {path} lies below it")


def _canonical(files: Mapping[str, str]) -> bytes:
    return json.dumps(dict(files), ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()
