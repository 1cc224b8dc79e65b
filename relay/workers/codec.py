"""Reports of a worker as bytes, and back; orders likewise.

A report is JSON, `[name of the dataclass, field, …]`, read along the declared types of the fields: nothing is built but
the dataclasses and enums that these types name, so that bytes of a worker that was taken over build a report, or raise
`CodecError`, and do nothing else. Reports that carry a datagram have it as it is behind their JSON.
Orders are pickled: a worker trusts the main process, which started it and holds more than it.
"""

from __future__ import annotations

import dataclasses
import functools
import ipaddress
import json
import math
import pickle
import struct
import types
import typing
from collections.abc import Callable
from enum import StrEnum
from typing import Any

from relay.core.stun import Address
from relay.workers.messages import Order, PlainReport, Report, SendDatagram, StrayDatagram

_JSON, _SEND, _STRAY = b"J", b"S", b"Y"
_HEAD_LENGTH = struct.Struct("!H")
_INTEGER_LIMIT = 1 << 63
_MAX_PORT = 65_535
_MAX_UDP_BYTES = 65_507


class CodecError(Exception):
    """These bytes are no report."""


def encode_order(order: Order) -> bytes:
    """Pickle an order."""
    return pickle.dumps(order, protocol=pickle.HIGHEST_PROTOCOL)


def decode_order(message: bytes) -> Order:
    """Unpickle an order; only for bytes from the main process."""
    order: Order = pickle.loads(message)  # noqa: S301 - the main process may do whatever it likes with its workers
    return order


def encode_report(report: Report) -> bytes:
    """Write a report down."""
    match report:
        case SendDatagram(host_index, address, datagram):
            return _SEND + _datagram_head(host_index, address) + datagram
        case StrayDatagram(host_index, address, datagram):
            return _STRAY + _datagram_head(host_index, address) + datagram
        case _:
            # Not through an encoder hook: enums are strings to the encoder, and dataclasses need their names.
            return _JSON + json.dumps(_plain(report), separators=(",", ":")).encode()


def decode_report(message: bytes) -> Report:
    """Read a report. Raises CodecError, and nothing else, for anything that is none."""
    kind = message[:1]
    try:
        if kind == _SEND:
            return SendDatagram(*_read_datagram(message))
        if kind == _STRAY:
            return StrayDatagram(*_read_datagram(message))
        if kind != _JSON:
            raise CodecError("unknown kind of report")
        report: PlainReport = _reader(PlainReport)(json.loads(message[1:]))
    except (ValueError, OverflowError, RecursionError, struct.error) as error:
        raise CodecError(f"unreadable report ({type(error).__name__})") from None
    return report


# --- datagrams -------------------------------------------------------------------------------------------------------


def _datagram_head(host_index: int, address: Address) -> bytes:
    head = json.dumps([host_index, *address]).encode()
    return _HEAD_LENGTH.pack(len(head)) + head


def _read_datagram(message: bytes) -> tuple[int, Address, bytes]:
    (length,) = _HEAD_LENGTH.unpack_from(message, 1)
    start = 1 + _HEAD_LENGTH.size + length
    host_index, *address = _reader(tuple[int | str, ...])(json.loads(message[1 + _HEAD_LENGTH.size : start]))
    datagram = message[start:]
    if not isinstance(host_index, int) or host_index < 0 or len(datagram) > _MAX_UDP_BYTES:
        raise CodecError("malformed datagram")
    return host_index, _address(address), datagram


def _address(parts: list[int | str]) -> Address:
    """A socket address with a literal IP address: a name would be looked up by whoever sends to it."""
    match parts:
        case [str(host), int(port)] if ipaddress.ip_address(host).version == 4 and 0 < port <= _MAX_PORT:  # noqa: PLR2004
            return host, port
        case [str(host), int(port), int(flow), int(scope)] if (
            ipaddress.ip_address(host).version == 6  # noqa: PLR2004
            and 0 < port <= _MAX_PORT
            and 0 <= flow < 1 << 20
            and 0 <= scope < 1 << 32
        ):
            return host, port, flow, scope
    raise CodecError("malformed address")


# --- values ----------------------------------------------------------------------------------------------------------


