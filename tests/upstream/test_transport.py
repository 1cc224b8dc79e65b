"""Bounds, failures and proxies of the connection itself."""

import asyncio
import gzip
import socket
import ssl
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from relay.upstream import ServiceCall, ServiceError, ServiceKey, ServiceRefusal, adapters
from relay.upstream.adapters import JSON_MAX_BYTES, SDP_MAX_BYTES
from relay.upstream.http import ERROR_BODY_MAX_BYTES, environment_proxy

R = ServiceRefusal
KEY = ServiceKey("ek_canary0123456789")
SESSION = {"type": "realtime", "model": "d"}


@asynccontextmanager
async def raw_server(answer: bytes | None):
    """Writes `answer` to whoever connects, whatever was asked; None closes at once."""

    async def handle(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        if answer:
            writer.write(answer)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def refusal(upstream, operation="mint") -> ServiceError:
    with pytest.raises(ServiceError) as caught:
        await (upstream.mint(SESSION) if operation == "mint" else upstream.call(KEY, "v=0", "d"))
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    return caught.value


async def test_answers_may_be_as_long_as_the_bound(service, connect):
    service.will(201, b"v=0" + b"x" * (SDP_MAX_BYTES - 3))
    assert len((await connect().call(KEY, "v=0", "d")).answer) == SDP_MAX_BYTES
    service.will(200, b'{"value":"ek_1"}' + b" " * (JSON_MAX_BYTES - 16))
    assert (await connect().mint(SESSION)).value == "ek_1"


@pytest.mark.parametrize(("operation", "limit"), [("mint", JSON_MAX_BYTES), ("call", SDP_MAX_BYTES)])
@pytest.mark.parametrize("encoding", ["identity", "gzip"])
async def test_longer_answers_are_refused(service, connect, operation, limit, encoding):
    body = b"v=0" + b"x" * (limit - 2)
    service.will(200, gzip.compress(body) if encoding == "gzip" else body, content_encoding=encoding)
    error = await refusal(connect(), operation)
    assert error.refusal is R.INVALID_ANSWER
    assert error.detail == f"the answer is longer than {limit} bytes"


async def test_an_endless_answer_is_not_read_to_its_end(service, connect):
    gone = asyncio.Event()

    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            while True:
                await response.write(b"x" * 16_384)
        finally:
            gone.set()

    service.handler = endless
    assert (await refusal(connect(), "call")).refusal is R.INVALID_ANSWER
    await asyncio.wait_for(gone.wait(), 5)


async def test_a_refusal_with_a_huge_body_keeps_its_status(service, connect):
    service.will(429, b"x" * (ERROR_BODY_MAX_BYTES + 1), retry_after="3")
    error = await refusal(connect())
    assert (error.refusal, error.retry_after_ms) == (R.RATE_LIMITED, 3000)


async def test_redirects_are_not_followed(service, connect, other_service, serve_more):
    runner = await serve_more(other_service)
    service.will(307, b"", location=f"{other_service.url}/steal")
    error = await refusal(connect())
    await runner.cleanup()
    assert (error.refusal, error.status) == (R.INVALID_ANSWER, 307)
    assert other_service.asked == []


async def test_cookies_are_not_kept(service, connect):
    service.will(200, {"value": "ek_1"}, set_cookie="affinity=1; Path=/")
    upstream = connect()
    await upstream.mint(SESSION)
    await upstream.mint(SESSION)
    assert "cookie" not in service.asked[1].names


async def test_the_connection_is_reused(service, connect):
    upstream = connect()
    service.will(200, {"value": "ek_1"})
    await upstream.mint(SESSION)
    service.will(201, b"v=0\r\n", location="/calls/rtc_1")
    await upstream.hang_up(await upstream.call(KEY, "v=0", "d"))
    assert len({asked.connection for asked in service.asked}) == 1


@pytest.mark.parametrize("operation", ["mint", "call"])
async def test_a_silent_service_is_a_timeout(service, connect, operation):
    async def silent(_: web.Request) -> web.StreamResponse:
        return await asyncio.Future()

    service.handler = silent
    error = await refusal(connect(timeout_seconds=0.5), operation)
    assert (error.refusal, error.operation, error.detail) == (R.TIMEOUT, operation, "no answer within 0.5 s")


async def test_a_service_that_stops_in_the_middle_of_its_answer_is_a_timeout(service, connect):
    async def half(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"v=0")
        return await asyncio.Future()

    service.handler = half
    assert (await refusal(connect(timeout_seconds=0.5), "call")).refusal is R.TIMEOUT


async def test_hang_up_waits_less_than_the_rest(service, connect, monkeypatch):
    async def silent(_: web.Request) -> web.StreamResponse:
        return await asyncio.Future()

    service.handler = silent
    monkeypatch.setattr(adapters, "HANG_UP_SECONDS", 0.5)
    with pytest.raises(ServiceError) as caught:
        await connect(timeout_seconds=60).hang_up(ServiceCall("v=0", "rtc_1"))
    assert (caught.value.refusal, caught.value.operation) == (R.TIMEOUT, "hangup")


async def test_nobody_listens(connect):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        error = await refusal(connect(endpoint=f"http://127.0.0.1:{unused.getsockname()[1]}"))
    assert (error.refusal, error.status, error.request_id) == (R.UNREACHABLE, None, None)


async def test_a_network_that_swallows_the_connection(connect):
    # A full backlog: the kernel drops the next SYN, as a firewall would.
    with socket.socket() as full, socket.socket() as first, socket.socket() as second:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for filler in (first, second):
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
        error = await refusal(connect(endpoint=f"http://127.0.0.1:{full.getsockname()[1]}", timeout_seconds=0.4))
    assert (error.refusal, error.detail) == (R.UNREACHABLE, "no connection in time")


async def test_a_name_that_does_not_exist(connect, monkeypatch):
    def unknown(*_args, **_kwargs):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    # A real look-up would leave the machine.
    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    error = await refusal(connect(endpoint="http://relay-test.invalid"))
    assert error.refusal is R.UNREACHABLE
    assert "relay-test.invalid" in error.detail


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (None, R.UNREACHABLE),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", R.INVALID_ANSWER),
        (b"HTTP/1.1 200 OK\r\ncontent-length: nonsense\r\n\r\n", R.INVALID_ANSWER),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{", R.INVALID_ANSWER),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n", R.INVALID_ANSWER),
        (b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 4\r\n\r\nnope", R.INVALID_ANSWER),
        (b"HTTP/1.1 200 OK\r\nx: " + b"y" * 100_000 + b"\r\n\r\n", R.INVALID_ANSWER),
    ],
    ids=["drops", "ssh", "length", "short", "chunk", "gzip", "header"],
)
async def test_what_is_no_http(connect, answer, expected):
    async with raw_server(answer) as url:
        assert (await refusal(connect(endpoint=url))).refusal is expected


