"""STUN Binding as ICE agents ask and answer it (RFC 8489, RFC 8445): parse, authenticate, build. No state, no I/O."""

from __future__ import annotations

import hmac
from binascii import crc32
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from ipaddress import ip_address
from struct import pack, unpack_from

Address = tuple[str, int] | tuple[str, int, int, int]

MAGIC_COOKIE = 0x2112A442
HEADER_LENGTH = 20

_BINDING_REQUEST = 0x0001
_BINDING_SUCCESS = 0x0101
_BINDING_ERROR = 0x0111

_USERNAME = 0x0006
_MESSAGE_INTEGRITY = 0x0008
_ERROR_CODE = 0x0009
_UNKNOWN_ATTRIBUTES = 0x000A
_XOR_MAPPED_ADDRESS = 0x0020
_PRIORITY = 0x0024
_USE_CANDIDATE = 0x0025
_FINGERPRINT = 0x8028
_ICE_CONTROLLED = 0x8029
_ICE_CONTROLLING = 0x802A

_KNOWN_REQUIRED = frozenset({_USERNAME, _MESSAGE_INTEGRITY, _PRIORITY, _USE_CANDIDATE})
_COMPREHENSION_OPTIONAL = 0x8000
_INTEGRITY_LENGTH = 20
_FINGERPRINT_XOR = 0x5354554E
_IPV4 = 4
_FAMILY_IPV4 = 1
_ADDRESS_BYTES = {_FAMILY_IPV4: 4, 2: 16}


class StunError(IntEnum):
    """Error codes that an ICE agent answers with."""

    UNKNOWN_ATTRIBUTE = 420
    ROLE_CONFLICT = 487


@dataclass(frozen=True, slots=True)
class BindingRequest:
    """A well-formed, not yet authenticated connectivity check.

    `integrity_at` is the offset of MESSAGE-INTEGRITY; `unknown` lists attributes that must be understood but are not;
    `priority` is 0 if there is none.
    """

    transaction_id: bytes
    local_ufrag: str
    remote_ufrag: str
    use_candidate: bool
    claims_controlled: bool
    integrity_at: int
    unknown: tuple[int, ...]
    priority: int = 0
    claims_controlling: bool = False


@dataclass(frozen=True, slots=True)
class BindingResponse:
    """A well-formed, not yet authenticated answer to a check.

    `error` is 0 for success; `integrity_at` is 0 without MESSAGE-INTEGRITY; `mapped` is where the peer saw us.
    """

    transaction_id: bytes
    error: int
    mapped: Address | None
    integrity_at: int


def parse_binding_request(data: bytes) -> BindingRequest | None:
    """Read a Binding request with USERNAME and MESSAGE-INTEGRITY; None for anything else, however malformed."""
    if _message_type(data) != _BINDING_REQUEST:
        return None
    found = _authenticated_attributes(data)
    if found is None:
        return None
    integrity_at = found.get(_MESSAGE_INTEGRITY, 0)
    names = _usernames(data, found.get(_USERNAME, 0))
    if names is None or not integrity_at:
        return None
    unknown = tuple(each for each in found if each < _COMPREHENSION_OPTIONAL and each not in _KNOWN_REQUIRED)
    return BindingRequest(
        data[8:20], *names, _USE_CANDIDATE in found, _ICE_CONTROLLED in found, integrity_at, unknown,
        int.from_bytes(_value(data, found.get(_PRIORITY, 0))[:4], "big"), _ICE_CONTROLLING in found,
    )  # fmt: skip


def parse_binding_response(data: bytes) -> BindingResponse | None:
    """Read the answer to a Binding request, success or error; None for anything else, however malformed."""
    kind = _message_type(data)
    if kind not in {_BINDING_SUCCESS, _BINDING_ERROR}:
        return None
    found = _authenticated_attributes(data)
    if found is None:
        return None
    error = 0
    if kind == _BINDING_ERROR:
        value = _value(data, found.get(_ERROR_CODE, 0))
        if len(value) < 4:  # noqa: PLR2004 - RFC 8489 section 14.8: class in the third byte, number in the fourth
            return None
        error = 100 * (value[2] & 7) + value[3]
    mapped = _unxor(_value(data, found.get(_XOR_MAPPED_ADDRESS, 0)), data[8:20])
    return BindingResponse(data[8:20], error, mapped, found.get(_MESSAGE_INTEGRITY, 0))


def _message_type(data: bytes) -> int | None:
    """The type of a message whose header is that of STUN and whose length is right."""
    size = len(data)
    if size < HEADER_LENGTH or size % 4:
        return None
    kind, length, cookie = unpack_from("!HHI", data)
    return int(kind) if cookie == MAGIC_COOKIE and length == size - HEADER_LENGTH else None


def _authenticated_attributes(data: bytes) -> dict[int, int] | None:
    """Where each attribute is that MESSAGE-INTEGRITY covers (all, without one); None if the message is malformed."""
    size = len(data)
    found: dict[int, int] = {}
    for kind, at, end in _attributes(data):
        if end > size or (kind == _FINGERPRINT and not _is_fingerprint(data, at, end)):
            return None
        # RFC 8489 section 14.5: what follows MESSAGE-INTEGRITY is not authenticated, ignore it.
        if kind == _FINGERPRINT or _MESSAGE_INTEGRITY not in found:
            found[kind] = at
    at = found.get(_MESSAGE_INTEGRITY, 0)
    return None if at and len(_value(data, at)) != _INTEGRITY_LENGTH else found


