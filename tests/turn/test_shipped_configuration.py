"""The configuration in deploy/coturn, as it stands but for addresses, ports, files and the secret."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import ssl

import pytest
from aioice.stun import Class, Message, Method, TransactionFailed, parse_message
from aioice.turn import UDP_TRANSPORT
from support.coturn import SECRET, SHIPPED, Coturn, self_signed
from support.turn_client import Heard, allocation, echo, echoed

from relay.core.turn_credentials import turn_credential

# The shipped file allows the first and denies everything else.
RELAY, OTHER = "127.0.0.1", "127.0.0.2"


@pytest.mark.parametrize("way", ["udp", "tcp", "tls"])
async def test_it_reaches_the_relay_and_nobody_else(shipped, way):
    address = shipped.host, shipped.tls_port if way == "tls" else shipped.port
    async with (
        allocation(address, shipped.credential(), way, shipped.trusting()) as (transport, heard),
        echo(RELAY) as relay,
        echo(OTHER) as other,
    ):
        assert await echoed(transport, heard, relay, b"to the relay") == relay
        transport.sendto(b"to somebody else", other)
        async with asyncio.timeout(10):
            error = await heard.errors.get()
        assert isinstance(error, TransactionFailed)
        assert error.response.error_code == 403
        # The way to the relay goes on.
        assert await echoed(transport, heard, relay, b"again") == relay
        assert heard.datagrams.empty()


@pytest.mark.parametrize(
    "denied",
    ["169.254.169.254", "10.0.0.1", "192.168.1.1", "198.51.100.7", "127.0.0.53", "0.0.0.0", "224.0.0.1",
     "255.255.255.255"],
)  # fmt: skip
async def test_no_other_address_can_be_named(shipped, denied):
    async with allocation((shipped.host, shipped.port), shipped.credential()) as (transport, _):
        # Private name: a channel is only bound, for a datagram sent would leave this machine if it were allowed.
        bind = transport._TurnTransport__inner_protocol.channel_bind
        with pytest.raises(TransactionFailed) as raised:
            await bind(0x4001, (denied, 80))
        assert raised.value.response.error_code == 403
        await bind(0x4002, (RELAY, 80))


async def test_one_key_gets_only_so_many_allocations(shipped):
    quota = int(re.search(r"^user-quota=(\d+)$", SHIPPED.read_text("utf-8"), re.MULTILINE)[1])
    credentials = [turn_credential(SECRET, "one-key", shipped.credential().expires_at + each) for each in range(quota)]
    held = [allocation((shipped.host, shipped.port), each) for each in credentials]
    try:
        for each in held:
            await each.__aenter__()
        with pytest.raises(TransactionFailed) as raised:
            async with allocation((shipped.host, shipped.port), shipped.credential("one-key")):
                pass
        assert raised.value.response.error_code == 486
        async with allocation((shipped.host, shipped.port), shipped.credential("another")):
            pass
    finally:
        for each in held:
            await each.__aexit__(None, None, None)


async def first_answer(server: Coturn, *requests: Message) -> Message:
    """What comes first when these are sent from one port."""
    heard = Heard()
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: heard, remote_addr=(server.host, server.port)
    )
    try:
        for each in requests:
            transport.sendto(bytes(each))
        async with asyncio.timeout(5):
            data, _ = await heard.datagrams.get()
        return parse_message(data)
    finally:
        transport.close()


def request(method: Method) -> Message:
    made = Message(message_method=method, message_class=Class.REQUEST)
    if method is Method.ALLOCATE:
        made.attributes["REQUESTED-TRANSPORT"] = UDP_TRANSPORT
    return made


async def test_it_names_no_software_and_marks_its_messages(shipped, server):
    answer = await first_answer(shipped, request(Method.ALLOCATE))
    assert answer.attributes["ERROR-CODE"][0] == 401
    assert "FINGERPRINT" in answer.attributes
    assert "SOFTWARE" not in answer.attributes
    assert "SOFTWARE" in (await first_answer(server, request(Method.ALLOCATE))).attributes


async def test_it_tells_no_stranger_his_address(shipped, server):
    asked = request(Method.BINDING), request(Method.ALLOCATE)
    assert (await first_answer(server, *asked)).message_method is Method.BINDING
    assert (await first_answer(shipped, *asked)).message_method is Method.ALLOCATE


async def test_old_tls_is_refused(shipped):
    context = shipped.trusting()
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    _, writer = await asyncio.open_connection(shipped.host, shipped.tls_port, ssl=context)
    writer.close()
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    # It does not even answer such a hello.
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await asyncio.open_connection(shipped.host, shipped.tls_port, ssl=context, ssl_handshake_timeout=2)


async def test_a_renewed_certificate_is_taken_up_on_a_signal(shipped):
    async def shown() -> str:
        return await asyncio.to_thread(ssl.get_server_certificate, (shipped.host, shipped.tls_port))

    before = await shown()
    self_signed(shipped.certificate.parent, RELAY)
    os.kill(shipped.pid, signal.SIGUSR2)
    async with asyncio.timeout(20):
        while (now := await shown()) == before:  # noqa: ASYNC110 - it happens in the server
            await asyncio.sleep(0.1)
    assert ssl.PEM_cert_to_DER_cert(now) == ssl.PEM_cert_to_DER_cert(shipped.certificate.read_text())
