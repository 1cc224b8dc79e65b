"""The configuration file, read strictly: sections of settings, each with the line it stands on.

Scalars stay the text that was written (`port: 0x50` is not 80, `on` is not true); the parser of each setting judges it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import yaml

from relay.errors import ConfigError

FILE_MAX_BYTES = 262_144
_PLAIN_TAGS = frozenset(f"tag:yaml.org,2002:{kind}" for kind in ("str", "int", "float", "bool", "null", "timestamp"))
_KEY_TAG = "tag:yaml.org,2002:str"
_NULL_TAG = "tag:yaml.org,2002:null"


@dataclass(frozen=True, slots=True)
class YamlSetting:
    """One `key: value` of a section; `value` None means that nothing was written."""

    section: str
    key: str
    value: str | tuple[str, ...] | None
    line: int


def read_yaml(path: str) -> tuple[list[YamlSetting], list[str]]:
    """Return the settings in the file and the problems with its form (`file:line: words`).

    Raises ConfigError where nothing can be told at all: no file, not UTF-8, not YAML.
    """
    root = _compose(path)
    problems: list[str] = []
    if root is None or _is_null(root):
        return [], problems
    settings: list[YamlSetting] = []
    for section, line, node in _pairs(root, path, "the file", problems):
        if _is_null(node):
            continue
        for key, key_line, value_node in _pairs(node, path, f"section {section!r} (line {line})", problems):
            try:
                settings.append(YamlSetting(section, key, _value(value_node), key_line))
            except ValueError as error:
                problems.append(f"{path}:{key_line}: {section}.{key}: {error}")
    return settings, problems


def _compose(path: str) -> yaml.Node | None:
    try:
        with Path(path).open("rb") as file:
            data = file.read(FILE_MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    if len(data) > FILE_MAX_BYTES:
        raise ConfigError(f"{path}: larger than {FILE_MAX_BYTES} bytes; is this the right file?")
    try:
        return yaml.compose(data.decode("utf-8-sig"), Loader=yaml.SafeLoader)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path}:{line}: not UTF-8; save the file as UTF-8") from None
    except RecursionError:
        raise ConfigError(f"{path}: nested too deeply; a setting is `section:` with `key: value` below it") from None
    except yaml.composer.ComposerError as error:
        # The parser's own words would quote the value.
        raise ConfigError(
            f"{path}{_line(error)}: aliases and second documents are not accepted; quote a value"
        ) from None
    except yaml.MarkedYAMLError as error:
        raise ConfigError(f"{path}{_line(error)}: not YAML: {error.problem}") from None
    except yaml.YAMLError:
        raise ConfigError(f"{path}: not YAML: it holds characters that no text has") from None


def _is_null(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.tag == _NULL_TAG


def _line(error: yaml.MarkedYAMLError) -> str:
    return f":{error.problem_mark.line + 1}" if error.problem_mark else ""


def _pairs(node: yaml.Node, path: str, where: str, problems: list[str]) -> list[tuple[str, int, yaml.Node]]:
    line = node.start_mark.line + 1
    if not isinstance(node, yaml.MappingNode):
        problems.append(f"{path}:{line}: {where} must be `key: value` lines")
        return []
    pairs: list[tuple[str, int, yaml.Node]] = []
    first_line: dict[str, int] = {}
    for key_node, value_node in node.value:
        key_line = key_node.start_mark.line + 1
        if not isinstance(key_node, yaml.ScalarNode) or key_node.tag != _KEY_TAG:
            problems.append(f"{path}:{key_line}: a key in {where} is not plain text")
        elif (key := key_node.value) in first_line:
            problems.append(f"{path}:{key_line}: {key!r} is given twice in {where}, first on line {first_line[key]}")
        else:
            first_line[key] = key_line
            pairs.append((key, key_line, value_node))
    return pairs


def _value(node: yaml.Node) -> str | tuple[str, ...] | None:
    match node:
        case yaml.ScalarNode():
            return _scalar(node)
        case yaml.SequenceNode():
            items = [_scalar(item) if isinstance(item, yaml.ScalarNode) else None for item in node.value]
            present = tuple(item for item in items if item)
            if len(present) != len(items):
                raise ValueError("a list may hold single, non-empty values only")
            return present
        case _:
            raise ValueError("is a group of settings, but a value belongs here; check the indentation")


def _scalar(node: yaml.ScalarNode) -> str | None:
    if node.tag not in _PLAIN_TAGS:
        raise ValueError("has a YAML tag (a word starting with !); put the value in quotes")
    return None if node.tag == _NULL_TAG or not node.value.strip() else str(node.value)
