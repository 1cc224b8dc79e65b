"""The names of aiortc, aioice and pylibsrtp that are not public and that `relay/rtc` uses still mean the same.

`relay/rtc` uses no other: the last test reads it.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections import Counter
from importlib.metadata import version
from pathlib import Path

import pylibsrtp
import pytest
from aioice.stun import TransactionError, TransactionFailed
from aioice.turn import DEFAULT_ALLOCATION_LIFETIME, TurnClientTcpProtocol, TurnClientUdpProtocol
from aiortc.rtcdtlstransport import SRTP_PROFILES, RTCCertificate
from aiortc.rtcsctptransport import RTCSctpTransport
from OpenSSL import SSL
from OpenSSL._util import ffi, lib

import relay.rtc
from relay.core.sctp_inbox import WINDOW
from relay.rtc.dtls import DtlsSession, SharedCertificate
from relay.rtc.packet import SrtpContext, srtp_functions

# What relay/rtc overrides, with the parameters it is called with.
OVERRIDDEN = [
    (RTCCertificate, "_create_ssl_context", ["self", "srtp_profiles"]),
    (RTCSctpTransport, "_receive_chunk", ["self", "chunk"]),
    (RTCSctpTransport, "_receive_data_chunk", ["self", "chunk"]),
    (RTCSctpTransport, "_receive_sack_chunk", ["self", "chunk"]),
    (RTCSctpTransport, "_send", ["self", "stream_id", "pp_id", "user_data", "expiry", "max_retransmits", "ordered"]),
    (RTCSctpTransport, "_send_chunk", ["self", "chunk"]),
    (RTCSctpTransport, "_set_state", ["self", "state"]),
    (RTCSctpTransport, "_transmit_reconfig", ["self"]),
    (TurnClientTcpProtocol, "connection_made", ["self", "transport"]),
    (TurnClientTcpProtocol, "datagram_received", ["self", "data", "addr"]),
    (TurnClientUdpProtocol, "datagram_received", ["self", "data", "addr"]),
]
# Every private attribute relay/rtc touches on an object that is not its own.
USED = {
    "_association_state",
    "_connection",
    "_create_ssl_context",
    "_data_channel_receive",
    "_data_channel_queue",
    "_data_channels",
    "_from_ssl",
    "_handle_data",
    "_into_ssl",
    "_last_received_tsn",
    "_local_partial_reliability",
    "_local_port",
    "_local_tsn",
    "_local_verification_tag",
    "_outbound_stream_seq",
    "_raise_ssl_error",
    "_receive_chunk",
    "_receive_data_chunk",
    "_receive_sack_chunk",
    "_reconfig_deferred",
    "_remote_port",
    "_remote_verification_tag",
    "_reset_deferred_streams",
    "_send",
    "_send_chunk",
    "_set_state",
    "_srtp",
    "_ssl",
    "_transmit_reconfig",
}


def test_versions_are_those_the_code_was_written_against():
    assert (version("aiortc"), version("aioice"), version("pylibsrtp")) == ("1.16.0", "0.13.0", "1.0.0")


@pytest.mark.parametrize(("owner", "name", "parameters"), OVERRIDDEN, ids=[each[1] for each in OVERRIDDEN])
def test_what_is_overridden_is_called_as_before(owner, name, parameters):
    assert list(inspect.signature(getattr(owner, name)).parameters) == parameters


async def test_openssl_under_pyopenssl():
    """The calls that one record takes, made without pyOpenSSL's buffers."""
    made = SSL.Connection(RTCCertificate.generateCertificate()._create_ssl_context(SRTP_PROFILES))
    assert all(each != ffi.NULL for each in (made._ssl, made._into_ssl, made._from_ssl))
    made.set_connect_state()
    with pytest.raises(SSL.WantReadError):
        made._raise_ssl_error(made._ssl, lib.SSL_read(made._ssl, ffi.new("char[64]"), 64))
    room = ffi.new("char[4096]")
    assert ffi.buffer(room, lib.BIO_read(made._from_ssl, room, 4096))[:1] == b"\x16"
    assert lib.BIO_write(made._into_ssl, b"\x16\xfe\xfd", 3) == 3


def test_libsrtp_is_where_its_module_says():
    """The compiled forwarder calls these by address: of functions of this process, aligned as its contexts are."""
    context = SrtpContext(pylibsrtp.Session())
    addresses = [*srtp_functions(), context.address]
    assert len(set(addresses)) == 3
    assert all(addresses)
    mapped = [line.split()[0].split("-") for line in Path("/proc/self/maps").read_text("ascii").splitlines()]
    for address in addresses:
        assert any(int(first, 16) <= address < int(last, 16) for first, last in mapped)


