"""RFC 4571 framing: cut anywhere, the same datagrams come out; a bad length ends the stream."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.core.framing import Deframer, FramingError, frame
from relay.core.rtp import MAX_DATAGRAM

DATAGRAMS = st.lists(st.binary(min_size=1, max_size=MAX_DATAGRAM), max_size=8)


@given(DATAGRAMS, st.lists(st.integers(0, 4000), max_size=20))
def test_what_was_framed_comes_out_however_the_stream_is_cut(datagrams, cuts):
    stream = b"".join(frame(each) for each in datagrams)
    at = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    deframer, found = Deframer(), []
    for start, end in pairwise(at):
        found += deframer.feed(stream[start:end])
    assert found == datagrams
    assert deframer._rest == b""


def test_one_byte_at_a_time():
    deframer = Deframer()
    stream = frame(b"abc") + frame(b"d" * 300)
    found = [each for at in range(len(stream)) for each in deframer.feed(stream[at : at + 1])]
    assert found == [b"abc", b"d" * 300]


def test_the_length_is_that_of_rfc_4571():
    assert frame(b"\x80" * 258) == b"\x01\x02" + b"\x80" * 258


@pytest.mark.parametrize("length", [0, MAX_DATAGRAM + 1, 0xFFFF])
def test_a_bad_length_is_refused_before_its_bytes_come(length):
    deframer = Deframer()
    assert deframer.feed(frame(b"good") + length.to_bytes(2, "big")[:1]) == [b"good"]
    with pytest.raises(FramingError):
        deframer.feed(length.to_bytes(2, "big")[1:])


@pytest.mark.parametrize("size", [0, MAX_DATAGRAM + 1])
def test_what_the_other_end_would_refuse_is_not_framed(size):
    with pytest.raises(FramingError):
        frame(bytes(size))


@given(st.lists(st.binary(max_size=3000), max_size=30))
def test_no_stream_makes_it_keep_more_than_a_frame(chunks):
    deframer = Deframer()
    for chunk in chunks:
        try:
            deframer.feed(chunk)
        except FramingError:
            return
        assert len(deframer._rest) < MAX_DATAGRAM + 2