def _value(data: bytes, at: int) -> bytes:
    """The value of the attribute at an offset; empty for offset 0, which stands for one that is not there."""
    return data[at + 4 : at + 4 + unpack_from("!H", data, at + 2)[0]] if at else b""


def _attributes(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Each attribute as its type, its offset and the offset of its end; the last may end outside the message."""
    at = HEADER_LENGTH
    while at < len(data):
        kind, length = unpack_from("!HH", data, at)
        end = at + 4 + length
        yield kind, at, end
        at = end + (-length % 4)


def _usernames(data: bytes, at: int) -> tuple[str, str] | None:
    """The receiver's and the sender's ufrag (RFC 8445 section 7.2.2)."""
    username = _value(data, at)
    local, colon, remote = username.partition(b":")
    return (local.decode(), remote.decode()) if colon and username.isascii() else None


def _is_fingerprint(data: bytes, at: int, end: int) -> bool:
    # RFC 8489 section 14.7: FINGERPRINT is the last attribute.
    return end == len(data) == at + 8 and unpack_from("!I", data, at + 4)[0] == _fingerprint(data[:at])


def is_authentic(data: bytes, message: BindingRequest | BindingResponse, key: bytes) -> bool:
    """Check MESSAGE-INTEGRITY (RFC 8489 section 14.5), in constant time.

    The key of a check is the password of the agent that is asked, and so is that of its answer.
    """
    at = message.integrity_at
    if not at:
        return False
    length = at - HEADER_LENGTH + 4 + _INTEGRITY_LENGTH
    expected = hmac.digest(key, data[:2] + pack("!H", length) + data[4:at], "sha1")
    return hmac.compare_digest(expected, data[at + 4 : at + 4 + _INTEGRITY_LENGTH])


def binding_request(
    transaction_id: bytes, username: str, key: bytes, *, priority: int, tie_breaker: int, use_candidate: bool
) -> bytes:
    """Build the check of a controlling agent (RFC 8445 section 7.2.2).

    `username` is the peer's ufrag, a colon and ours; `key` the peer's password; `priority` that of a peer-reflexive
    candidate on the way the check goes.
    """
    body = _attribute(_USERNAME, username.encode()) + _attribute(_PRIORITY, pack("!I", priority))
    body += _attribute(_ICE_CONTROLLING, pack("!Q", tie_breaker))
    if use_candidate:
        body += _attribute(_USE_CANDIDATE, b"")
    return _signed(_BINDING_REQUEST, transaction_id, body, key)


def binding_success(transaction_id: bytes, address: Address, key: bytes) -> bytes:
    """Build the success response that tells the peer its `address` (RFC 8445 section 7.3)."""
    return _signed(_BINDING_SUCCESS, transaction_id, _xor_mapped_address(address, transaction_id), key)


def binding_error(transaction_id: bytes, error: StunError, key: bytes, unknown: tuple[int, ...] = ()) -> bytes:
    """Build a signed error response; `unknown` is listed with 420 (RFC 8489 section 14.9)."""
    body = _attribute(_ERROR_CODE, pack("!HBB", 0, error // 100, error % 100) + error.name.encode())
    if unknown:
        body += _attribute(_UNKNOWN_ATTRIBUTES, b"".join(pack("!H", each) for each in unknown))
    return _signed(_BINDING_ERROR, transaction_id, body, key)


def _signed(kind: int, transaction_id: bytes, body: bytes, key: bytes) -> bytes:
    # RFC 8489 section 14.5: the length covers MESSAGE-INTEGRITY itself, then FINGERPRINT is added.
    header = pack("!HHI", kind, len(body) + 24, MAGIC_COOKIE) + transaction_id
    body += pack("!HH", _MESSAGE_INTEGRITY, _INTEGRITY_LENGTH) + hmac.digest(key, header + body, "sha1")
    message = pack("!HHI", kind, len(body) + 8, MAGIC_COOKIE) + transaction_id + body
    return message + pack("!HHI", _FINGERPRINT, 4, _fingerprint(message, adjusted=True))


def _fingerprint(data: bytes, *, adjusted: bool = False) -> int:
    if not adjusted:
        data = data[:2] + pack("!H", len(data) - HEADER_LENGTH + 8) + data[4:]
    return crc32(data) ^ _FINGERPRINT_XOR


def _attribute(kind: int, value: bytes) -> bytes:
    return pack("!HH", kind, len(value)) + value + bytes(-len(value) % 4)


def _xor_mapped_address(address: Address, transaction_id: bytes) -> bytes:
    # RFC 8489 section 14.2; a scope id is no part of the address.
    ip = ip_address(address[0].partition("%")[0])
    family = _FAMILY_IPV4 if ip.version == _IPV4 else 2
    packed = _masked(ip.packed, transaction_id)
    return _attribute(_XOR_MAPPED_ADDRESS, pack("!BBH", 0, family, address[1] ^ (MAGIC_COOKIE >> 16)) + packed)


def _unxor(value: bytes, transaction_id: bytes) -> Address | None:
    if len(value) < 4 or len(value) - 4 != _ADDRESS_BYTES.get(value[1]):  # noqa: PLR2004 - family and port come first
        return None
    port = int.from_bytes(value[2:4], "big") ^ (MAGIC_COOKIE >> 16)
    return str(ip_address(_masked(value[4:], transaction_id))), port


def _masked(packed: bytes, transaction_id: bytes) -> bytes:
    mask = pack("!I", MAGIC_COOKIE) + transaction_id
    return bytes(a ^ b for a, b in zip(packed, mask, strict=False))
