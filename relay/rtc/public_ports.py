"""The public media ports of one process, and what browsers are told to send to."""

from __future__ import annotations

from relay.config import IceSettings
from relay.core.sdp_build import LocalCandidate
from relay.rtc.advertise import AdvertisedAddress, advertised_addresses, bind_addresses
from relay.rtc.endpoint import Endpoint
from relay.rtc.tcp import TcpListener


class PublicPorts:
    """UDP and, unless switched off, TCP of `ice`, bound; raises OSError or ConfigError when they cannot be."""

    def __init__(self, ice: IceSettings) -> None:
        self.hosts = bind_addresses(ice.hosts, ice.interfaces)
        self.endpoint = Endpoint(self.hosts, ice.udp_port)
        self.listener: TcpListener | None = None
        try:
            if ice.tcp:
                self.listener = TcpListener(self.endpoint, self.hosts, ice.tcp_port)
            tcp_port = None if self.listener is None else self.listener.port
            self.addresses = advertised_addresses(
                ice.advertise, self.hosts, self.endpoint.port, tcp_port, ice.interfaces
            )
        except BaseException:
            self.close()
            raise

    @property
    def candidates(self) -> tuple[LocalCandidate, ...]:
        """The addresses as candidates of an answer, UDP before TCP."""
        return candidates_of(self.addresses)

    def close(self) -> None:
        """Free the ports and end every connection."""
        if self.listener is not None:
            self.listener.close()
        self.endpoint.close()


def candidates_of(addresses: tuple[AdvertisedAddress, ...]) -> tuple[LocalCandidate, ...]:
    """Each address as a candidate for UDP, then for TCP where there is any."""
    return tuple(LocalCandidate("udp", each.host, each.udp_port) for each in addresses) + tuple(
        LocalCandidate("tcp", each.host, each.tcp_port) for each in addresses if each.tcp_port is not None
    )
