"""Connections of `relay doctor`, made one step at a time so that the step that fails can be named."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import ipaddress
import os
import socket
import ssl
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from urllib.parse import unquote, urlsplit

from cryptography import x509
from cryptography.x509.oid import NameOID

from relay.doctor.checks import in_thread

ANSWER_MAX_BYTES = 4_194_304
_HEADERS_MAX = 64
_STATUS_PARTS = 2
_OK = 200
_DEFAULT_PORTS = {"http": 80, "https": 443}


class NetError(Exception):
    """A step failed; the message is for an operator and holds no secret. `status`: what a proxy answered, if it did."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Place:
    """Where to connect to. `credentials` is the user part of a proxy's URL, percent-decoded."""

    scheme: str
    host: str
    port: int
    credentials: str | None = field(default=None, repr=False)

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Certificate:
    """A server's certificate as it was shown."""

    issuer: str
    subject: str
    expires: datetime


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer; header names in small letters."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(slots=True)
class Connection:
    """A stream and the address it leads to."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    address: str


def place_of(url: str) -> Place:
    """Split the base URL of a service, a relay or a proxy. Raises NetError for what is none."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise NetError("that is no URL") from None
    if parts.scheme not in _DEFAULT_PORTS or not parts.hostname:
        raise NetError(f"{parts.scheme or 'it'} is no scheme that can be used here: http or https are")
    credentials = None
    if parts.username is not None:
        credentials = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return Place(parts.scheme, parts.hostname, port or _DEFAULT_PORTS[parts.scheme], credentials)


async def lookup(host: str) -> tuple[str, ...]:
    """Every address of a name, in the system's order. Raises NetError."""
    try:
        infos = await in_thread(lambda: socket.getaddrinfo(host, None, type=socket.SOCK_STREAM))
    except OSError as error:
        raise NetError(error.strerror or str(error)) from None
    return tuple(dict.fromkeys(str(info[4][0]) for info in infos))


@contextlib.asynccontextmanager
async def connected(address: str, port: int, seconds: float) -> AsyncIterator[Connection]:
    """A TCP connection to a literal address, closed on leaving. Raises NetError."""
    try:
        async with asyncio.timeout(seconds):
            reader, writer = await asyncio.open_connection(address, port)
    except TimeoutError:
        raise NetError(f"no answer within {seconds:g} s") from None
    except OSError as error:
        # asyncio puts words of its own in place of the system's.
        raise NetError(os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)) from None
    try:
        yield Connection(reader, writer, address)
    finally:
        writer.transport.abort()


async def start_tls(connection: Connection, host: str, seconds: float, *, verify: bool = True) -> Certificate | None:
    """Begin TLS on a connection. Raises NetError; one about a certificate leaves the connection unusable.

    Returns the certificate that was shown, None where it cannot be read.
    """
    context = ssl.create_default_context()
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    try:
        async with asyncio.timeout(seconds):
            await connection.writer.start_tls(context, server_hostname=host)
    except TimeoutError:
        raise NetError(f"no TLS handshake within {seconds:g} s") from None
    except ssl.SSLCertVerificationError as error:
        raise NetError(error.verify_message.strip()) from None
    except ssl.SSLError as error:
        raise NetError(f"TLS: {error.reason or 'the handshake failed'}") from None
    except OSError as error:
        raise NetError(error.strerror or "the connection broke off") from None
    return _shown(connection)


async def tunnel(connection: Connection, proxy: Place, target: Place, seconds: float) -> None:
    """Ask a proxy for a way to `target` (RFC 9110 section 9.3.6). Raises NetError, with its status if it gave one."""
    lines = [f"CONNECT {target} HTTP/1.1", f"Host: {target}"]
    if proxy.credentials is not None:
        lines.append(f"Proxy-Authorization: Basic {base64.b64encode(proxy.credentials.encode()).decode()}")
    answer = await _exchange(connection, lines, seconds, body=False)
    if answer.status != _OK:
        hint = ": it wants credentials, or others" if answer.status == 407 else ""  # noqa: PLR2004 - RFC 9110
        raise NetError(f"the proxy answers {answer.status} to CONNECT {target}{hint}", status=answer.status)


async def request(connection: Connection, method: str, target: str, host: str, seconds: float) -> Answer:
    """Send one request without a body and read its answer; the body of HEAD is not waited for. Raises NetError."""
    lines = [f"{method} {target} HTTP/1.1", f"Host: {host}", "User-Agent: relay", "Connection: close"]
    return await _exchange(connection, lines, seconds, body=method != "HEAD")


async def get(url: str, path: str, seconds: float) -> Answer:
    """GET from a relay; its certificate is not verified, for the name asked may be this machine's. Raises NetError."""
    place = place_of(url)
    addresses = (place.host,) if is_literal(place.host) else await lookup(place.host)
    async with connected(addresses[0], place.port, seconds) as connection:
        if place.scheme == "https":
            await start_tls(connection, place.host, seconds, verify=False)
        return await request(connection, "GET", path, str(place), seconds)


def is_literal(host: str) -> bool:
    """Whether a host is a literal address."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def certificate(der: bytes) -> Certificate:
    """Read a certificate. Raises ValueError."""
    found = x509.load_der_x509_certificate(der)
    return Certificate(_name(found.issuer), _name(found.subject), found.not_valid_after_utc)


def _shown(connection: Connection) -> Certificate | None:
    tls = connection.writer.get_extra_info("ssl_object")
    der = tls.getpeercert(binary_form=True) if tls is not None else None
    try:
        return certificate(der) if der else None
    except ValueError:
        return None


def _name(name: x509.Name) -> str:
    parts = [
        str(attribute.value)
        for oid in (NameOID.COMMON_NAME, NameOID.ORGANIZATION_NAME)
        for attribute in name.get_attributes_for_oid(oid)
    ]
    return ", ".join(dict.fromkeys(parts)) or "nobody"


async def _exchange(connection: Connection, lines: list[str], seconds: float, *, body: bool) -> Answer:
    try:
        async with asyncio.timeout(seconds):
            connection.writer.write(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"))
            await connection.writer.drain()
            return await _read_answer(connection.reader, body=body)
    except TimeoutError:
        raise NetError(f"no HTTP answer within {seconds:g} s") from None
    except (OSError, EOFError, ValueError, asyncio.LimitOverrunError):
        raise NetError("the answer is no HTTP or broke off") from None


async def _read_answer(reader: asyncio.StreamReader, *, body: bool) -> Answer:
    status_line = (await reader.readuntil(b"\n")).decode("latin-1").split(maxsplit=_STATUS_PARTS)
    if len(status_line) < _STATUS_PARTS or not status_line[0].startswith("HTTP/"):
        raise ValueError("no status line")
    headers: dict[str, str] = {}
    for _ in range(_HEADERS_MAX):
        line = (await reader.readuntil(b"\n")).decode("latin-1").strip()
        if not line:
            break
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    length = min(int(headers.get("content-length", "0")), ANSWER_MAX_BYTES) if body else 0
    return Answer(int(status_line[1]), headers, await reader.readexactly(length))
