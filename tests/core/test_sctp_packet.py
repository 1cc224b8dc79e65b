"""SCTP packets that no honest peer sends."""

from struct import pack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.core.sctp_packet import fault_in_packet

HEADER = bytes(12)


def chunk(kind, body=b"", length=None):
    return pack("!BBH", kind, 0, 4 + len(body) if length is None else length) + body + bytes(-len(body) % 4)


def sack(*gaps, count=None):
    return chunk(3, pack("!LLHH", 7, 1 << 20, len(gaps) if count is None else count, 0) + b"".join(
        pack("!HH", *gap) for gap in gaps
    ))  # fmt: skip


DATA = chunk(0, bytes(12) + b"text")
HONEST = [
    DATA,
    DATA + DATA,
    sack(),
    sack((2, 3), (5, 5)) + DATA,
    chunk(1, bytes(16) + pack("!HH", 0xC000, 4) + pack("!HHHH", 0x8008, 6, 0x8200, 0)),
    chunk(4, pack("!HH", 1, 12) + bytes(8)),
    chunk(11) + DATA,
    chunk(130, pack("!HH", 13, 18) + bytes(14)),
    chunk(200, b"unknown"),
]


@pytest.mark.parametrize("chunks", HONEST)
def test_what_browsers_send_is_read(chunks):
    assert fault_in_packet(HEADER + chunks) is None


@pytest.mark.parametrize("kind", [4, 5, 6, 9, 130])
@pytest.mark.parametrize("length", [0, 1, 3])
def test_a_parameter_without_length_is_refused(kind, length):
    """A reader that does not advance would never return."""
    assert fault_in_packet(HEADER + chunk(kind, pack("!HH", 1, length))) == "malformed chunk parameters"


@pytest.mark.parametrize("kind", [1, 2])
def test_a_parameter_without_length_is_refused_in_init(kind):
    assert fault_in_packet(HEADER + chunk(kind, bytes(16) + pack("!HH", 1, 0))) == "malformed chunk parameters"


def test_many_parameters_are_refused():
    assert fault_in_packet(HEADER + chunk(130, pack("!HH", 13, 4) * 17)) == "malformed chunk parameters"


@pytest.mark.parametrize(
    "gaps", [[(0, 65535)], [(1, 65535), (1, 65535)], [(5, 4)], [(2, 6), (6, 9)], [(1, 65535)] * 280]
)  # fmt: skip
def test_overlapping_gaps_are_refused(gaps):
    assert fault_in_packet(HEADER + sack(*gaps)) == "gap blocks that overlap"


def test_a_sack_that_promises_more_gaps_than_it_has_is_refused():
    assert fault_in_packet(HEADER + sack(count=3)) == "gap blocks that overlap"
    assert fault_in_packet(HEADER + chunk(3, bytes(4))) == "gap blocks that overlap"


def test_control_chunks_are_not_multiplied():
    """Each would be answered: one datagram must not become hundreds."""
    beat = chunk(4, pack("!HH", 1, 4))
    assert fault_in_packet(HEADER + beat) is None
    assert fault_in_packet(HEADER + beat + beat) == "control chunk repeated in one packet"


def test_forward_tsn_was_never_agreed_on():
    assert fault_in_packet(HEADER + chunk(192, bytes(8))) == "FORWARD-TSN without partial reliability"


@given(st.binary(max_size=1200), st.sampled_from([0, 1, 2, 3, 4, 5, 6, 9, 130, 192]))
def test_any_bytes_are_judged_in_bounded_time(body, kind):
    verdict = fault_in_packet(HEADER + chunk(kind, body))
    assert verdict is None or isinstance(verdict, str)
    fault_in_packet(body)
