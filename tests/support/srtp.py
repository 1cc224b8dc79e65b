"""SRTP as a leg of a test and its peer have it: keys that are given, no DTLS before."""

from __future__ import annotations

import pylibsrtp

from relay.rtc.packet import SrtpContext

INBOUND, OUTBOUND = pylibsrtp.Policy.SSRC_ANY_INBOUND, pylibsrtp.Policy.SSRC_ANY_OUTBOUND
PAYLOAD_TYPE = 111


def session(key: bytes, direction: int) -> pylibsrtp.Session:
    policy = pylibsrtp.Policy(key=key, ssrc_type=direction, srtp_profile=pylibsrtp.Policy.SRTP_PROFILE_AEAD_AES_128_GCM)
    policy.window_size = 128
    policy.allow_repeat_tx = True
    return pylibsrtp.Session(policy)


def peer_session() -> pylibsrtp.Session:
    """What protects the packets that a leg with `contexts()` takes."""
    return session(b"i" * 28, OUTBOUND)


def contexts() -> tuple[SrtpContext, SrtpContext]:
    """What a leg is started with: one to receive, one to transmit."""
    return SrtpContext(session(b"i" * 28, INBOUND)), SrtpContext(session(b"o" * 28, OUTBOUND))
