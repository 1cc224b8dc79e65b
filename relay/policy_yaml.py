"""Policy files as YAML, read so that no two readers can understand them otherwise: data, and the line of every part.

What YAML 1.1 and 1.2 read differently (`no`, `0777`, `1:30`, a bare date) must be put in quotes. Duplicate keys, tags,
anchors, aliases and merge keys are refused. Values are those of JSON.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

from relay.core.policy_check import Kind, Path, Problem, Severity, Source

MAX_DOCUMENTS = 64
MAX_VALUES = 50_000
"""Of one file, keys included: reading costs by them, and half a megabyte of the shortest would take half a minute."""

_MAX_DEPTH = 32
_TAG = "tag:yaml.org,2002:"
_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]{0,18})")
_REAL = re.compile(r"-?(?:0|[1-9][0-9]{0,18})\.[0-9]{1,19}")
# Numbers to YAML 1.2 alone; PyYAML reads 1.1 and takes them for text.
_OTHER_NUMBER = re.compile(r"[-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)[eE][-+]?[0-9]+|0o[0-7]+|[-+][0-9.]+")


@dataclass(slots=True)
class YamlDocument:
    """One document of a file: plain data and where its parts stand."""

    data: Any
    source: Source


@dataclass(slots=True)
class _Reading:
    file: str
    problems: list[Problem]
    lines: dict[Path, int] = field(default_factory=dict)

    def wrong(self, node: yaml.Node, path: Path, message: str) -> None:
        source = Source(self.file, {path: node.start_mark.line + 1})
        self.problems.append(source.problem(Severity.ERROR, path, message, kind=Kind.YAML))


def read_yaml_documents(text: str, file: str) -> tuple[list[YamlDocument], list[Problem]]:
    """The documents in a text, and what is wrong with its form; empty ones are passed over."""
    documents: list[YamlDocument] = []
    problems: list[Problem] = []
    try:
        for node in _nodes(text):
            if len(documents) >= MAX_DOCUMENTS:
                problems.append(_at(file, node.start_mark, f"holds more than {MAX_DOCUMENTS} documents"))
                break
            reading = _Reading(file, problems)
            data = _value(node, (), reading)
            if data is not None:
                documents.append(YamlDocument(data, Source(file, reading.lines)))
    except yaml.MarkedYAMLError as error:
        problems.append(
            _at(file, error.problem_mark or error.context_mark, f"not YAML: {error.problem or error.context}")
        )
    except yaml.YAMLError:
        problems.append(_at(file, None, "not YAML: it holds characters that no text has"))
    except RecursionError:
        problems.append(_at(file, None, "nested too deeply"))
    return documents, problems


class _Loader(yaml.SafeLoader):
    """Composes nodes without aliases, which multiply what a file holds and hide where it stands."""

    values = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            words = "anchors (&) and aliases (*) are not accepted; quote a value"
            raise yaml.composer.ComposerError(None, None, words, event.start_mark)
        if getattr(event, "tag", None) is not None:
            words = "YAML tags (words starting with !) are not accepted; quote a value"
            raise yaml.composer.ComposerError(None, None, words, event.start_mark)
        self.values += 1
        if self.values > MAX_VALUES:
            words = f"holds more than {MAX_VALUES} values"
            raise yaml.composer.ComposerError(None, None, words, event.start_mark)
        return super().compose_node(parent, index)


def _nodes(text: str) -> Iterator[yaml.Node]:
    loader = _Loader(text)
    try:
        while loader.check_node():
            node = loader.get_node()
            if node is not None:
                yield node
    except (ValueError, OverflowError):  # the scanner's own: a character or a version number beyond all bounds
        words = "a character or number that cannot be"
        raise yaml.scanner.ScannerError(None, None, words, loader.get_mark()) from None
    finally:
        loader.dispose()


def _at(file: str, mark: Any, message: str) -> Problem:
    return Problem(Severity.ERROR, message, file, mark.line + 1 if mark else 0, kind=Kind.YAML)


def _value(node: yaml.Node, path: Path, reading: _Reading) -> Any:
    reading.lines.setdefault(path, node.start_mark.line + 1)
    if len(path) > _MAX_DEPTH:
        reading.wrong(node, path, "nested too deeply")
        return None
    match node:
        case yaml.MappingNode():
            return _mapping(node, path, reading)
        case yaml.SequenceNode():
            return [_value(entry, (*path, index), reading) for index, entry in enumerate(node.value)]
        case yaml.ScalarNode():
            try:
                return _scalar(node)
            except ValueError as error:
                reading.wrong(node, path, str(error))
                return None
    raise TypeError(type(node).__name__)


def _mapping(node: yaml.MappingNode, path: Path, reading: _Reading) -> dict[str, Any]:
    members: dict[str, Any] = {}
    for key_node, value_node in node.value:
        if not isinstance(key_node, yaml.ScalarNode) or key_node.tag != f"{_TAG}str":
            shown = f" ({key_node.value!r})" if isinstance(key_node, yaml.ScalarNode) else ""
            reading.wrong(key_node, path, f"a key is not plain text{shown}; put it in quotes")
            continue
        key = key_node.value
        line = key_node.start_mark.line + 1
        if key in members:
            reading.wrong(key_node, (*path, key), f"is given twice, first on line {reading.lines[(*path, key)]}")
            continue
        reading.lines[(*path, key)] = line
        members[key] = _value(value_node, (*path, key), reading)
    return members


def _scalar(node: yaml.ScalarNode) -> Any:
    """The value, as YAML 1.1 and 1.2 both read it. Raises ValueError where they differ."""
    text: str = node.value
    if node.style is not None:
        return text
    match node.tag.removeprefix(_TAG):
        case "str" if not _OTHER_NUMBER.fullmatch(text):
            return text
        case "bool" if text in ("true", "false"):
            return text == "true"
        case "null" if text in ("", "null", "~"):
            return None
        case "int" if _INTEGER.fullmatch(text):
            return int(text)
        case "float" if _REAL.fullmatch(text):
            return float(text)
    if node.tag == f"{_TAG}bool":
        raise ValueError(
            f"{text} is true or false to some readers and text to others: write true or false, or '{text}'"
        )
    raise ValueError(f"{text} reads as a number, a time or text by turns: write a plain decimal number, or '{text}'")
