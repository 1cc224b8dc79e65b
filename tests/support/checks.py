"""What a peer of the public port sends in a test, with checks made by aioice; a leg that keeps what it was handed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from aioice import stun

from relay.rtc.ice_lite import Credentials, IceLiteAgent, Inlets
from relay.rtc.packet import VIEW

CLIENT_HELLO = b"\x16\xfe\xff" + bytes(60)
RTP = b"\x80\x6f" + bytes(40)
RTCP = b"\x80\xc8" + bytes(26)


@dataclass
class Taken:
    """What a leg was handed."""

    dtls: list[bytes] = field(default_factory=list)
    rtp: list[bytes] = field(default_factory=list)
    rtcp: list[bytes] = field(default_factory=list)

    @property
    def inlets(self) -> Inlets:
        def took(datagram: bytes) -> bool:
            self.rtp.append(datagram)
            return True

        return Inlets(lambda size: took(bytes(VIEW[:size])), self.dtls.append, took, self.rtcp.append)

    def __len__(self) -> int:
        return len(self.dtls) + len(self.rtp) + len(self.rtcp)


def check(
    agent: IceLiteAgent,
    *,
    key: str | None = None,
    username: str | None = None,
    nominate: bool = False,
    of: Credentials | None = None,
    **more: Any,
) -> bytes:
    """A check as a controlling agent sends it, under credentials `of` (default: the newest); `more` are attributes."""
    of = of or agent.credentials
    message = stun.Message(stun.Method.BINDING, stun.Class.REQUEST)
    message.attributes["USERNAME"] = username or f"{of.ufrag}:{of.remote_ufrag}"
    message.attributes["PRIORITY"] = 1
    if "ICE-CONTROLLED" not in more:
        message.attributes["ICE-CONTROLLING"] = 1
    message.attributes.update(more)
    if nominate:
        message.attributes["USE-CANDIDATE"] = None
    message.add_message_integrity((key or of.pwd).encode())
    message.add_fingerprint()
    return bytes(message)
