"""What was written for each setting, where, and what it means: the YAML file and the environment over it."""

from __future__ import annotations

import dataclasses
import difflib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relay import config_values as values
from relay.config_yaml import read_yaml

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

CONFIG_FILE_ENV = "RELAY_CONFIG"
# Read when the packet path is loaded, before there are settings.
FORWARDER_ENV = "RELAY_FORWARDER"
_FORWARDERS = ("auto", "native", "python")
_FILE_MAX_BYTES = 1_048_576


@dataclass(frozen=True, slots=True)
class SettingSpec:
    """What is known of one setting before any value is."""

    section: str
    key: str
    env: str
    default: Any
    parse: Callable[[str], Any]
    many: bool
    secret: bool
    from_file: bool

    @property
    def name(self) -> str:
        """The YAML key, `section.key`."""
        return f"{self.section}.{self.key}"


@dataclass(frozen=True, slots=True)
class Given:
    """What was written for one setting and where; `is_path`: the value is in the file of that name."""

    value: str | tuple[str, ...]
    origin: str
    is_path: bool = False


def from_yaml(path: str, specs: tuple[SettingSpec, ...], problems: list[str]) -> dict[str, Given]:
    """Return what the file says by setting name; raises ConfigError if it cannot be read as YAML at all."""
    known = _known_names({spec.name: spec for spec in specs}, "_file")
    written, found_problems = read_yaml(path)
    problems.extend(found_problems)
    found: dict[str, Given] = {}
    for item in written:
        name, origin = f"{item.section}.{item.key}", f"{path}:{item.line}"
        if name not in known:
            problems.append(f"{origin}: unknown setting {values.quoted(name)}{_nearest(name, known)}")
        elif known[name][0].secret and not known[name][1]:
            env = known[name][0].env
            problems.append(f"{origin}: {name} is a secret and does not belong in this file; use {name}_file or {env}")
        elif item.value is not None:
            _take(found, *known[name], Given(item.value, origin), problems)
    return found


def from_environment(
    environ: Mapping[str, str], specs: tuple[SettingSpec, ...], problems: list[str]
) -> dict[str, Given]:
    """Return what the environment says by setting name; other `RELAY_…` names are problems."""
    known = _known_names({spec.env: spec for spec in specs}, "_FILE")
    found: dict[str, Given] = {}
    for name in sorted(environ):
        if name in known:
            # An empty variable is what a compose file passes for one that is not set.
            if environ[name].strip():
                _take(found, *known[name], Given(environ[name], f"env {name}"), problems)
        elif name == FORWARDER_ENV:
            if environ[name] not in {"", *_FORWARDERS}:
                problems.append(f"env {name}: {environ[name]!r} is none of {', '.join(_FORWARDERS)}")
        elif name.startswith("RELAY_") and name != CONFIG_FILE_ENV and not _is_service_link(name, environ[name]):
            problems.append(f"env {name}: unknown setting{_nearest(name, known)}")
    return found


def _known_names(by_name: dict[str, SettingSpec], suffix: str) -> dict[str, tuple[SettingSpec, bool]]:
    """Every accepted name with its setting and whether the value is the path of a file that holds it."""
    known = {name: (spec, False) for name, spec in by_name.items()}
    return known | {name + suffix: (spec, True) for name, spec in by_name.items() if spec.from_file}


def _take(found: dict[str, Given], spec: SettingSpec, is_path: bool, given: Given, problems: list[str]) -> None:  # noqa: FBT001
    if spec.name in found:
        problems.append(f"{given.origin}: {spec.name} is already given at {found[spec.name].origin}; keep one of them")
        return
    found[spec.name] = dataclasses.replace(given, is_path=is_path)


def _nearest(name: str, known: Mapping[str, object]) -> str:
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    same_key = [other for other in known if other.rpartition(".")[2] == name.rpartition(".")[2]]
    match = (close or same_key or [""])[0]
    return f"; did you mean {match}?" if match else "; `relay check` prints every setting"


def _is_service_link(name: str, value: str) -> bool:
    """Kubernetes describes a Service called `relay` in variables of its own (`RELAY_PORT=tcp://…`): not settings."""
    if re.search(r"_SERVICE_(HOST|PORT)(_[A-Z0-9_]+)?\Z", name) or re.search(r"_PORT_\d+_(TCP|UDP)", name):
        return True
    return name.endswith("_PORT") and value.startswith(("tcp://", "udp://"))


def parsed(spec: SettingSpec, given: Given, problems: list[str]) -> Any:
    """Return the value that was meant; a problem is noted and the default returned instead."""
    try:
        raw = file_text(given.value) if given.is_path else given.value
        match raw:
            case str() if not spec.many:
                return spec.parse(raw if spec.from_file and not spec.secret else raw.strip())
            case str():
                # A file of keys may hold one on each line.
                return _items(spec, re.split(r"[,\n]", raw) if given.is_path else raw.split(","))
            case _ if spec.many:
                return _items(spec, raw)
            case _:
                problems.append(f"{given.origin}: {spec.name}: takes one value, not a list")
    except ValueError as error:
        problems.append(f"{given.origin}: {spec.name}: {error}")
    return spec.default


def file_text(path: str | tuple[str, ...]) -> str:
    """The text of a file that holds a value. Raises ValueError; nothing of it is in the message."""
    if isinstance(path, tuple):
        raise ValueError("takes the path of one file, not a list")  # noqa: TRY004 - the operator's value, not our type
    try:
        with Path(path.strip()).open("rb") as file:
            data = file.read(_FILE_MAX_BYTES + 1)
    except OSError as error:
        raise ValueError(f"{values.quoted(path)} cannot be read: {error.strerror}") from None
    if len(data) > _FILE_MAX_BYTES:
        raise ValueError(f"{values.quoted(path)} is larger than {_FILE_MAX_BYTES} bytes")
    try:
        # Some editors begin UTF-8 files with a byte order mark; it is no part of the text.
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError(f"{values.quoted(path)} is not UTF-8") from None
    if not text.strip():
        raise ValueError(f"{values.quoted(path)} is empty")
    return text


def _items(spec: SettingSpec, written: Iterable[str]) -> tuple[Any, ...]:
    items = tuple(spec.parse(item.strip()) for item in written if item.strip())
    if spec.default and not items:
        raise ValueError("is an empty list, which is not the default; leave the setting out or give a value")
    if len(set(items)) != len(items):
        raise ValueError("holds the same value twice")
    return items
