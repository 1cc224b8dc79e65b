"""The documents of a revision, read from its files as values: the same that a directory with these files would give."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from relay.core.policy_check import Problem, Severity
from relay.core.policy_document import PolicyDocument, UnreadableText
from relay.core.policy_schema import INSTRUCTIONS_MAX_BYTES
from relay.core.policy_tests import ExampleResult
from relay.core.revision_files import Finding, UnfitFiles, finding, is_document, require_fit
from relay.errors import ConfigError
from relay.policy_files import (
    MAX_DOCUMENTS,
    MAX_FILES,
    CheckedPolicies,
    check_documents,
    read_policies,
    read_text,
    text_path,
)

_BYTE_ORDER_MARK = "\ufeff"


def check_files(files: Mapping[str, str], regions: Sequence[str] | None = None) -> CheckedPolicies:
    """Read, lint and test the documents of a set, for a pool with these regions.

    No disk is touched, and problems name files as the set does.
    """
    documents: list[PolicyDocument] = []
    problems: list[Problem] = []
    names = sorted(path for path in files if is_document(path))
    if not names:
        problems.append(Problem(Severity.ERROR, "there is no *.yaml"))
    if len(names) > MAX_FILES:
        problems.append(Problem(Severity.ERROR, f"more than {MAX_FILES} files of documents"))
    for name in names[:MAX_FILES]:
        text = files[name].removeprefix(_BYTE_ORDER_MARK)
        read_text(text, name, lambda named: _instructions(files, named), documents, problems)
    if len(documents) > MAX_DOCUMENTS:
        problems.append(Problem(Severity.ERROR, f"more than {MAX_DOCUMENTS} documents"))
    if not documents and not problems:
        problems.append(Problem(Severity.ERROR, "there is no document"))
    return check_documents(tuple(documents), problems, regions=regions)


def findings(checked: CheckedPolicies) -> tuple[Finding, ...]:
    """All that is wrong with a set, errors first, then by file and line."""
    found = [finding(problem) for problem in checked.problems]
    found += [_of_test(test) for test in checked.tests if not test.passed]
    return tuple(sorted(found, key=lambda one: (one.severity is not Severity.ERROR, one.file, one.line)))


def files_at(path: str) -> dict[str, str]:
    """The files of a set that lies on a disk: its documents, and the texts they name. Raises ConfigError.

    What the documents say is not judged here, but a file that cannot be read is an error: left out in silence, its
    sessions would fall to another document.
    """
    place = Path(path)
    root = place if place.is_dir() else place.parent
    files: dict[str, str] = {}

    def keep(file: Path, text: str) -> None:
        files[file.relative_to(root).as_posix()] = text

    _, problems = read_policies(path, keep)
    kept = {str(root / name) for name in files}
    if unread := [problem.public for problem in problems if problem.file not in kept]:
        raise ConfigError("\n".join(unread))
    try:
        require_fit(files)
    except UnfitFiles as error:
        raise ConfigError(f"{path}: {error}") from None
    return files


def _instructions(files: Mapping[str, str], name: str) -> str:
    text = files.get(text_path(name).as_posix())
    if text is None:
        raise UnreadableText("there is no such file")
    text = text.removeprefix(_BYTE_ORDER_MARK)
    if len(text.encode()) > INSTRUCTIONS_MAX_BYTES:
        raise UnreadableText(f"is larger than {INSTRUCTIONS_MAX_BYTES} bytes")
    return text


def _of_test(test: ExampleResult) -> Finding:
    """The test's name, and where it is: what differs may quote instructions that an event was rewritten with."""
    severity = Severity.ERROR if test.binding else Severity.WARNING
    where = f" on {test.tried_on}" if test.tried_on else ""
    words = f"the test {test.name!r} of {test.document}{where} {'fails' if test.binding else 'does not hold here'}"
    return Finding(test.file, test.line, "spec.tests", words, severity)
