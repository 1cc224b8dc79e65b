"""STUN against the vectors of RFC 5769 and what an attacker may send."""

import random
from dataclasses import replace

import pytest

from relay.core.stun import (
    StunError,
    binding_error,
    binding_request,
    binding_success,
    is_authentic,
    parse_binding_request,
    parse_binding_response,
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
# RFC 5769 sections 2.2 and 2.3.
RESPONSE_IPV4 = bytes.fromhex(
    "0101003c 2112a442 b7e7a701bc34d686fa87dfae"
    "8022000b 7465737420766563746f7220"
    "00200008 0001a147 e112a643"
    "00080014 2b91f599fd9e90c38c7489f92af9ba53f06be7d7"
    "80280004 c07d4c96"
)
RESPONSE_IPV6 = bytes.fromhex(
    "01010048 2112a442 b7e7a701bc34d686fa87dfae"
    "8022000b 7465737420766563746f7220"
    "00200014 0002a147 0113a9faa5d3f179bc25f4b5bed2b9d9"
    "00080014 a382954e4be67bf11784c97c8292c275bfe3ed41"
    "80280004 c8fb0b4c"
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


def test_random_datagrams_are_no_checks():
    source = random.Random(1)
    for _ in range(3000):
        datagram = bytearray(source.randbytes(source.randrange(1600)))
        datagram[:2] = b"\x00\x01"
        datagram[4:8] = b"\x21\x12\xa4\x42"
        if len(datagram) >= 20:
            datagram = datagram[: len(datagram) // 4 * 4]
            datagram[2:4] = (len(datagram) - 20).to_bytes(2, "big")
        assert parse_binding_request(bytes(datagram)) is None


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


@pytest.mark.parametrize(
    ("datagram", "mapped"),
    [
        (RESPONSE_IPV4, ("192.0.2.1", 32853)),
        (RESPONSE_IPV6, ("2001:db8:1234:5678:11:2233:4455:6677", 32853)),
    ],
)
def test_rfc5769_responses_are_read_and_authentic(datagram, mapped):
    response = parse_binding_response(datagram)
    assert response is not None
    assert (response.transaction_id, response.error, response.mapped) == (TRANSACTION, 0, mapped)
    assert is_authentic(datagram, response, PASSWORD)
    assert not is_authentic(datagram, response, PASSWORD + b"x")
    assert parse_binding_request(datagram) is None


@pytest.mark.parametrize("at", [at for at in range(len(RESPONSE_IPV4)) if at not in {72, 73}])
def test_no_changed_byte_of_a_response_is_taken_for_authentic(at):
    changed = bytearray(RESPONSE_IPV4)
    changed[at] ^= 0x01
    response = parse_binding_response(bytes(changed))
    assert response is None or not is_authentic(bytes(changed), response, PASSWORD)


def test_what_we_ask_is_read_by_the_other_end():
    for use_candidate in (False, True):
        check = binding_request(
            TRANSACTION, "evtj:h6vY", PASSWORD, priority=0x6E0001FF, tie_breaker=2**64 - 1, use_candidate=use_candidate
        )
        request = parse_binding_request(check)
        assert request is not None
        assert is_authentic(check, request, PASSWORD)
        assert (request.local_ufrag, request.remote_ufrag, request.priority) == ("evtj", "h6vY", 0x6E0001FF)
        assert (request.claims_controlling, request.claims_controlled) == (True, False)
        assert (request.use_candidate, request.unknown) == (use_candidate, ())
        assert parse_binding_response(check) is None


def test_our_answers_are_read_by_the_other_end():
    for address in (("192.0.2.7", 9), ("2001:db8::7", 65535)):
        answer = binding_success(TRANSACTION, address, PASSWORD)
        response = parse_binding_response(answer)
        assert response is not None
        assert (response.error, response.mapped) == (0, address)
        assert is_authentic(answer, response, PASSWORD)
    refusal = binding_error(TRANSACTION, StunError.ROLE_CONFLICT, PASSWORD)
    response = parse_binding_response(refusal)
    assert response is not None
    assert (response.error, response.mapped) == (487, None)
    assert is_authentic(refusal, response, PASSWORD)


def test_a_response_without_integrity_is_never_authentic():
    body = RESPONSE_IPV4[20:-32]
    bare = RESPONSE_IPV4[:2] + len(body).to_bytes(2, "big") + RESPONSE_IPV4[4:20] + body
    response = parse_binding_response(bare)
    assert response is not None
    assert response.integrity_at == 0
    assert not is_authentic(bare, response, PASSWORD)


@pytest.mark.parametrize("kind", [b"\x01\x01", b"\x01\x11"])
def test_random_responses_never_raise(kind):
    source = random.Random(2)
    read = 0
    for _ in range(3000):
        datagram = bytearray(source.randbytes(source.randrange(20, 200) // 4 * 4))
        datagram[:8] = kind + (len(datagram) - 20).to_bytes(2, "big") + b"\x21\x12\xa4\x42"
        read += parse_binding_response(bytes(datagram)) is not None
    assert read < 3000


def test_an_error_without_a_code_is_malformed():
    assert parse_binding_response(b"\x01\x11\x00\x00\x21\x12\xa4\x42" + TRANSACTION) is None
