"""STUN against the vectors of RFC 5769 and what an attacker may send."""

import random
from dataclasses import replace

import pytest

from relay.core.stun import (
    StunError,
    binding_error,
    binding_success,
    is_authentic,
    parse_binding_request,
)

# RFC 5769 section 2.1; its padding is spaces, its password as below.
REQUEST = bytes.fromhex(
    "00010058 2112a442 b7e7a701bc34d686fa87dfae"
    "80220010 5354554e207465737420636c69656e74"
    "00240004 6e0001ff"
    "80290008 932ff9b151263b36"
    "00060009 6576746a3a68367659202020"
    "00080014 9aeaa70cbfd8cb56781ef2b5b2d3f249c1b571a2"
    "80280004 e57a3bcf"
)
PASSWORD = b"VOkJxbRl1RmTxUk/WvJxBt"
TRANSACTION = REQUEST[8:20]


def test_rfc5769_request_is_read_and_authentic():
    request = parse_binding_request(REQUEST)
    assert request is not None
    assert (request.local_ufrag, request.remote_ufrag) == ("evtj", "h6vY")
    assert request.transaction_id == TRANSACTION
    assert request.claims_controlled
    assert not request.use_candidate
    assert request.unknown == ()
    assert is_authentic(REQUEST, request, PASSWORD)
    assert not is_authentic(REQUEST, request, PASSWORD + b"x")


# The type of the last attribute is outside both checks: as something else it is ignored (RFC 8489 section 14.5).
@pytest.mark.parametrize("at", [at for at in range(len(REQUEST)) if at not in {100, 101}])
def test_no_changed_byte_is_taken_for_authentic(at):
    changed = bytearray(REQUEST)
    changed[at] ^= 0x01
    request = parse_binding_request(bytes(changed))
    # FINGERPRINT catches accidents, MESSAGE-INTEGRITY forgers.
    assert request is None or not is_authentic(bytes(changed), request, PASSWORD)


@pytest.mark.parametrize("size", range(len(REQUEST)))
def test_no_truncated_request_is_read(size):
    assert parse_binding_request(REQUEST[:size]) is None


def test_random_datagrams_never_raise():
    source = random.Random(1)
    for _ in range(3000):
        datagram = bytearray(source.randbytes(source.randrange(1600)))
        datagram[:2] = b"\x00\x01"
        datagram[4:8] = b"\x21\x12\xa4\x42"
        if len(datagram) >= 20:
            datagram = datagram[: len(datagram) // 4 * 4]
            datagram[2:4] = (len(datagram) - 20).to_bytes(2, "big")
        parse_binding_request(bytes(datagram))


def test_success_carries_the_mapped_address_of_rfc5769():
    response = binding_success(TRANSACTION, ("192.0.2.1", 32853), PASSWORD)
    assert bytes.fromhex("00200008 0001a147e112a643") in response  # section 2.2
    six = binding_success(TRANSACTION, ("2001:db8:1234:5678:11:2233:4455:6677", 32853, 0, 0), PASSWORD)
    assert bytes.fromhex("00200014 0002a147 0113a9faa5d3f179bc25f4b5bed2b9d9") in six  # section 2.3


def test_responses_are_signed_and_fingerprinted():
    # The parser's own checks serve, once the type says request and a USERNAME is there: compare digests by hand.
    for response in (
        binding_success(TRANSACTION, ("127.0.0.1", 1), PASSWORD),
        binding_error(TRANSACTION, StunError.ROLE_CONFLICT, PASSWORD),
        binding_error(TRANSACTION, StunError.UNKNOWN_ATTRIBUTE, PASSWORD, (0x7777,)),
    ):
        at = len(response) - 8 - 24
        template = parse_binding_request(REQUEST)
        assert template is not None
        assert is_authentic(response, replace(template, integrity_at=at), PASSWORD)
        assert int.from_bytes(response[2:4], "big") == len(response) - 20


def test_unknown_required_attributes_are_listed_and_optional_ones_are_not():
    body = REQUEST[20:]
    for kind, expected in ((0x7777, (0x7777,)), (0xC057, ())):
        inserted = kind.to_bytes(2, "big") + b"\x00\x00" + body[:-8]
        message = REQUEST[:2] + len(inserted).to_bytes(2, "big") + REQUEST[4:20] + inserted
        request = parse_binding_request(message)
        assert request is not None
        assert request.unknown == expected


def test_what_follows_message_integrity_is_ignored():
    use_candidate = b"\x00\x25\x00\x00"
    body = REQUEST[20:-8] + use_candidate
    message = REQUEST[:2] + len(body).to_bytes(2, "big") + REQUEST[4:20] + body
    request = parse_binding_request(message)
    assert request is not None
    assert not request.use_candidate
