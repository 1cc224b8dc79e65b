"""Debian's TURN server on loopback, with our form of credentials: over UDP, TCP and TLS."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import ipaddress
import random
import re
import socket
import ssl
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from relay.core.turn_credentials import TurnCredential, turn_credential
from support import needs

SHIPPED = Path(__file__).parents[2] / "deploy" / "coturn" / "turnserver.conf"
SECRET = "shared-secret-of-relay-and-turn-server"
RELAY_PORTS = 64
# What it logs once every listener is open.
_READY = "Total General servers"
_LOG_LINES = 2000


@dataclass(frozen=True, slots=True)
class Coturn:
    """A running server: `port` takes UDP and TCP, `tls_port` TLS; it allocates `relay_ports` on `host`."""

    host: str
    port: int
    tls_port: int
    relay_ports: range
    pid: int
    certificate: Path
    secret: str = SECRET
    log: list[str] = field(default_factory=list)
    news: asyncio.Event = field(default_factory=asyncio.Event)

    def url(self, way: str) -> str:
        """The URL of one way in: `udp`, `tcp` or `tls`."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        if way == "tls":
            return f"turns:{host}:{self.tls_port}?transport=tcp"
        return f"turn:{host}:{self.port}?transport={way}"

    @property
    def urls(self) -> tuple[str, ...]:
        return tuple(self.url(way) for way in ("udp", "tcp", "tls"))

    def credential(self, tag: str = "test", seconds: int = 600) -> TurnCredential:
        return turn_credential(self.secret, tag, int(time.time()) + seconds)

    def trusting(self) -> ssl.SSLContext:
        """What a client needs to believe the self-signed certificate."""
        return ssl.create_default_context(cafile=str(self.certificate))

    async def logged(self, text: str, seconds: float = 10.0) -> str:
        """The first log line with this text, now or later."""
        async with asyncio.timeout(seconds):
            while not (found := next((line for line in self.log if text in line), None)):
                self.news.clear()
                await self.news.wait()
        return found


def require_coturn() -> str:
    """The server's path; without one the test is skipped."""
    return needs.program("turnserver", package="coturn")


@contextlib.asynccontextmanager
async def coturn(
    directory: Path,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    tls_port: int = 0,
    options: Sequence[str] = (),
    prefix: Sequence[str] = (),
) -> AsyncIterator[Coturn]:
    """Run it with its files in `directory`. `options` are more lines of its configuration.

    `prefix` is what the command begins with, such as `ip netns exec NAME`; then say which ports, for free ones are
    looked for here.
    """
    values = _values(directory, host, port, tls_port)
    lines = [f"{name}={value}" for name, value in values.items()]
    lines += ["realm=turn.test", "use-auth-secret", "no-dtls", "no-rfc5780", *_where(host), *options]
    async with _started("\n".join(lines), values, directory, host, prefix) as server:
        yield server


@contextlib.asynccontextmanager
async def shipped_coturn(
    directory: Path,
    relay: str = "127.0.0.1",
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    tls_port: int = 0,
    prefix: Sequence[str] = (),
) -> AsyncIterator[Coturn]:
    """Run it with the configuration in `deploy/coturn`, but for addresses, ports, files and the secret."""
    values = _values(directory, host, port, tls_port) | {"allowed-peer-ip": relay}
    text = SHIPPED.read_text("utf-8")
    for name, value in values.items():
        text, count = re.subn(rf"^{name}=.*$", f"{name}={value}", text, flags=re.MULTILINE)
        assert count == 1, f"{name} is there {count} times"
    async with _started("\n".join([text, *_where(host)]), values, directory, host, prefix) as server:
        yield server


def _values(directory: Path, host: str, port: int, tls_port: int) -> dict[str, str]:
    certificate, key = self_signed(directory, host)
    relay_ports = free_range(host)
    return {
        "listening-port": str(port or free_port(host)),
        "tls-listening-port": str(tls_port or free_port(host)),
        "min-port": str(relay_ports[0]),
        "max-port": str(relay_ports[-1]),
        "static-auth-secret": SECRET,
        "cert": str(certificate),
        "pkey": str(key),
    }


def _where(host: str) -> list[str]:
    # Only a test relays to loopback: it has nothing else.
    loopback = ["allow-loopback-peers"] if ipaddress.ip_address(host).is_loopback else []
    return [f"listening-ip={host}", f"relay-ip={host}", *loopback]


@contextlib.asynccontextmanager
async def _started(
    text: str, values: dict[str, str], directory: Path, host: str, prefix: Sequence[str]
) -> AsyncIterator[Coturn]:
    """Run it without console, its log to us, its files in `directory`; end it on leaving."""
    program = require_coturn()
    configuration = directory / "turnserver.conf"
    configuration.write_text(text + "\n")
    process = await asyncio.create_subprocess_exec(
        *prefix,
        *(program, "-c", str(configuration), "--no-cli", "--verbose", "--log-file=stdout"),
        *(f"--pidfile={directory / 'pid'}", f"--userdb={directory / 'users'}"),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    server = Coturn(
        host,
        int(values["listening-port"]),
        int(values["tls-listening-port"]),
        range(int(values["min-port"]), int(values["max-port"]) + 1),
        process.pid,
        Path(values["cert"]),
    )
    reading = asyncio.create_task(_read(process, server.log, server.news))
    try:
        try:
            await server.logged(_READY)
        except TimeoutError:
            raise AssertionError("\n".join(["coturn does not start:", *server.log])) from None
        yield server
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            async with asyncio.timeout(5):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
        await reading


def self_signed(directory: Path, host: str) -> tuple[Path, Path]:
    """A certificate for `host` and its key, good for a day."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "turn.test")])
    now = dt.datetime.now(dt.UTC)
    names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(host)), x509.DNSName("turn.test")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(names, critical=False)
        .sign(key, hashes.SHA256())
    )
    paths = directory / "certificate.pem", directory / "key.pem"
    paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return paths


def free_port(host: str) -> int:
    """A port that neither UDP nor TCP uses."""
    for _ in range(100):
        port = random.randint(20_000, 29_999)
        if _is_free(host, port, socket.SOCK_STREAM) and _is_free(host, port, socket.SOCK_DGRAM):
            return port
    raise AssertionError("no free port")


def free_range(host: str) -> range:
    """`RELAY_PORTS` UDP ports in a row that nobody uses."""
    for _ in range(100):
        first = random.randint(10_000, 19_000)
        found = range(first, first + RELAY_PORTS)
        if all(_is_free(host, port, socket.SOCK_DGRAM) for port in found):
            return found
    raise AssertionError("no free range of ports")


async def _read(process: asyncio.subprocess.Process, log: list[str], news: asyncio.Event) -> None:
    assert process.stdout is not None
    async for line in process.stdout:
        log.append(line.decode("utf-8", "replace").rstrip())
        del log[:-_LOG_LINES]
        news.set()


def _is_free(host: str, port: int, kind: socket.SocketKind) -> bool:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, kind) as trial:
        try:
            trial.bind((host, port))
        except OSError:
            return False
    return True
