"""The private names of aioice and aiortc that `peer_ice.py` relies on are still there and still mean the same."""

import inspect
from importlib.metadata import version

from aioice import Candidate, Connection
from aioice.ice import CandidatePair, StunProtocol
from aiortc import (
    RTCCertificate,
    RTCDtlsTransport,
    RTCIceGatherer,
    RTCIceTransport,
    RTCRtpReceiver,
    RTCRtpSender,
    RTCSctpTransport,
)

from relay.simulator.speaker import Speaker


def test_versions_are_those_the_code_was_written_against():
    assert (version("aiortc"), version("aioice")) == ("1.16.0", "0.13.0")


async def test_aioice_connection():
    connection = Connection(ice_controlling=False)
    for name in (
        "_local_username",
        "_local_password",
        "_local_candidates",
        "_local_candidates_start",
        "_local_candidates_end",
        "_protocols",
        "_nominated",
        "_early_checks",
        "_early_checks_done",
        "_check_list_state",
        "_query_consent_task",
    ):
        assert hasattr(connection, name), name
    for name in (
        "_check_list_maybe_complete",
        "check_incoming",
        "request_received",
        "data_received",
        "close",
        "connect",
    ):
        assert callable(getattr(connection, name)), name
    pair = CandidatePair(StunProtocol(connection), Candidate("a", 1, "udp", 1, "127.0.0.1", 5, "prflx"))
    assert (pair.state, pair.nominated) == (CandidatePair.State.FROZEN, False)
    assert pair.remote_addr == ("127.0.0.1", 5)
    assert list(inspect.signature(StunProtocol.send_stun).parameters) == ["self", "message", "addr"]
    assert StunProtocol(connection).transactions == {}


async def test_aiortc_transports_outside_a_peer_connection():
    gatherer = RTCIceGatherer(iceServers=[])
    assert isinstance(gatherer._connection, Connection)
    marker = gatherer._connection = Connection(ice_controlling=False)
    ice = RTCIceTransport(gatherer)
    assert ice._connection is marker
    dtls = RTCDtlsTransport(ice, [RTCCertificate.generateCertificate()])
    dtls._set_role("client")
    assert dtls._role == "client"
    assert dtls._task is None
    sctp = RTCSctpTransport(dtls)
    assert isinstance(sctp._remote_max_message_size, int)
    sender = RTCRtpSender(Speaker(), dtls)
    receiver = RTCRtpReceiver("audio", dtls)
    assert isinstance(sender._ssrc, int)
    assert receiver._track is None
    receiver._set_rtcp_ssrc(sender._ssrc)
    await ice.stop()
