"""RTP headers, numbering and reception statistics (RFC 3550)."""

from struct import pack, unpack_from

import pytest

from relay.core.rtp import DatagramKind, Reception, Rewriter, classify, strip_extension


def rewritten(rewriter, datagram):
    """The packet with its new header; None if there is none."""
    buffer = bytearray(datagram) + bytes(100)
    size = rewriter.rewrite(buffer, len(datagram))
    return bytes(buffer[:size]) or None


def packet(sequence=1, timestamp=960, ssrc=7, payload=b"opus", first=0x80, marker=False, payload_type=111):
    return pack("!BBHII", first, (0x80 if marker else 0) | payload_type, sequence, timestamp, ssrc) + payload


@pytest.mark.parametrize(
    ("first", "second", "kind"),
    [
        (0, 1, DatagramKind.STUN), (3, 0, DatagramKind.STUN), (4, 0, DatagramKind.UNRECOGNISED),
        (19, 0, DatagramKind.UNRECOGNISED), (20, 0, DatagramKind.DTLS), (63, 0, DatagramKind.DTLS),
        (64, 0, DatagramKind.UNRECOGNISED), (127, 0, DatagramKind.UNRECOGNISED), (128, 111, DatagramKind.RTP),
        (191, 0, DatagramKind.RTP), (192, 0, DatagramKind.UNRECOGNISED), (128, 191, DatagramKind.RTP),
        (128, 192, DatagramKind.RTCP), (128, 200, DatagramKind.RTCP), (128, 223, DatagramKind.RTCP),
        (128, 224, DatagramKind.RTP),
    ],
)  # fmt: skip
def test_first_bytes_say_the_protocol(first, second, kind):
    """RFC 7983 section 7, RFC 5761 section 4."""
    assert classify(bytes([first, second])) is kind
    assert classify(bytes([first])) in {kind, DatagramKind.RTP}


def test_rewriting_changes_the_source_and_nothing_else():
    rewriter = Rewriter(ssrc=0xCAFE, payload_type=96)
    out = rewritten(rewriter, packet(sequence=65535, timestamp=0xFFFFFFFF, marker=True, payload=b"\x01\x02"))
    assert out == pack("!BBHII", 0x80, 0x80 | 96, 65535, 0xFFFFFFFF, 0xCAFE) + b"\x01\x02"


def test_padding_bit_and_payload_survive():
    out = rewritten(Rewriter(1, 96), packet(first=0xA0, payload=b"abc\x00\x00\x03"))
    assert out is not None
    assert out[0] == 0xA0
    assert out[12:] == b"abc\x00\x00\x03"


def test_a_new_source_continues_the_numbering():
    rewriter = Rewriter(1, 96)
    rewritten(rewriter, packet(sequence=100, timestamp=5000, ssrc=7))
    out = rewritten(rewriter, packet(sequence=9, timestamp=77, ssrc=8))
    after = rewritten(rewriter, packet(sequence=10, timestamp=77 + 960, ssrc=8))
    assert out is not None
    assert after is not None
    assert unpack_from("!HI", out, 2) == (101, 5960)
    assert unpack_from("!HI", after, 2) == (102, 6920)


def test_extensions_and_contributing_sources_are_stripped():
    extended = packet(first=0x92, payload=b"\0" * 8 + b"\xbe\xde\x00\x01" + b"\x10\xff\x00\x00" + b"opus")
    buffer = bytearray(extended) + b"what was there before"
    assert bytes(buffer[: strip_extension(buffer, len(extended))]) == packet(first=0x80, payload=b"opus")
    assert rewritten(Rewriter(7, 111), extended) == packet(first=0x80, payload=b"opus")


@pytest.mark.parametrize("payload", [b"", b"\xbe\xde\x00\x01", b"\xbe\xde\xff\xff" + b"\0" * 40])
def test_lengths_that_do_not_add_up_are_malformed(payload):
    assert rewritten(Rewriter(1, 96), packet(first=0x90, payload=payload)) is None
    assert rewritten(Rewriter(1, 96), packet(first=0x8F, payload=b"x" * 59)) is None


def test_reception_counts_loss_across_the_wrap():
    reception = Reception()
    for at, sequence in enumerate([65533, 65534, 0, 1, 3]):
        reception.on_packet(sequence, at * 960, at * 0.02)
    assert reception.expected == 7
    assert reception.lost == 2
    assert reception.extended_highest == 65536 + 3
    assert reception.take_fraction_lost() == (2 << 8) // 7
    assert reception.take_fraction_lost() == 0


def test_reordering_and_duplicates_are_no_loss():
    reception = Reception()
    for at, sequence in enumerate([1, 3, 2, 2, 4]):
        reception.on_packet(sequence, sequence * 960, at * 0.02)
    assert reception.expected == 4
    assert reception.lost == 0


def test_jitter_follows_rfc3550_a8():
    reception = Reception()
    reception.on_packet(1, 0, 0.0)
    reception.on_packet(2, 960, 0.030)  # 10 ms late: 480 units, one sixteenth counts
    assert reception.jitter_units == 30
    assert reception.jitter_seconds == pytest.approx(30 / 48000)
    steady = Reception()
    for at in range(50):
        steady.on_packet(at, at * 960, at * 0.02)
    assert steady.jitter_units == 0


def test_a_late_packet_does_not_make_a_new_source_reuse_numbers():
    """The same number twice under one key would break SRTP."""
    rewriter = Rewriter(1, 96)
    sent = [rewritten(rewriter, packet(sequence=each, ssrc=7)) for each in (100, 102, 103, 101)]
    sent += [rewritten(rewriter, packet(sequence=each, ssrc=8)) for each in (9, 10)]
    numbers = [unpack_from("!H", each, 2)[0] for each in sent if each is not None]
    assert numbers == [100, 102, 103, 101, 104, 105]


def test_another_peer_may_use_the_same_source_and_old_numbers():
    """A client that was reloaded: nothing says that its SSRC is new, and its SRTP takes any number."""
    rewriter = Rewriter(1, 96)
    sent = [rewritten(rewriter, packet(sequence=each, timestamp=each * 960, ssrc=7)) for each in (100, 101, 102)]
    rewriter.expect_other_source()
    sent += [rewritten(rewriter, packet(sequence=each, timestamp=each * 960, ssrc=7)) for each in (100, 101)]
    assert [unpack_from("!HI", each, 2) for each in sent] == [(at, at * 960) for at in range(100, 105)]


def test_before_the_first_packet_there_is_no_source_to_replace():
    rewriter = Rewriter(1, 96)
    rewriter.expect_other_source()
    assert unpack_from("!H", rewritten(rewriter, packet(sequence=100)), 2)[0] == 100


def test_packets_of_a_new_source_that_come_late_take_no_number_of_the_one_before():
    rewriter = Rewriter(1, 96)
    for each in (100, 101):
        rewritten(rewriter, packet(sequence=each, ssrc=7))
    sent = [rewritten(rewriter, packet(sequence=each, ssrc=8)) for each in (10, 9, 12, 11)]
    assert [None if each is None else unpack_from("!H", each, 2)[0] for each in sent] == [102, None, 104, 103]
    # Long after it, a number that lies half the space away is a new one.
    numbers = [rewritten(rewriter, packet(sequence=at & 0xFFFF, ssrc=8)) for at in range(13, 70_000)]
    assert None not in numbers
    assert unpack_from("!H", numbers[-1], 2)[0] == (102 + 69_999 - 10) & 0xFFFF
