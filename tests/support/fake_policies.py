"""What the relay's own code says of a set of policy files, in the shapes of the admin API."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from relay.core.policy_diff import diff
from relay.core.policy_document import PolicyDocument
from relay.policy_files import check_policies


class BrokenPolicies(Exception):  # noqa: N818 - an answer
    """A set that cannot be compared; `problems` say why."""

    def __init__(self, problems: list[dict[str, Any]]) -> None:
        super().__init__("The documents have problems.")
        self.problems = problems


def judged(files: dict[str, str]) -> tuple[tuple[PolicyDocument, ...], list[dict[str, Any]]]:
    """The documents of a set and its problems, as the relay finds them."""
    with tempfile.TemporaryDirectory() as directory:
        for path, text in files.items():
            place = Path(directory) / path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(text)
        checked = check_policies(directory)
        problems = [
            {"file": each.file.removeprefix(f"{directory}/"), "line": each.line, "path": each.path,
             "message": each.message, "severity": each.severity.value}
            for each in checked.problems
        ]  # fmt: skip
        return checked.documents, problems


def changes_between(old: dict[str, str], new: dict[str, str]) -> list[dict[str, Any]]:
    """What one set means against another."""
    (before, _), (after, problems) = judged(old), judged(new)
    if any(each["severity"] == "error" for each in problems):
        raise BrokenPolicies(problems)
    return [
        {"policy": each.document, "what": each.path, "old": each.old, "new": each.new,
         "direction": each.direction.value}
        for each in diff(before, after)
    ]  # fmt: skip
