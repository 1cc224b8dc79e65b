"""One UDP port, many sockets: the first stays everybody's, each later one is connected to one peer (Linux).

The kernel gives a datagram to the socket that fits best, a connected one before any other (net/ipv4/udp.c,
compute_score). In the moment before a joining socket is connected it must get nothing, and this is why it does not:
- On a wildcard it is in the first socket's group, whose program always chooses the first.
- On one IPv4 address so it is before Linux 6.13. Since then a connected socket has left the group, and a joining one
  may found a group with it, without a program, in front of the first. There it is an IPv6 socket with the mapped
  address, which fits less than the first, an IPv4 socket. (Before 6.13 that would hide it once connected.)
- On one IPv6 address it stands behind the first, and of those that fit alike the kernel takes the one in front.
A test does it all with many sockets that come, connect and leave.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import ipaddress
import select
import socket
import struct
import sys

from relay.core.stun import Address
from relay.errors import ConfigError

# asm-generic/socket.h; the socket module has no name for it.
_SO_ATTACH_REUSEPORT_CBPF = 51
_MAPPED = "::ffff:"
_TRIAL_SECONDS = 1.0
_DISCARD_PORT = 9
# struct sock_filter, BPF_RET|BPF_K with k = 0: of a group, always its first socket.
_CHOOSE_FIRST = struct.pack("=HBBI", 0x06, 0, 0, 0)


def lead(bound: socket.socket) -> None:
    """Make a bound UDP socket the first of its port's group; sockets of the same user may `join` from now on.

    It was bound without SO_REUSEPORT, so that the port had no other owner, and nobody else can bind it so afterwards.
    Raises OSError where the system has no such groups.
    """
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    # The kernel makes the group when a second socket joins, and takes a program for an existing group only.
    with socket.socket(bound.family, socket.SOCK_DGRAM) as second:
        if bound.family == socket.AF_INET6:
            second.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        second.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        second.bind(bound.getsockname())
        program = ctypes.create_string_buffer(_CHOOSE_FIRST, len(_CHOOSE_FIRST))
        # struct sock_fprog: how many instructions, and where they are.
        bound.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_REUSEPORT_CBPF, struct.pack("@HP", 1, ctypes.addressof(program)))


def join(host: str, port: int) -> socket.socket:
    """Make a UDP socket on a port that another one leads, to be connected to a peer's `joined_form` at once.

    Raises OSError.
    """
    bound = joined_form(host, (host, port))
    joining = socket.socket(socket.AF_INET6 if ":" in bound[0] else socket.AF_INET, socket.SOCK_DGRAM)
    try:
        if ":" in bound[0]:
            joining.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(bound[0] == host))
        joining.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        joining.bind(bound)
    except OSError:
        joining.close()
        raise
    return joining


@functools.cache
def _takes_from_strangers() -> bool:
    """Try on this system what a plain IPv4 socket that joins gets while another one is connected.

    True where it cannot be tried: then nothing goes astray, whatever the kernel.
    """
    host = ("127.0.0.1", 0)
    with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
        first, connected, joining, stranger = (
            stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) for _ in range(4)
        )
        first.bind(host)
        lead(first)
        for each in (connected, joining):
            each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            each.bind(first.getsockname())
            if each is connected:
                connected.connect((host[0], _DISCARD_PORT))
        stranger.sendto(b"stranger", first.getsockname())
        return first not in select.select([first, joining], [], [], _TRIAL_SECONDS)[0]
    return True


def joined_form(host: str, address: Address) -> Address:
    """How an address looks to a socket that joined on `host`: where `host` is one IPv4 address, mapped if need be."""
    one_ipv4_address = ":" not in host and not ipaddress.ip_address(host).is_unspecified
    if one_ipv4_address and _takes_from_strangers():
        return f"{_MAPPED}{address[0]}", address[1], 0, 0
    return address


def plain_form(address: Address) -> Address:
    """How an address that a joined socket saw looks to the first one."""
    return (address[0].removeprefix(_MAPPED), address[1]) if address[0].startswith(_MAPPED) else address


def require_shareable() -> None:
    """Raise ConfigError where processes cannot share a UDP port, saying what to set instead."""
    reason = f"this system is {sys.platform}"
    if sys.platform == "linux":
        try:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as bound:
                bound.bind(("127.0.0.1", 0))
                lead(bound)
        except (OSError, AttributeError) as error:
            reason = f"this one answers: {error}"
        else:
            return
    raise ConfigError(
        "workers.ports shared: one UDP port for several processes needs Linux with SO_ATTACH_REUSEPORT_CBPF, and "
        f"{reason}; set workers.ports to own, which gives each worker a port of its own"
    )
