"""Policy documents from a file or a directory: read, checked, linted, their own tests run.

In a directory every `*.yaml` and `*.yml` directly in it is read, in order of name, and one that cannot be read is an
error; names that begin with a dot are passed over (a mounted ConfigMap keeps its versions in such). Instructions may
lie below it in files of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from relay.core.policy_check import Problem, Severity
from relay.core.policy_document import PolicyDocument, UnreadableText, read_document
from relay.core.policy_lint import lint
from relay.core.policy_schema import INSTRUCTIONS_MAX_BYTES
from relay.core.policy_tests import ExampleResult, run_tests
from relay.core.revision_files import DOCUMENT_SUFFIXES, FILE_MAX_BYTES
from relay.errors import ConfigError
from relay.policy_yaml import read_yaml_documents

MAX_FILES = 256
MAX_DOCUMENTS = 512


@dataclass(frozen=True, slots=True)
class CheckedPolicies:
    """What lies at a path: the documents that could be read, all problems, the outcome of all embedded tests."""

    documents: tuple[PolicyDocument, ...]
    problems: tuple[Problem, ...] = ()
    tests: tuple[ExampleResult, ...] = ()

    @property
    def errors(self) -> tuple[str, ...]:
        """Why the documents cannot be put in force, one line each; empty when they can."""
        found = [str(problem) for problem in self.problems if problem.severity is Severity.ERROR]
        return (*found, *(str(test) for test in self.tests if test.binding and not test.passed))

    @property
    def public_errors(self) -> tuple[str, ...]:
        """The same in words that may stand in a log: nothing that a document says."""
        found = [problem.public for problem in self.problems if problem.severity is Severity.ERROR]
        return (*found, *(test.public for test in self.tests if test.binding and not test.passed))

    @property
    def warnings(self) -> tuple[str, ...]:
        """What an administrator should know of, one line each."""
        found = [str(problem) for problem in self.problems if problem.severity is Severity.WARNING]
        return (*found, *(str(test) for test in self.tests if not test.binding and not test.passed))

    @property
    def public_warnings(self) -> tuple[str, ...]:
        """The same in words that may stand in a log."""
        found = [problem.public for problem in self.problems if problem.severity is Severity.WARNING]
        return (*found, *(test.public for test in self.tests if not test.binding and not test.passed))


class PolicyLoadError(ConfigError):
    """Policies that cannot be put in force; one problem a line. `public` is what may stand in a log."""

    def __init__(self, checked: CheckedPolicies) -> None:
        super().__init__("\n".join(checked.errors))
        self.public = "\n".join(checked.public_errors)


def load_policies(
    path: str, deployments: Sequence[str] | None = None, regions: Sequence[str] | None = None
) -> CheckedPolicies:
    """The documents at a path, fit to be put in force. Raises PolicyLoadError with all that is wrong."""
    checked = check_policies(path, deployments, regions)
    if checked.errors:
        raise PolicyLoadError(checked)
    return checked


def check_policies(
    path: str, deployments: Sequence[str] | None = None, regions: Sequence[str] | None = None
) -> CheckedPolicies:
    """Read, lint and test what lies at a path. Documents with errors of form leave the later steps undone.

    Raises ConfigError where nothing can be told at all: no such path.
    """
    return check_documents(*read_policies(path), deployments, regions)


def check_documents(
    documents: tuple[PolicyDocument, ...],
    problems: Sequence[Problem],
    deployments: Sequence[str] | None = None,
    regions: Sequence[str] | None = None,
) -> CheckedPolicies:
    """Lint and test documents that were read, if nothing was wrong with their form."""
    if problems:
        return CheckedPolicies(documents, tuple(problems))
    problems = lint(documents, deployments, regions)
    if any(problem.severity is Severity.ERROR for problem in problems):
        return CheckedPolicies(documents, tuple(problems))
    return CheckedPolicies(documents, tuple(problems), tuple(run_tests(documents)))


def read_policies(
    path: str, on_text: Callable[[Path, str], None] = lambda _file, _text: None
) -> tuple[tuple[PolicyDocument, ...], list[Problem]]:
    """The documents at a path that have the right form, and what is wrong with the others. Raises ConfigError.

    `on_text` is told of each file that is read, documents' and instructions', with its text.
    """
    files, root = _files(path)
    documents: list[PolicyDocument] = []
    problems: list[Problem] = []
    # Left out in silence, its sessions would fall to a looser document.
    unread = [file for file in files if not file.is_file()]
    problems += [Problem(Severity.ERROR, "is no file that can be read", str(file)) for file in unread]
    files = [file for file in files if file not in unread]
    if not files and not problems:
        problems.append(Problem(Severity.ERROR, "holds no *.yaml", path))
    if len(files) > MAX_FILES:
        problems.append(Problem(Severity.ERROR, f"holds more than {MAX_FILES} files", path))
    for file in files[:MAX_FILES]:
        _read_file(file, root, documents, problems, on_text)
    if len(documents) > MAX_DOCUMENTS:
        problems.append(Problem(Severity.ERROR, f"holds more than {MAX_DOCUMENTS} documents", path))
    if not documents and not problems:
        problems.append(Problem(Severity.ERROR, "holds no document", path))
    return tuple(documents), problems


def text_path(name: str) -> PurePosixPath:
    """The path that `file: name` means, below the document's directory. Raises UnreadableText."""
    parts = PurePosixPath(name)
    if parts.is_absolute() or ".." in parts.parts or "\\" in name or "\x00" in name:
        raise UnreadableText("must be a path below the document's directory, without `..`")
    if any(part.startswith(".") for part in parts.parts):
        raise UnreadableText("lies in or under a name that begins with a dot, and those are not watched")
    return parts


