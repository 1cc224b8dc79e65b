"""The file's form: strict, with lines, in words for an operator."""

from __future__ import annotations

import pytest

from relay.config import ConfigError, load_settings
from relay.config_yaml import FILE_MAX_BYTES


@pytest.fixture
def load(tmp_path):
    def write_and_load(text):
        path = tmp_path / "relay.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return load_settings(str(path), {})

    return write_and_load


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n", "upstream:\n", "upstream:\n  # all commented\n"])
def test_an_empty_file_or_section_is_fine(load, text):
    assert load(text).http.port == 8080


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("http:\n  port: 1\n  port: 2\n", 3, "'port' is given twice in section 'http' (line 1), first on line 2"),
        ("http:\n  port: 1\nhttp:\n  port: 2\n", 3, "'http' is given twice"),
        ("on:\n  port: 1\n", 1, "not plain text"),
        ("http:\n  1: 2\n", 2, "not plain text"),
        ("http:\n  <<: {port: 1}\n", 2, "not plain text"),
        ("http:\n  ? [a]\n  : 2\n", 2, "not plain text"),
        ("- http\n", 1, "must be `key: value` lines"),
        ("http: 8080\n", 1, "must be `key: value` lines"),
        ("http:\n  port: [80]\n", 2, "one value, not a list"),
        ("http:\n  port:\n    x: 1\n", 2, "check the indentation"),
        ("http:\n  allowed_origins: [[a]]\n", 2, "single, non-empty values"),
        ("http:\n  allowed_origins: [~]\n", 2, "single, non-empty values"),
        ("http:\n  port: !!python/name:os.system 1\n", 2, "YAML tag"),
        ("http:\n  port: 0x50\n", 2, "whole number"),
        ("http:\n  port: 8_080\n", 2, "whole number"),
        ("policy:\n  allow_empty: on\n", 2, "neither true nor false"),
        ("http:\n  port: *other\n", 2, "aliases"),
        ("a: 1\n---\nb: 2\n", 2, "second documents"),
        ("http:\n\tport: 1\n", 2, "not YAML"),
        ("http:\n  port: 'x\n", 3, "not YAML"),
        (b"http:\n  port: \xff\n", 2, "not UTF-8"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(load, text, line, words):
    with pytest.raises(ConfigError) as caught:
        load(text)
    first = str(caught.value).splitlines()[0]
    assert f"relay.yaml:{line}: " in first
    assert words in first


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"x" * (FILE_MAX_BYTES + 1), "larger than"),
        ("a: " + "[" * 1_000, "nested too deeply"),
        ("a: \x00", "characters that no text has"),
    ],
)
def test_what_is_no_settings_file_at_all(load, text, words):
    with pytest.raises(ConfigError, match=words):
        load(text)


def test_a_missing_file_is_told_by_name():
    with pytest.raises(ConfigError, match=r"/nonexistent/relay\.yaml: cannot be read: No such file"):
        load_settings("/nonexistent/relay.yaml", {})


def test_a_byte_order_mark_and_windows_line_ends_do_no_harm(load):
    assert load(b"\xef\xbb\xbfhttp:\r\n  port: 9000\r\n").http.port == 9000


def test_scalars_keep_what_was_written(load):
    settings = load(
        "upstream:\n  deployment: 007\n  api_version: 2025-04-01\npolicy:\n  instructions: |\n    Yes.\n    No.\n"
    )
    assert settings.upstream.deployment == "007"
    assert settings.upstream.api_version == "2025-04-01"
    assert settings.policy.instructions == "Yes.\nNo."
