"""The names of aiortc, aioice and pylibsrtp that are not public and that `relay/rtc` uses still mean the same.

`relay/rtc` uses no other: the last test reads it.
"""

from __future__ import annotations

import ast
import inspect
from collections import Counter
from importlib.metadata import version
from pathlib import Path

import pylibsrtp
import pytest
from aioice.stun import TransactionError, TransactionFailed
from aioice.turn import DEFAULT_ALLOCATION_LIFETIME, TurnClientTcpProtocol, TurnClientUdpProtocol
from aiortc.rtcdatachannel import RTCDataChannel
from aiortc.rtcdtlstransport import SRTP_PROFILES, RTCCertificate, RTCDtlsTransport, State
from aiortc.rtcsctptransport import DataChunk, InboundStream, RTCSctpTransport

import relay.rtc
from relay.rtc.dtls import DtlsPath

# What relay/rtc overrides, with the parameters it is called with.
OVERRIDDEN = [
    (RTCCertificate, "_create_ssl_context", ["self", "srtp_profiles"]),
    (RTCDtlsTransport, "_setup_srtp", ["self"]),
    (RTCSctpTransport, "_handle_data", ["self", "data"]),
    (RTCSctpTransport, "_receive_data_chunk", ["self", "chunk"]),
    (RTCSctpTransport, "_get_inbound_stream", ["self", "stream_id"]),
    (RTCSctpTransport, "_receive_sack_chunk", ["self", "chunk"]),
    (RTCSctpTransport, "_send_chunk", ["self", "chunk"]),
    (RTCDtlsTransport, "_send_data", ["self", "data"]),
    (InboundStream, "add_chunk", ["self", "chunk"]),
    (InboundStream, "pop_messages", ["self"]),
    (RTCSctpTransport, "_data_channel_receive", ["self", "stream_id", "pp_id", "data"]),
    (RTCSctpTransport, "_set_state", ["self", "state"]),
    (TurnClientTcpProtocol, "connection_made", ["self", "transport"]),
    (TurnClientTcpProtocol, "datagram_received", ["self", "data", "addr"]),
    (TurnClientUdpProtocol, "datagram_received", ["self", "data", "addr"]),
]
# Every private attribute relay/rtc touches on an object that is not its own.
USED = {
    "_create_ssl_context",
    "_data_channel_receive",
    "_data_channels",
    "_get_inbound_stream",
    "_local_partial_reliability",
    "_local_tsn",
    "_receive_sack_chunk",
    "_send_chunk",
    "_send_data",
    "_advertised_rwnd",
    "_handle_data",
    "_inbound_streams",
    "_receive_data_chunk",
    "_recv",
    "_role",
    "_rx_srtp",
    "_sack_misordered",
    "_send",
    "_set_role",
    "_set_state",
    "_setup_srtp",
    "_srtp_profiles",
    "_ssl",
    "_state",
    "_tx_srtp",
}


def test_versions_are_those_the_code_was_written_against():
    assert (version("aiortc"), version("aioice"), version("pylibsrtp")) == ("1.16.0", "0.13.0", "1.0.0")


@pytest.mark.parametrize(("owner", "name", "parameters"), OVERRIDDEN, ids=[each[1] for each in OVERRIDDEN])
def test_what_is_overridden_is_called_as_before(owner, name, parameters):
    assert list(inspect.signature(getattr(owner, name)).parameters) == parameters


async def test_dtls_transport_over_a_path_of_ours():
    path = DtlsPath(lambda _: True, Counter())
    transport = RTCDtlsTransport(path, [RTCCertificate.generateCertificate()])
    assert (transport._state, transport._role, transport._ssl) == (State.NEW, "auto", None)
    assert (transport._rx_srtp, transport._tx_srtp) == (None, None)
    assert transport._srtp_profiles is SRTP_PROFILES
    for profile in SRTP_PROFILES:
        view = bytes(range(2 * (profile.key_length + profile.salt_length)))
        key = profile.get_key_and_salt(view, 1)
        assert len(key) == profile.key_length + profile.salt_length
        any_source = pylibsrtp.Policy.SSRC_ANY_INBOUND
        assert pylibsrtp.Session(pylibsrtp.Policy(key=key, ssrc_type=any_source, srtp_profile=profile.libsrtp_profile))
        assert isinstance(profile.openssl_profile, bytes)
    transport._set_role("client")
    assert transport._role == "client"
    source = inspect.getsource(RTCDtlsTransport)
    # Where our path is read and written, and how the transport hands data on.
    for call in ("self.transport._recv()", "self.transport._send(data)", "self._data_receiver._handle_data(data)"):
        assert call in source, call


async def test_sctp_transport():
    path = DtlsPath(lambda _: True, Counter())
    transport = RTCSctpTransport(RTCDtlsTransport(path, [RTCCertificate.generateCertificate()]))
    assert (transport._inbound_streams, transport._data_channels, transport._sack_misordered) == ({}, {}, set())
    assert transport._advertised_rwnd > 0
    assert (transport._local_partial_reliability, transport._local_tsn >= 0) == (True, True)
    assert {"CLOSED", "ESTABLISHED"} <= {state.name for state in RTCSctpTransport.State}
    assert InboundStream().reassembly == []
    chunk = DataChunk()
    assert (chunk.stream_id, chunk.user_data) == (0, b"")
    assert isinstance(RTCDataChannel.bufferedAmount, property)


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
    inherited = found | {name for _, name, _ in OVERRIDDEN if name.startswith("_")} | {"_recv", "_send"}
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
