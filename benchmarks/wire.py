"""All sockets of the load behind one epoll, waited for with microseconds' precision while audio is paced.

asyncio rounds its waits up to a millisecond and makes objects for every datagram: with a hundred sessions a second core
would be spent on that alone.
"""

from __future__ import annotations

import asyncio
import select
import socket
from collections.abc import Callable

_MOST_AT_ONCE = 64
_BUFFER_BYTES = 1 << 20


class Wire:
    """The sockets of one process; the event loop serves them whenever nobody calls `serve`."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._readers: dict[int, Callable[[], None]] = {}
        asyncio.get_running_loop().add_reader(self._epoll.fileno(), self.serve, 0.0)

    def open(self, host: str, on_readable: Callable[[], None]) -> socket.socket:
        """Make a datagram socket on a free port; `on_readable` is to read one datagram from it."""
        made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        made.setblocking(False)  # noqa: FBT003 - the socket module's own signature
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER_BYTES)
        made.bind((host, 0))
        self.read(made, on_readable)
        self._epoll.register(made.fileno(), select.EPOLLIN)
        return made

    def read(self, opened: socket.socket, on_readable: Callable[[], None]) -> None:
        """Call this one from now on."""
        self._readers[opened.fileno()] = on_readable

    def shut(self, opened: socket.socket) -> None:
        """Close a socket that `open` made."""
        if not self._epoll.closed:
            self._epoll.unregister(opened.fileno())
        del self._readers[opened.fileno()]
        opened.close()

    def serve(self, seconds: float) -> None:
        """Wait for datagrams at most so long and have each ready socket read one."""
        if seconds > 0:
            # epoll's own timeout has milliseconds, select's microseconds.
            select.select((self._epoll,), (), (), seconds)
        for descriptor, _ in self._epoll.poll(0, _MOST_AT_ONCE):
            # An earlier one of this batch may have closed it.
            reader = self._readers.get(descriptor)
            if reader is not None:
                reader()

    def close(self) -> None:
        """Leave the event loop; the sockets are shut by who opened them."""
        asyncio.get_running_loop().remove_reader(self._epoll.fileno())
        self._epoll.close()
