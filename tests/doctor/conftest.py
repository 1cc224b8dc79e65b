"""What the doctor looks at, real and small: certificates, a TLS service, a proxy, settings."""

from __future__ import annotations

import asyncio
import base64
import datetime as dt
import ipaddress
import os
import ssl
from dataclasses import dataclass, field
from email.utils import formatdate

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from relay.config import ClientSettings, PolicySettings, Secret, Settings, UpstreamSettings

CANARY = "canary-0123456789-secret"


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch):
    for name in list(os.environ):
        if name.startswith("RELAY_") or name.lower() in {"http_proxy", "https_proxy", "no_proxy", "all_proxy"}:
            monkeypatch.delenv(name)


@pytest.fixture
def settings():
    return Settings(
        upstream=UpstreamSettings(endpoint="http://127.0.0.1:9", deployment="d", api_key=Secret(CANARY)),
        clients=ClientSettings(keys=(Secret(CANARY),)),
        policy=PolicySettings(instructions="Be brief."),
    )


@dataclass(frozen=True)
class Pair:
    """A certificate and its key as files; the certificate is its own authority."""

    certificate: str
    key: str


@pytest.fixture
def certified(tmp_path):
    """Make a self-signed certificate for 127.0.0.1 and localhost that ends in so many days."""
    made = []

    def make(days=90.0, issuer="Contoso Root"):
        key = ec.generate_private_key(ec.SECP256R1())
        now = dt.datetime.now(dt.UTC)
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)])
        names = [x509.IPAddress(ipaddress.ip_address("127.0.0.1")), x509.DNSName("localhost")]
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(days=400))
            .not_valid_after(now + dt.timedelta(days=days))
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .sign(key, hashes.SHA256())
        )
        place = tmp_path / f"pair{len(made)}"
        place.mkdir()
        made.append(place)
        (place / "cert.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        (place / "key.pem").write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return Pair(str(place / "cert.pem"), str(place / "key.pem"))

    return make


@pytest.fixture
async def https(certified):
    """Start a service that answers everything with 404 and a `Date`; returns its port."""
    servers = []

    async def start(pair=None, offset=0.0):
        async def answer(reader, writer):
            await reader.readuntil(b"\r\n\r\n")
            date = formatdate(dt.datetime.now(dt.UTC).timestamp() + offset, usegmt=True)
            writer.write(f"HTTP/1.1 404 Not Found\r\nDate: {date}\r\nContent-Length: 0\r\n\r\n".encode())
            await writer.drain()
            writer.close()

        context = None
        if pair is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(pair.certificate, pair.key)
        server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context)
        servers.append(server)
        return server.sockets[0].getsockname()[1]

    yield start
    for server in servers:
        server.close()


@dataclass
class Proxy:
    """An HTTP proxy that opens every way asked for, or answers `status`."""

    status: int = 200
    port: int = 0
    asked: list[str] = field(default_factory=list)
    credentials: list[str] = field(default_factory=list)

    async def serve(self, reader, writer):
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        self.asked.append(head[0])
        for line in head[1:]:
            if line.lower().startswith("proxy-authorization: basic "):
                self.credentials.append(base64.b64decode(line.split()[-1]).decode())
        if self.status != 200:
            writer.write(f"HTTP/1.1 {self.status} No\r\n\r\n".encode())
            await writer.drain()
            writer.close()
            return
        host, _, port = head[0].split()[1].rpartition(":")
        far_reader, far_writer = await asyncio.open_connection(host, int(port))
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        await asyncio.gather(carry(reader, far_writer), carry(far_reader, writer))


async def carry(reader, writer):
    try:
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()


@pytest.fixture
async def proxy():
    proxy = Proxy()
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    yield proxy
    server.close()
