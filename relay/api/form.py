"""The parts of a `multipart/form-data` body (RFC 7578), strictly, from bytes that are already bounded."""

from __future__ import annotations

from email.message import Message
from typing import TYPE_CHECKING

from relay.errors import ApiError, ErrorCode

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_PARTS = 8
_BOUNDARY_MAX = 70
_HEADERS_MAX_BYTES = 2048
_PLAIN_ENCODINGS = frozenset({"", "7bit", "8bit", "binary"})


def form_fields(content_type: str, body: bytes, names: frozenset[str]) -> dict[str, bytes]:
    """The parts called `names`, as fields or as files; others are passed over.

    Raises ApiError: 413 for more than 8 parts, 400 for a wanted part that comes twice, for one that is not plain
    UTF-8, and for anything that is not a form.
    """
    fields: dict[str, bytes] = {}
    for part in _parts(body, _boundary(content_type)):
        headers, separator, content = part.partition(b"\r\n\r\n")
        if not separator or len(headers) > _HEADERS_MAX_BYTES:
            raise _malformed()
        header = _headers(headers)
        name = header.get_param("name", header="Content-Disposition")
        if not isinstance(name, str) or name not in names:
            continue
        if name in fields:
            raise ApiError(400, ErrorCode.INVALID_REQUEST, f"The form has more than one part {name}.", param=name)
        _require_plain_text(header, name)
        fields[name] = content
    return fields


def _boundary(content_type: str) -> bytes:
    header = Message()
    header["Content-Type"] = content_type
    boundary = header.get_param("boundary", failobj="")
    # RFC 2046 section 5.1.1: 1 to 70 characters, not ending in a space.
    if not isinstance(boundary, str) or not 0 < len(boundary) <= _BOUNDARY_MAX or not boundary.isascii():
        raise _malformed()
    return boundary.encode()


def _parts(body: bytes, boundary: bytes) -> Iterator[bytes]:
    delimiter = b"\r\n--" + boundary
    # The first delimiter may stand at the very start, without a line break of its own.
    text = b"\r\n" + body
    if text.count(delimiter) > MAX_PARTS + 1:
        raise ApiError(413, ErrorCode.REQUEST_TOO_LARGE, f"The form has more than {MAX_PARTS} parts.")
    _preamble, *rest = text.split(delimiter)
    for piece in rest:
        if piece.startswith(b"--"):
            return
        # Transport padding may follow a delimiter; a longer boundary that begins like ours may not.
        padding, line_break, part = piece.partition(b"\r\n")
        if padding.strip(b" \t") or not line_break:
            raise _malformed()
        yield part
    raise _malformed()


def _headers(block: bytes) -> Message:
    header = Message()
    for line in block.decode("utf-8", "replace").split("\r\n"):
        name, colon, value = line.partition(":")
        if not colon or name in header:
            raise _malformed()
        header[name] = value.strip()
    return header


def _require_plain_text(header: Message, name: str) -> None:
    charset = header.get_param("charset", failobj="utf-8")
    encoding = str(header.get("Content-Transfer-Encoding", "")).lower()
    if str(charset).lower() not in {"utf-8", "utf8", "us-ascii"} or encoding not in _PLAIN_ENCODINGS:
        raise ApiError(400, ErrorCode.INVALID_REQUEST, f"The part {name} must be plain UTF-8.", param=name)


def _malformed() -> ApiError:
    return ApiError(400, ErrorCode.INVALID_REQUEST, "The body is not a well-formed multipart/form-data form.")