def _files(path: str) -> tuple[list[Path], Path]:
    """The files to read, and the directory that nothing may leave."""
    place = Path(path)
    try:
        if place.is_dir():
            names = (entry for entry in place.iterdir() if not entry.name.startswith("."))
            return sorted(entry for entry in names if entry.suffix.lower() in DOCUMENT_SUFFIXES), place
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    if not place.is_file():
        raise ConfigError(f"{path}: there is no such file or directory")
    return [place], place.parent


def _read_file(
    file: Path,
    root: Path,
    documents: list[PolicyDocument],
    problems: list[Problem],
    on_text: Callable[[Path, str], None],
) -> None:
    try:
        text = _read_text(file, FILE_MAX_BYTES)
    except UnreadableText as error:
        problems.append(Problem(Severity.ERROR, str(error), str(file)))
        return
    on_text(file, text)
    read_text(text, str(file), lambda name: _instructions(file, root, name, on_text), documents, problems)


def read_text(
    text: str,
    file: str,
    text_of: Callable[[str], str],
    documents: list[PolicyDocument],
    problems: list[Problem],
) -> None:
    """Add the documents in a file's text, and what is wrong with them; `text_of` reads what their `file:` names."""
    found, wrong = read_yaml_documents(text, file)
    problems += wrong
    if wrong:
        return
    for entry in found:
        document, wrong = read_document(entry.data, entry.source, text_of)
        problems += wrong
        if document is not None:
            documents.append(document)


def _instructions(file: Path, root: Path, name: str, on_text: Callable[[Path, str], None]) -> str:
    """The text of `file: name`. Raises UnreadableText; nothing outside the policies' directory is opened."""
    place = file.parent / text_path(name)
    try:
        # A ConfigMap's files are links within its directory; one that leads out of it is not followed.
        if not place.resolve().is_relative_to(root.resolve()):
            raise UnreadableText("leads out of the policies' directory")
    except (OSError, RuntimeError):
        raise UnreadableText("cannot be followed") from None
    text = _read_text(place, INSTRUCTIONS_MAX_BYTES)
    on_text(place, text)
    return text


def _read_text(file: Path, most: int) -> str:
    try:
        if not file.is_file():
            raise UnreadableText("there is no such file")
        with file.open("rb") as opened:
            data = opened.read(most + 1)
    except OSError as error:
        raise UnreadableText(f"cannot be read: {error.strerror}") from None
    if len(data) > most:
        raise UnreadableText(f"is larger than {most} bytes")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UnreadableText(f"is not UTF-8 (line {line})") from None
