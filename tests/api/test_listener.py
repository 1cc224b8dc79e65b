"""The listener: bounds, TLS that follows its files, an orderly stop."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import errno
import ipaddress
import json
import socket
import ssl
import time

import aiohttp
import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from relay.api import Certificate, Listener
from relay.api.tls import Reload
from relay.errors import ConfigError


class Handlers:
    """An application whose handler waits until it may go on."""

    def __init__(self) -> None:
        self.entered = asyncio.Event()
        self.proceed = asyncio.Event()
        self.app = web.Application()
        self.app.add_routes([web.get("/", self.hello), web.get("/wait", self.wait)])
        self.cleaned_up = asyncio.Event()
        self.app.on_cleanup.append(self.clean_up)

    async def clean_up(self, _app: web.Application) -> None:
        self.cleaned_up.set()

    async def hello(self, _request: web.Request) -> web.Response:
        return web.Response(text="hello")

    async def wait(self, _request: web.Request) -> web.Response:
        self.entered.set()
        await self.proceed.wait()
        return web.Response(text="done")


@pytest.fixture
async def handlers():
    return Handlers()


@pytest.fixture
async def listen(handlers, facts):
    started: list[Listener] = []

    async def start(**options) -> Listener:
        options = {"host": "127.0.0.1", "port": 0, "telemetry": facts, "grace_seconds": 0.3, **options}
        listener = Listener(handlers.app, **options)
        await listener.start()
        started.append(listener)
        return listener

    yield start
    for listener in started:
        await listener.stop()


def write_pair(directory, name: str, *, common_name: str | None = None, passphrase: bytes | None = None, days: int = 1):
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name or name)])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(days=days))
        .sign(key, hashes.SHA256())
    )
    encryption = serialization.BestAvailableEncryption(passphrase) if passphrase else serialization.NoEncryption()
    files = directory / f"{name}.crt", directory / f"{name}.key"
    files[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    files[1].write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption))
    return files


async def presented_name(port: int) -> str:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    der = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.transport.abort()
    return x509.load_der_x509_certificate(der).subject.rfc4514_string()


async def test_it_serves_and_stops(listen):
    listener = await listen()
    async with aiohttp.ClientSession() as http, http.get(f"http://127.0.0.1:{listener.port}/") as answer:
        assert await answer.text() == "hello"
    port = listener.port
    await listener.stop()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)


async def test_an_address_in_use_is_an_error_that_leaves_nothing_behind(listen, handlers):
    before = asyncio.all_tasks()
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(OSError, match="in use"):
        await listen(port=taken.getsockname()[1])
    assert asyncio.all_tasks() == before
    assert handlers.cleaned_up.is_set()


async def test_connections_beyond_the_bound_are_closed(listen):
    listener = await listen(max_connections=1)
    reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert (await asyncio.wait_for(reader.readline(), 5)).startswith(b"HTTP/1.1 200")
    extra_reader, extra_writer = await asyncio.open_connection("127.0.0.1", listener.port)
    extra_writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    with contextlib.suppress(ConnectionResetError):
        assert await asyncio.wait_for(extra_reader.read(), 5) == b""
    writer.close()
    extra_writer.close()


async def is_served(port: int, address: str, keep: list[asyncio.StreamWriter]) -> bool:
    """Whether a connection from this address is taken; it stays open."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(address, 0))
    keep.append(writer)
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    try:
        return (await reader.readline()).startswith(b"HTTP/1.1 200")
    except ConnectionResetError:
        return False


@pytest.mark.parametrize(("trusted", "served"), [((), 2), ((ipaddress.ip_network("127.0.0.1/32"),), 4)])
async def test_one_address_leaves_half_of_the_connections_to_others(listen, trusted, served):
    listener, keep = await listen(max_connections=4, trusted_proxies=trusted), []
    assert [await is_served(listener.port, "127.0.0.1", keep) for _ in range(5)].count(True) == served
    assert await is_served(listener.port, "127.0.0.2", keep) is (served < 4)
    for writer in keep:
        writer.close()


async def test_a_handshake_that_never_ends_takes_a_place_until_it_is_given_up(listen, tmp_path):
    listener = await listen(max_connections=1, certificate=Certificate(*map(str, write_pair(tmp_path, "one"))))
    _, silent = await asyncio.open_connection("127.0.0.1", listener.port)
    with pytest.raises(OSError):  # noqa: PT011  refused in one of several ways
        await presented_name(listener.port)
    silent.close()
    async with asyncio.timeout(5):
        while True:
            with contextlib.suppress(OSError):
                assert await presented_name(listener.port) == "CN=one"
                return


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 not http \r\n\r\n",
        b"GET / HTTP/1.1\r\nAuthorization: Bearer ek_canary\x00\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX-Long: " + b"a" * 10_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n" + b"".join(b"X-%d: y\r\n" % number for number in range(200)) + b"\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
    ],
)
async def test_what_is_not_http_gets_the_one_error_shape_and_no_log_line(listen, caplog, request_bytes):
    listener = await listen()
    reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
    writer.write(request_bytes)
    head, _, body = (await asyncio.wait_for(reader.read(), 5)).partition(b"\r\n\r\n")
    writer.close()
    assert head.startswith((b"HTTP/1.0 400", b"HTTP/1.1 400"))
    assert json.loads(body)["error"]["code"] == "invalid_request"
    assert b"Server: relay" in head
    assert b"canary" not in body
    assert caplog.records == []