def test_srtp_profiles():
    for profile in SRTP_PROFILES:
        view = bytes(range(2 * (profile.key_length + profile.salt_length)))
        key = profile.get_key_and_salt(view, 1)
        assert len(key) == profile.key_length + profile.salt_length
        any_source = pylibsrtp.Policy.SSRC_ANY_INBOUND
        assert pylibsrtp.Session(pylibsrtp.Policy(key=key, ssrc_type=any_source, srtp_profile=profile.libsrtp_profile))
        assert isinstance(profile.openssl_profile, bytes)


async def test_sctp_transport():
    dtls = DtlsSession(lambda _: True, SharedCertificate().current(), Counter(), lambda: None)
    transport = RTCSctpTransport(dtls)
    assert (transport._data_channels, transport._outbound_stream_seq, transport._reconfig_deferred) == ({}, {}, None)
    assert (transport._advertised_rwnd, list(transport._data_channel_queue)) == (WINDOW, [])
    assert (transport._local_partial_reliability, transport._local_tsn >= 0) == (True, True)
    assert (transport._remote_port, transport._remote_verification_tag, transport._last_received_tsn) == (None, 0, None)
    assert {"CLOSED", "COOKIE_WAIT", "ESTABLISHED"} <= {state.name for state in RTCSctpTransport.State}
    # What it calls on the DTLS transport: all of it is there.
    source = inspect.getsource(RTCSctpTransport)
    called = set(re.findall(r"(?:self\.__transport|self\.transport|[( ]transport)\.(\w+)", source))
    assert called == {"_register_data_receiver", "_role", "_send_data", "_unregister_data_receiver", "state"}
    assert "_send_data" not in inspect.getsource(RTCSctpTransport._handle_data)
    # What must not run beside our own transfer of data, and runs in what is replaced alone.
    for name in ("_transmit()", "_t3_start()", "_mark_received("):
        callers = [
            other
            for other, function in inspect.getmembers(RTCSctpTransport, inspect.isfunction)
            if f"self.{name}" in inspect.getsource(function)
        ]
        replaced = {"_receive_data_chunk", "_receive_sack_chunk", "_send", "_t3_expired", "_transmit"}
        assert set(callers) <= replaced, callers


@pytest.mark.parametrize("client", [TurnClientTcpProtocol, TurnClientUdpProtocol])
async def test_aioice_turn_client(client):
    """Nothing private is used, but nothing of it is documented either."""
    made = client(("192.0.2.1", 3478), "user", "password", DEFAULT_ALLOCATION_LIFETIME, 500)
    assert (made.receiver, made.refresh_task, made.channel_to_peer) == (None, None, {})
    assert inspect.iscoroutinefunction(made.connect)
    assert inspect.iscoroutinefunction(made.delete)
    assert list(inspect.signature(made.channel_bind).parameters) == ["channel_number", "addr"]
    received = inspect.getsource(client.datagram_received)
    assert "self.receiver.datagram_received(payload, peer_address)" in received
    assert "self.receiver.connection_lost(exc)" in inspect.getsource(client.connection_lost)
    assert issubclass(TransactionFailed, TransactionError)
    assert "self.transport.close()" in inspect.getsource(client.refresh)


def test_no_other_private_name_is_used():
    found = set()
    for path in Path(relay.rtc.__file__).parent.glob("*.py"):
        tree = ast.parse(path.read_text())
        own = _own_names(tree)
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__"):
                found |= {node.attr} - own
    inherited = found | {name for _, name, _ in OVERRIDDEN if name.startswith("_")}
    assert inherited == USED, inherited ^ USED


def _own_names(tree):
    """Methods and attributes that a module itself makes, but those that stand in for aiortc's."""
    own = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    for node in ast.walk(tree):
        targets = [node.target] if isinstance(node, ast.AnnAssign) else getattr(node, "targets", [])
        for target in targets:
            for each in target.elts if isinstance(target, ast.Tuple) else [target]:
                if isinstance(each, ast.Attribute) and isinstance(each.value, ast.Name) and each.value.id == "self":
                    own.add(each.attr)
                elif isinstance(each, ast.Name):
                    own.add(each.id)
    return own - USED
