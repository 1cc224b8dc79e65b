"""RTCP reports there and back (RFC 3550 section 6)."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.core.rtcp import (
    Goodbye,
    Report,
    ReportBlock,
    SenderInfo,
    build_compound,
    middle_of_ntp,
    ntp_time,
    parse_compound,
)

BLOCK = ReportBlock(ssrc=9, fraction_lost=12, lost=345, highest_sequence=70000, jitter=33, last_report=4, delay=65536)


@pytest.mark.parametrize("sender", [None, SenderInfo(ntp=1 << 63, timestamp=960, packets=5, octets=600)])
@pytest.mark.parametrize("blocks", [(), (BLOCK,)])
def test_what_is_built_is_read_back(sender, blocks):
    report = Report(7, sender, blocks)
    data = build_compound(report, "relay")
    assert len(data) % 4 == 0
    assert parse_compound(data) == [report]
    assert data[-12:-4] != b""
    assert b"\x01\x05relay\x00" in data


def test_negative_loss_survives():
    """Duplicates can make the cumulative loss negative (section 6.4.1)."""
    report = Report(7, None, (ReportBlock(9, 0, -3, 1, 0, 0, 0),))
    assert parse_compound(build_compound(report, "c")) == [report]


def test_ntp_of_the_unix_epoch():
    assert ntp_time(0) == 2_208_988_800 << 32
    assert middle_of_ntp(0x1234_5678_9ABC_DEF0) == 0x5678_9ABC


def test_goodbye_is_read_and_other_types_are_skipped():
    goodbye = bytes([0x81, 203, 0, 1]) + (7).to_bytes(4, "big")
    feedback = bytes([0x81, 205, 0, 2]) + bytes(8)
    assert parse_compound(feedback + goodbye) == [Goodbye(7)]


def test_truncated_and_random_compounds_are_malformed_or_read_and_never_raise():
    data = build_compound(Report(7, None, (BLOCK,)), "relay")
    for size in range(1, len(data)):
        found = parse_compound(data[:size])
        assert found is None or size == 32
    source = random.Random(2)
    for _ in range(2000):
        parse_compound(bytes([0x80 | source.randrange(32), 200 + source.randrange(4)]) + source.randbytes(60))


@given(st.binary(max_size=200))
def test_any_bytes_are_handled(data):
    found = parse_compound(data)
    assert found is None or isinstance(found, list)