def _plain(value: Any) -> Any:
    match value:
        case None | str() | int() | float():
            return value
        case tuple() | list():
            return [_plain(each) for each in value]
        case dict():
            return [[_plain(key), _plain(each)] for key, each in value.items()]
        case _ if dataclasses.is_dataclass(value):
            fields = (_plain(getattr(value, each.name)) for each in dataclasses.fields(value))
            return [type(value).__name__, *fields]
        case _:
            raise TypeError(f"{type(value).__name__} cannot be in a report")


_Read = Callable[[Any], Any]


@functools.cache
def _reader(wanted: Any) -> _Read:
    """What reads a value of this type out of parsed JSON, or raises CodecError."""
    origin, arguments = typing.get_origin(wanted), typing.get_args(wanted)
    if origin in {typing.Union, types.UnionType}:
        return _union_reader(arguments)
    if origin is tuple:
        return _tuple_reader(arguments)
    if origin is dict:
        return _dict_reader(*map(_reader, arguments))
    if dataclasses.is_dataclass(wanted):
        return _union_reader((wanted,))
    if isinstance(wanted, type) and issubclass(wanted, StrEnum):
        return _enum_reader(wanted)
    return _SCALARS[wanted]


def _union_reader(members: tuple[Any, ...]) -> _Read:
    """Dataclasses are told by their names, other members by trying."""
    dataclass_members: list[Any] = [each for each in members if dataclasses.is_dataclass(each)]
    named = {each.__name__: each for each in dataclass_members}
    others = [_reader(each) for each in members if not dataclasses.is_dataclass(each)]

    def read(value: Any) -> Any:
        if isinstance(value, list) and value and isinstance(value[0], str) and value[0] in named:
            return _built(named[value[0]], value[1:])
        for other in others:
            try:
                return other(value)
            except CodecError:
                continue
        raise CodecError("a value of another type")

    return read


def _built(wanted: Any, values: list[Any]) -> Any:
    readers = _field_readers(wanted)
    if len(values) != len(readers):
        raise CodecError(f"{wanted.__name__} with {len(values)} fields")
    return wanted(*(read(value) for read, value in zip(readers, values, strict=True)))


@functools.cache
def _field_readers(wanted: Any) -> tuple[_Read, ...]:
    hints = typing.get_type_hints(wanted)
    return tuple(_reader(hints[each.name]) for each in dataclasses.fields(wanted))


def _tuple_reader(arguments: tuple[Any, ...]) -> _Read:
    readers = [_reader(each) for each in arguments if each is not Ellipsis]
    any_length = Ellipsis in arguments

    def read(value: Any) -> tuple[Any, ...]:
        if not isinstance(value, list) or (not any_length and len(value) != len(readers)):
            raise CodecError("not a tuple of that length")
        if any_length:
            return tuple(readers[0](each) for each in value)
        return tuple(each(one) for each, one in zip(readers, value, strict=True))

    return read


def _dict_reader(read_key: _Read, read_value: _Read) -> _Read:
    def read(value: Any) -> dict[Any, Any]:
        if not isinstance(value, list) or not all(isinstance(pair, list) and len(pair) == 2 for pair in value):  # noqa: PLR2004
            raise CodecError("not pairs")
        return {read_key(key): read_value(each) for key, each in value}

    return read


def _enum_reader(wanted: type[StrEnum]) -> _Read:
    def read(value: Any) -> StrEnum:
        if not isinstance(value, str):
            raise CodecError("not a word")
        try:
            return wanted(value)
        except ValueError:
            raise CodecError("not a word of its vocabulary") from None

    return read


def _string(value: Any) -> str:
    if not isinstance(value, str):
        raise CodecError("not text")
    return value


def _integer(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not -_INTEGER_LIMIT < value < _INTEGER_LIMIT:
        raise CodecError("not a whole number")
    return value


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise CodecError("not a number")
    return float(value)


def _truth(value: Any) -> bool:
    if not isinstance(value, bool):
        raise CodecError("not true or false")
    return value


def _nothing(value: Any) -> None:
    if value is not None:
        raise CodecError("not nothing")


_SCALARS: dict[Any, _Read] = {str: _string, int: _integer, float: _number, bool: _truth, type(None): _nothing}
