"""What `relay doctor` asks of this layer: STUN and TURN servers tried for real, the versions of the libraries below."""

from __future__ import annotations

import asyncio
import os
import ssl
from importlib.metadata import version

from aioice import stun, turn
from OpenSSL import SSL

from relay.config_network import IceServer

# RFC 8489 section 6.2.1, sooner: somebody is waiting.
_RETRANSMIT_SECONDS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
_READ_BYTES = 2_048
_HEADER_BYTES = 20


class ProbeError(Exception):
    """A server gave nothing; `code` is the STUN error it answered with, if any."""

    def __init__(self, message: str, code: int | None = None) -> None:
        super().__init__(message)
        self.code = code


def library_versions() -> dict[str, str]:
    """The versions of what carries media; OpenSSL is the one of the DTLS side."""
    openssl = SSL.OpenSSL_version(SSL.OPENSSL_VERSION).decode().split()
    # libsrtp is built into pylibsrtp and tells no version of its own.
    found = {name: version(name) for name in ("aiortc", "aioice", "pylibsrtp")}
    return found | {"OpenSSL (DTLS)": openssl[1]}


async def stun_binding(server: IceServer, address: str, seconds: float) -> tuple[str, int]:
    """Ask a STUN or TURN server at a literal `address` which address it sees us from. Raises ProbeError."""
    wanted = stun.Message(message_method=stun.Method.BINDING, message_class=stun.Class.REQUEST)
    try:
        async with asyncio.timeout(seconds):
            if server.transport == "udp":
                answer = await _ask_datagram(address, server.port, wanted)
            else:
                answer = await _ask_stream(server, address, wanted)
    except TimeoutError:
        raise ProbeError(f"no answer within {seconds:g} s") from None
    except ssl.SSLCertVerificationError as error:
        raise ProbeError(f"its certificate: {error.verify_message}") from None
    except OSError as error:
        raise ProbeError(_words(error)) from None
    except (EOFError, ValueError):
        raise ProbeError("what answers is no STUN server") from None
    if "XOR-MAPPED-ADDRESS" not in answer.attributes:
        raise ProbeError("the answer names no address", answer.error_code)
    host, port = answer.attributes["XOR-MAPPED-ADDRESS"]
    return str(host), int(port)


async def turn_allocation(
    server: IceServer, address: str, username: str, password: str, seconds: float
) -> tuple[str, int]:
    """Allocate at a TURN server and give it back at once; return the relayed address. Raises ProbeError.

    Over TLS the name is connected to, not `address`, so that the certificate is checked against it.
    """
    secure = server.scheme == "turns"
    try:
        async with asyncio.timeout(seconds):
            transport, held = await turn.create_turn_endpoint(
                _Allocation,
                (server.host if secure else address, server.port),
                username,
                password,
                ssl=secure or None,
                transport=server.transport,
            )
            host, port = transport.get_extra_info("sockname")
            transport.close()
            await held.given_back.wait()
    except TimeoutError:
        raise ProbeError(f"no answer within {seconds:g} s") from None
    except stun.TransactionFailed as error:
        raise ProbeError(str(error), error.response.error_code) from None
    except (stun.TransactionError, ValueError) as error:
        raise ProbeError(str(error)) from None
    except ssl.SSLCertVerificationError as error:
        raise ProbeError(f"its certificate: {error.verify_message}") from None
    except OSError as error:
        raise ProbeError(_words(error)) from None
    return str(host), int(port)


def _words(error: OSError) -> str:
    # asyncio puts words of its own in place of the system's.
    return os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)


class _Allocation(asyncio.DatagramProtocol):
    """Who holds an allocation; it is given back in a task of aioice's own."""

    def __init__(self) -> None:
        self.given_back = asyncio.Event()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self.given_back.set()


async def _ask_datagram(address: str, port: int, wanted: stun.Message) -> stun.Message:
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[stun.Message] = loop.create_future()

    class _Answers(asyncio.DatagramProtocol):
        def datagram_received(self, data: bytes, addr: object) -> None:  # noqa: ARG002 - the socket is connected
            try:
                found = stun.parse_message(data)
            except ValueError:
                return
            if found.transaction_id == wanted.transaction_id and not answer.done():
                answer.set_result(found)

        def error_received(self, exc: Exception) -> None:
            if not answer.done():
                answer.set_exception(exc)

    transport, _ = await loop.create_datagram_endpoint(_Answers, remote_addr=(address, port))
    try:
        for wait in _RETRANSMIT_SECONDS:
            transport.sendto(bytes(wanted))
            await asyncio.wait({answer}, timeout=wait)
            if answer.done():
                break
        return await answer
    finally:
        answer.cancel()
        transport.close()


async def _ask_stream(server: IceServer, address: str, wanted: stun.Message) -> stun.Message:
    secure = server.scheme.endswith("s")
    reader, writer = await asyncio.open_connection(
        address, server.port, ssl=True if secure else None, server_hostname=server.host if secure else None
    )
    try:
        writer.write(bytes(wanted))
        header = await reader.readexactly(_HEADER_BYTES)
        length = int.from_bytes(header[2:4])
        return stun.parse_message(header + await reader.readexactly(min(length, _READ_BYTES)))
    finally:
        writer.transport.abort()
