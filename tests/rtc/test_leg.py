"""A leg with a real peer: handshake, event channel, what ends it; and the values a session exchanges."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import pickle
import weakref
from collections import Counter

import pytest
from aiortc.rtcdtlstransport import SRTP_PROFILES
from aiortc.rtcsctptransport import InitChunk

from relay.core.lifecycle import (
    ClientGone,
    ClientOffered,
    Decided,
    Dialect,
    Disconnected,
    Ended,
    EndSession,
    LegCounters,
    LegName,
    Negotiated,
    NoticeEnding,
    OfferRefused,
    Phase,
    PhaseChanged,
    Reanswered,
    Reattached,
    ReattachFailed,
    Reconnected,
    Reoffered,
    ReofferRefused,
    ServiceAnswered,
    ServiceAnswerRefused,
    SessionCounters,
    SessionLimits,
    SessionStart,
    Stage,
    StageDone,
    ToldRefusal,
    TransportUsed,
)
from relay.core.policy import policy_from_instructions
from relay.core.rtp import DropCause
from relay.core.sdp import Fingerprint
from relay.errors import EndReason, ErrorCode
from relay.rtc.dtls import REPLAY_WINDOW, DtlsSession, SharedCertificate
from relay.rtc.leg import LegFault


@pytest.fixture
async def pair(make_leg, connect, heard):
    return await connect(make_leg(heard))


async def test_events_go_both_ways_in_order(pair, heard):
    for number in range(100):
        assert pair.peer.send_text(f"down {number} é")
        assert pair.leg.send_text(f"up {number}")
    await heard.until(lambda: len(heard.texts) == 100)
    await pair.heard.until(lambda: len(pair.heard.texts) == 100)
    assert heard.texts == [f"down {number} é" for number in range(100)]
    assert pair.heard.texts == [f"up {number}" for number in range(100)]


async def test_an_init_sent_again_changes_nothing_of_what_follows(pair, heard):
    # Both ends begin at once, and the answer to ours comes after its timer rang.
    association = pair.leg._association
    init = InitChunk()
    init.initiate_tag, init.initial_tsn = association._local_verification_tag, association._local_tsn
    init.advertised_rwnd, init.outbound_streams, init.inbound_streams = 1 << 17, 16, 16
    await association._send_chunk(init)
    assert pair.leg.send_text("after it")
    await pair.heard.until(lambda: pair.heard.texts)
    assert pair.heard.texts == ["after it"]


async def test_the_largest_message_arrives_and_a_larger_one_is_not_sent(pair, heard):
    assert pair.leg.largest_message == 262_144
    assert pair.peer.send_text("x" * 262_144)
    assert not pair.peer.send_text("x" * 262_145)
    assert not pair.peer.send_text("é" * 131_073)
    await heard.until(lambda: heard.texts)
    assert [len(text) for text in heard.texts] == [262_144]


async def test_events_wait_for_the_channel_in_order_and_bounded(make_leg, connect, heard):
    leg = make_leg(heard, limits=SessionLimits(outbox_bytes=1000))
    assert not leg.send_text("before the offer is known")
    sent = await connect(leg)
    assert sent.heard.texts == []
    early = make_leg(heard, limits=SessionLimits(outbox_bytes=1000))
    early.attach(lambda _: True, sent.leg._remote)
    assert all(early.send_text(f"{number:0100}") for number in range(10))
    assert heard.faults == []
    early.send_text("one more")
    assert heard.faults == [LegFault.TOO_SLOW]
    await connect(early)
    assert early._outbox_bytes == 0


async def test_what_was_kept_arrives_first(make_leg, connect, heard):
    first = await connect(make_leg(heard))
    leg = make_leg(heard)
    leg.attach(lambda _: True, first.leg._remote)
    leg.send_text("one")
    leg.send_text("two")
    pair = await connect(leg)
    leg.send_text("three")
    await pair.heard.until(lambda: len(pair.heard.texts) == 3)
    assert pair.heard.texts == ["one", "two", "three"]


async def test_the_peer_leaves(pair, heard):
    await pair.peer.close()
    await heard.until(lambda: heard.faults)
    assert heard.faults[0] is LegFault.LEFT
    # The one that closed is told nothing more.
    assert pair.heard.faults == []


async def test_nothing_is_told_after_close(pair, heard):
    pair.peer.send_text("too late")
    await pair.leg.close()
    await asyncio.sleep(0)
    assert (heard.texts, heard.faults) == ([], [])
    assert pair.leg._dtls.state == "closed"


async def test_openssl_gives_its_memory_back_at_close(pair):
    """A hundred kilobytes for each connection; what else a leg leaves waits for the garbage collector."""
    connection = weakref.ref(pair.leg._dtls._connection)
    await pair.leg.close()
    assert connection() is None
    pair.leg._dtls.feed(b"\x17\xfe\xfd" + bytes(20))
    assert not pair.leg._dtls.send(b"too late")
    pair.leg._dtls.close()


async def test_another_certificate_than_described_is_refused(make_leg, connect):
    pair = await connect(make_leg())
    leg, other = make_leg(), make_leg()
    wrong = dataclasses.replace(pair.leg._remote, fingerprints=(Fingerprint("sha-256", "AA:" * 31 + "AA"),))
    right = dataclasses.replace(pair.peer._remote, fingerprints=_fingerprints(leg))
    leg.attach(lambda datagram: other.inlets.dtls(datagram) or True, wrong)
    other.attach(lambda datagram: leg.inlets.dtls(datagram) or True, right)
    async with asyncio.timeout(10):
        refused, _ = await asyncio.gather(leg.secure("server", None), other.secure("client", "x"))
    assert refused is False
    assert leg.stream._receive is None
    await asyncio.gather(leg.close(), other.close())


def dtls(dropped):
    return DtlsSession(lambda _: True, SharedCertificate().current(), dropped, lambda: None)


async def test_a_plaintext_alert_ends_no_handshake():
    """Anybody can forge the peer's address on the service's side of a network."""
    session = dtls(dropped := Counter())
    session.feed(b"\x15\xfe\xfd\x00\x00" + bytes(6) + b"\x00\x02\x02\x28")
    session.feed(b"\x16\xfe\xfd" + bytes(20))
    assert (dropped, len(session._early)) == ({DropCause.DTLS_REFUSED: 1}, 1)


async def test_datagrams_for_the_handshake_are_bounded():
    session = dtls(dropped := Counter())
    for _ in range(1000):
        session.feed(b"\x16\xfe\xfd" + bytes(20))
    assert len(session._early) == 128
    assert dropped == {DropCause.DTLS_QUEUE_FULL: 1000 - 128}
    session.close()
    assert not session._early
    assert not await session.handshake("client", ())
    assert not session.send(b"too late")


def test_one_certificate_and_one_context_serve_the_process():
    shared = SharedCertificate()
    assert shared.current() is shared.current()
    context = shared.current()._create_ssl_context(SRTP_PROFILES)
    assert shared.current()._create_ssl_context(SRTP_PROFILES) is context
    assert REPLAY_WINDOW == 128


FACTS_AND_COMMANDS = [
    Negotiated("v=0", "v=0"),
    OfferRefused("m"),
    ServiceAnswerRefused("m"),
    StageDone(LegName.UPSTREAM, Stage.ICE, 0.5),
    PhaseChanged(Phase.ACTIVE),
    Decided(LegName.DOWNSTREAM, "session.update", "rewrite", "session.instructions"),
    TransportUsed(LegName.DOWNSTREAM, "tcp"),
    Disconnected(8.5),
    Reconnected(9.5),
    ClientGone(EndReason.CLIENT_LEFT, "DTLS closed", 15.0),
    Reanswered(1, "v=0", restart=True),
    ReofferRefused(2, ErrorCode.RATE_LIMIT_EXCEEDED, "m", 6),
    Reattached(0.2),
    ReattachFailed(EndReason.CLIENT_UNREACHABLE, "ice"),
    Reoffered(1, "v=0"),
    ServiceAnswered("v=0"),
    ClientOffered(1, "v=0", webrtc_filter=True),
    EndSession(EndReason.CLIENT_HUNG_UP),
    EndSession(EndReason.SERVICE_REFUSED, "d", ToldRefusal("server_error", ErrorCode.SERVICE_FAILED, "m")),
    NoticeEnding(EndReason.RELAY_DRAINING, 30),
    Ended(EndReason.CLIENT_LEFT, "", SessionCounters(LegCounters(dropped={"replay": 1}, jitter_seconds=0.1))),
    SessionStart("rs_1", "v=0", Dialect.GA, Dialect.PREVIEW, webrtc_filter=True, model="m",
                 policy=policy_from_instructions("text", "dep", None)),
]  # fmt: skip


@pytest.mark.parametrize("value", FACTS_AND_COMMANDS, ids=lambda value: type(value).__name__)
def test_what_a_session_exchanges_is_plain(value):
    assert pickle.loads(pickle.dumps(value)) == value
    plain = json.loads(json.dumps(dataclasses.asdict(value), default=sorted))
    assert plain.keys() == {field.name for field in dataclasses.fields(value)}


def test_counted_events_survive_another_process():
    """Their keys are tuples: plain for pickle, not for JSON."""
    ended = Ended(EndReason.CLIENT_LEFT, "", SessionCounters(events={("downstream", "session.update", "rewrite"): 2}))
    assert pickle.loads(pickle.dumps(ended)) == ended


def _fingerprints(leg):
    return tuple(Fingerprint(each.algorithm, each.value) for each in leg._dtls.certificate.getFingerprints())