async def test_stopping_lets_requests_under_way_finish(listen, handlers):
    listener = await listen(grace_seconds=30)
    async with aiohttp.ClientSession() as http:
        request = asyncio.create_task(http.get(f"http://127.0.0.1:{listener.port}/wait"))
        await handlers.entered.wait()
        stopping = asyncio.create_task(listener.stop())
        await asyncio.sleep(0)
        handlers.proceed.set()
        answer = await request
        assert await answer.text() == "done"
        await stopping


async def test_stopping_cancels_what_does_not_finish_in_time(listen, handlers):
    listener = await listen(grace_seconds=0.05)
    async with aiohttp.ClientSession() as http:
        request = asyncio.create_task(http.get(f"http://127.0.0.1:{listener.port}/wait"))
        await handlers.entered.wait()
        await asyncio.wait_for(listener.stop(), 10)
        with pytest.raises(aiohttp.ClientError):
            await request


async def test_tls_serves_and_a_failed_handshake_harms_nobody(listen, tmp_path, caplog):
    cert, key = write_pair(tmp_path, "one")
    listener = await listen(certificate=Certificate(str(cert), str(key)))
    reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    await asyncio.wait_for(reader.read(), 5)
    writer.close()
    async with aiohttp.ClientSession() as http, http.get(f"https://127.0.0.1:{listener.port}/", ssl=False) as answer:
        assert await answer.text() == "hello"
    assert await presented_name(listener.port) == "CN=one"
    assert [record for record in caplog.records if record.levelname in {"WARNING", "ERROR"}] == []


async def test_new_handshakes_get_the_changed_certificate(listen, tmp_path, facts):
    cert, key = write_pair(tmp_path, "live", common_name="one")
    listener = await listen(certificate=Certificate(str(cert), str(key)), tls_check_seconds=0.01)
    new_cert, new_key = write_pair(tmp_path, "next", common_name="two")
    new_key.replace(key)
    new_cert.replace(cert)
    event, fields = await asyncio.wait_for(facts.warnings.get(), 5)
    while event != "tls_certificate_reloaded":  # the watcher may have met the new key beside the old certificate
        event, fields = await asyncio.wait_for(facts.warnings.get(), 5)
    assert set(fields) == {"port"}
    assert await presented_name(listener.port) == "CN=two"


async def test_a_pair_that_does_not_match_leaves_the_old_one_in_force(listen, tmp_path):
    cert, key = write_pair(tmp_path, "live", common_name="one")
    certificate = Certificate(str(cert), str(key))
    ends = certificate.expires_at
    assert 0 < ends - time.time() < 86_401
    listener = await listen(certificate=certificate)
    new_cert, new_key = write_pair(tmp_path, "next", common_name="two")
    assert certificate.reload_if_changed() is Reload.UNCHANGED
    new_cert.replace(cert)
    assert certificate.reload_if_changed() is Reload.FAILED
    assert certificate.reload_if_changed() is Reload.UNCHANGED
    assert await presented_name(listener.port) == "CN=one"
    cert.unlink()
    assert certificate.reload_if_changed() is Reload.FAILED
    assert await presented_name(listener.port) == "CN=one"
    assert certificate.expires_at == ends
    new_cert, new_key = write_pair(tmp_path, "next", common_name="three", days=2)
    new_cert.replace(cert)
    new_key.replace(key)
    assert certificate.reload_if_changed() is Reload.LOADED
    assert await presented_name(listener.port) == "CN=three"
    assert certificate.expires_at > ends + 80_000


def test_certificates_that_cannot_be_used_say_why(tmp_path):
    cert, key = write_pair(tmp_path, "one")
    _, encrypted = write_pair(tmp_path, "two", passphrase=b"secret")
    _, other = write_pair(tmp_path, "three")
    (tmp_path / "empty").write_text("")
    for bad_cert, bad_key, words in (
        (cert, tmp_path / "missing.key", "No such file"),
        (cert, encrypted, "without a passphrase"),
        (cert, other, "cannot be used"),
        (tmp_path / "empty", key, "cannot be used"),
    ):
        with pytest.raises(ConfigError, match=words):
            Certificate(str(bad_cert), str(bad_key))


async def test_a_host_that_has_no_address_is_named(handlers, facts):
    listener = Listener(handlers.app, host="no-such-host.invalid", port=0, telemetry=facts)
    with pytest.raises(OSError, match=r"no-such-host\.invalid: ") as found:
        await listener.start()
    assert found.value.errno == errno.EADDRNOTAVAIL
