"""The file of the kill switch: whatever is wrong with it, it stops everybody, at once, and never blocks."""

from __future__ import annotations

import os

import pytest

from relay.core.kill_switch import KillSwitch
from relay.kill_file import KILL_FILE, KILL_FILE_BYTES, KillFile

EVERYBODY = KillSwitch(everybody=True)


@pytest.fixture
def place(tmp_path):
    return tmp_path / KILL_FILE


def test_no_file_stops_nobody(tmp_path):
    assert not KillFile(tmp_path).read().active
    assert not KillFile(None).read().active


def test_a_pipe_and_a_directory_stop_everybody_and_do_not_block(tmp_path, place):
    os.mkfifo(place)
    assert KillFile(tmp_path).read() == EVERYBODY
    place.unlink()
    place.mkdir()
    assert KillFile(tmp_path).read() == EVERYBODY


def test_a_link_to_nothing_stops_everybody(tmp_path, place):
    place.symlink_to("gone")
    assert KillFile(tmp_path).read() == EVERYBODY


def test_what_is_too_long_to_be_read_stops_everybody(tmp_path, place):
    place.write_text("tenant a\n" + "#" * (KILL_FILE_BYTES - 9))
    assert KillFile(tmp_path).read() == KillSwitch(tenants=frozenset("a"))
    place.write_text("tenant a\n" + "#" * (KILL_FILE_BYTES - 9) + "\ntenant evil\n")
    assert KillFile(tmp_path).read() == EVERYBODY


def test_a_directory_that_vanishes_keeps_what_was_said_last(tmp_path):
    policies = tmp_path / "policies"
    policies.mkdir()
    (policies / KILL_FILE).write_text("tenant a")
    file = KillFile(policies)
    assert file.read().tenants == {"a"}
    policies.rename(tmp_path / "gone")
    assert file.read().tenants == {"a"}
    policies.mkdir()
    assert not file.read().active


def test_where_it_lies_is_decided_at_the_start(tmp_path, place):
    document = tmp_path / "one.yaml"
    document.write_text("")
    place.write_text("all")
    file = KillFile(document)
    document.unlink()
    document.mkdir()
    assert file.read() == EVERYBODY
