"""STUN Binding as ICE agents ask and answer it (RFC 8489, RFC 8445): parse, authenticate, build. No state, no I/O."""

from __future__ import annotations

import hmac
from binascii import crc32
from dataclasses import dataclass
from enum import IntEnum
from ipaddress import IPv6Address
from struct import Struct, pack

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
_FAMILY_IPV4, _FAMILY_IPV6 = 1, 2
_ADDRESS_BYTES = {_FAMILY_IPV4: 4, _FAMILY_IPV6: 16}
_COOKIE = MAGIC_COOKIE.to_bytes(4, "big")
_HEADER = Struct("!HH4s")
_ATTRIBUTE_HEAD = Struct("!HH")
_SHORT = Struct("!H")
_WORD = Struct("!I")
_FAMILY_AND_PORT = Struct("!BBH")
_INTEGRITY_HEAD = _ATTRIBUTE_HEAD.pack(_MESSAGE_INTEGRITY, _INTEGRITY_LENGTH)
_FINGERPRINT_HEAD = _ATTRIBUTE_HEAD.pack(_FINGERPRINT, 4)


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
    unknown = tuple([each for each in found if each < _COMPREHENSION_OPTIONAL and each not in _KNOWN_REQUIRED])
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
    kind, length, cookie = _HEADER.unpack_from(data)
    return int(kind) if cookie == _COOKIE and length == size - HEADER_LENGTH else None


def _authenticated_attributes(data: bytes) -> dict[int, int] | None:
    """Where each attribute is that MESSAGE-INTEGRITY covers (all, without one); None if the message is malformed."""
    size = len(data)
    found: dict[int, int] = {}
    covered = True
    at = HEADER_LENGTH
    while at < size:
        kind, length = _ATTRIBUTE_HEAD.unpack_from(data, at)
        end = at + 4 + length
        if end > size:
            return None
        if kind == _FINGERPRINT:
            if not _is_fingerprint(data, at, end):
                return None
            found[kind] = at
        elif covered:
            found[kind] = at
            if kind == _MESSAGE_INTEGRITY:
                if length != _INTEGRITY_LENGTH:
                    return None
                # RFC 8489 section 14.5: what follows MESSAGE-INTEGRITY is not authenticated, ignore it.
                covered = False
        at = end + (-length & 3)
    return found


def _value(data: bytes, at: int) -> bytes:
    """The value of the attribute at an offset; empty for offset 0, which stands for one that is not there."""
    return data[at + 4 : at + 4 + _SHORT.unpack_from(data, at + 2)[0]] if at else b""


def _usernames(data: bytes, at: int) -> tuple[str, str] | None:
    """The receiver's and the sender's ufrag (RFC 8445 section 7.2.2)."""
    username = _value(data, at)
    local, colon, remote = username.partition(b":")
    return (local.decode(), remote.decode()) if colon and username.isascii() else None


def _is_fingerprint(data: bytes, at: int, end: int) -> bool:
    # RFC 8489 section 14.7: FINGERPRINT is the last attribute.
    if not end == len(data) == at + 8:
        return False
    # The length as it is: it includes the attribute, and nothing follows it.
    return bool(_WORD.unpack_from(data, at + 4)[0] == crc32(data[:at]) ^ _FINGERPRINT_XOR)


def is_authentic(data: bytes, message: BindingRequest | BindingResponse, key: bytes) -> bool:
    """Check MESSAGE-INTEGRITY (RFC 8489 section 14.5), in constant time.

    The key of a check is the password of the agent that is asked, and so is that of its answer.
    """
    at = message.integrity_at
    if not at:
        return False
    length = at - HEADER_LENGTH + 4 + _INTEGRITY_LENGTH
    expected = hmac.digest(key, data[:2] + _SHORT.pack(length) + data[4:at], "sha1")
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
    size = len(body) + 4 + _INTEGRITY_LENGTH
    signature = hmac.digest(key, _HEADER.pack(kind, size, _COOKIE) + transaction_id + body, "sha1")
    head = _HEADER.pack(kind, size + 8, _COOKIE)
    message = head + transaction_id + body + _INTEGRITY_HEAD + signature + _FINGERPRINT_HEAD
    return message + _WORD.pack(crc32(message[:-4]) ^ _FINGERPRINT_XOR)


def _attribute(kind: int, value: bytes) -> bytes:
    size = len(value)
    return _ATTRIBUTE_HEAD.pack(kind, size) + value + bytes(-size & 3)


def _xor_mapped_address(address: Address, transaction_id: bytes) -> bytes:
    # RFC 8489 section 14.2; a scope id is no part of the address.
    host = address[0]
    if ":" in host:
        family, packed = _FAMILY_IPV6, IPv6Address(host.partition("%")[0]).packed
    else:
        # ipaddress takes ten times as long, and an answer to a check is made for each session every few seconds.
        family, packed = _FAMILY_IPV4, bytes(map(int, host.split(".")))
    head = _FAMILY_AND_PORT.pack(0, family, address[1] ^ (MAGIC_COOKIE >> 16))
    return _attribute(_XOR_MAPPED_ADDRESS, head + _masked(packed, transaction_id))


def _unxor(value: bytes, transaction_id: bytes) -> Address | None:
    if len(value) < 4 or len(value) - 4 != _ADDRESS_BYTES.get(value[1]):  # noqa: PLR2004 - family and port come first
        return None
    port = int.from_bytes(value[2:4], "big") ^ (MAGIC_COOKIE >> 16)
    plain = _masked(value[4:], transaction_id)
    return (".".join(map(str, plain)) if value[1] == _FAMILY_IPV4 else str(IPv6Address(plain))), port


def _masked(packed: bytes, transaction_id: bytes) -> bytes:
    size = len(packed)
    mask = (_COOKIE + transaction_id)[:size]
    return (int.from_bytes(packed, "big") ^ int.from_bytes(mask, "big")).to_bytes(size, "big")