async def test_a_refusal_that_breaks_off_keeps_its_status(connect):
    async with raw_server(b"HTTP/1.1 429 Slow\r\nretry-after: 2\r\ncontent-length: 100\r\n\r\n{") as url:
        error = await refusal(connect(endpoint=url))
    assert (error.refusal, error.retry_after_ms) == (R.RATE_LIMITED, 2000)


ACCEPTED = b"HTTP/1.1 201 Created\r\nlocation: /openai/v1/realtime/calls/rtc_7\r\n"


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(b"content-length: 100\r\n\r\nv=0", id="breaks off"),
        pytest.param(b"content-length: 70000\r\n\r\n" + b"v=0\n" * 17_500, id="is too long"),
        pytest.param(b"content-encoding: gzip\r\ncontent-length: 4\r\n\r\nv=0\n", id="is not what it says"),
    ],
)
async def test_a_call_that_was_accepted_is_known_whatever_becomes_of_its_answer(connect, answer):
    async with raw_server(ACCEPTED + answer) as url:
        error = await refusal(connect(endpoint=url), "call")
    assert (error.refusal, error.call_id) == (R.INVALID_ANSWER, "rtc_7")


async def test_a_call_that_was_accepted_is_known_when_its_answer_does_not_come(service, connect):
    async def half(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(status=201, headers={"location": "/calls/rtc_7"})
        await response.prepare(request)
        await response.write(b"v=0")
        return await asyncio.Future()

    service.handler = half
    error = await refusal(connect(timeout_seconds=0.2), "call")
    assert (error.refusal, error.call_id) == (R.TIMEOUT, "rtc_7")


async def test_a_refused_call_is_none(connect):
    async with raw_server(ACCEPTED.replace(b"201 Created", b"429 Slow") + b"content-length: 0\r\n\r\n") as url:
        error = await refusal(connect(endpoint=url), "call")
    assert (error.refusal, error.call_id) == (R.RATE_LIMITED, None)


async def test_a_certificate_nobody_vouches_for(other_service, serve_more, connect, tmp_path):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(self_signed(tmp_path / "server.pem"))
    runner = await serve_more(other_service, ssl_context=context)
    error = await refusal(connect(endpoint=other_service.url))
    await runner.cleanup()
    assert error.refusal is R.UNREACHABLE
    assert "ertificate" in error.detail
    assert other_service.asked == []


def self_signed(path):
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    path.write_bytes(
        certificate.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return path


async def test_the_proxy_of_the_environment_is_used(service, connect, monkeypatch):
    monkeypatch.setenv("http_proxy", service.url.replace("http://", "http://user:swordfish@"))
    service.will(200, {"value": "ek_1"})
    await connect(endpoint="http://res.example").mint(SESSION)
    [asked] = service.asked
    assert asked["host"] == "res.example"
    assert asked["proxy-authorization"].startswith("Basic ")


async def test_a_tunnel_is_asked_for_https(connect, monkeypatch):
    asked = []

    async def proxy(reader, writer):
        asked.append((await reader.readline()).decode())
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(proxy, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        monkeypatch.setenv("HTTPS_PROXY", f"http://user:swordfish@127.0.0.1:{port}")
        error = await refusal(connect(endpoint="https://res.example"))
    assert asked == ["CONNECT res.example:443 HTTP/1.1\r\n"]
    assert (error.refusal, error.detail) == (R.UNREACHABLE, "the proxy answered 407")


@pytest.mark.parametrize(
    "proxy", ["http://user:swordfish@127.0.0.1:1", "socks5://user:swordfish@127.0.0.1:1", "http://["]
)
async def test_a_proxy_that_does_not_work(connect, monkeypatch, proxy):
    monkeypatch.setenv("http_proxy", proxy)
    error = await refusal(connect(endpoint="http://res.example"))
    assert error.refusal is R.UNREACHABLE
    assert "swordfish" not in str(error)


@pytest.mark.parametrize(
    ("environment", "url", "proxy"),
    [
        ({}, "https://res.example", None),
        ({"HTTPS_PROXY": "http://p:1"}, "https://res.example/x", "http://p:1"),
        ({"HTTPS_PROXY": "p:1"}, "https://res.example", "http://p:1"),
        ({"HTTP_PROXY": "http://p:1"}, "https://res.example", None),
        ({"HTTPS_PROXY": "http://p:1", "NO_PROXY": "example"}, "https://res.example", None),
        ({"HTTPS_PROXY": "http://p:1", "no_proxy": "127.0.0.1,other.example"}, "https://res.example", "http://p:1"),
        ({"http_proxy": "http://p:1", "no_proxy": "127.0.0.1"}, "http://127.0.0.1:99/x", None),
    ],
)
def test_which_proxy(monkeypatch, environment, url, proxy):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert environment_proxy(url) == proxy


async def test_netrc_adds_no_second_credential(service, connect, monkeypatch, tmp_path):
    (tmp_path / "netrc").write_text("default login somebody password swordfish\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    service.will(200, {"value": "ek_1"})
    await connect().mint(SESSION)
    assert "authorization" not in service.asked[0].names


async def test_a_cancelled_request_leaves_no_connection(service, connect):
    arrived, gone = asyncio.Event(), asyncio.Event()

    async def silent(_: web.Request) -> web.StreamResponse:
        arrived.set()
        try:
            return await asyncio.Future()
        finally:
            gone.set()

    service.handler = silent
    task = asyncio.create_task(connect().call(KEY, "v=0", "d"))
    await arrived.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.wait_for(gone.wait(), 5)


async def test_after_close_nothing_is_asked_and_nothing_crashes(service, connect):
    upstream = connect()
    await upstream.close()
    await upstream.close()
    assert (await refusal(upstream)).refusal is R.UNREACHABLE
    assert service.asked == []
