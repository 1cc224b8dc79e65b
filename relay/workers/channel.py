"""Messages between the main process and one worker, over a pair of Unix sockets; a socket may come with a message.

A frame is the length of its message (4 bytes, network order), a byte that says whether a socket comes with it, and the
message. The kernel delivers a socket with the first byte of the frame that it was sent with (unix(7), SCM_RIGHTS).
"""

from __future__ import annotations

import array
import asyncio
import socket
import struct
from collections import deque
from collections.abc import Callable

# The largest message is a session's start under a policy of many documents; nothing comes near this.
MAX_MESSAGE_BYTES = 1 << 24
# A peer that lets more than this wait is stuck or hostile.
MAX_WAITING_BYTES = 1 << 25
_HEAD = struct.Struct("!IB")
_READ_BYTES = 1 << 16
_MOST_SOCKETS_A_READ = 8
_ANCILLARY_BYTES = socket.CMSG_SPACE(_MOST_SOCKETS_A_READ * array.array("i").itemsize)
_CLOSE_ON_EXEC = getattr(socket, "MSG_CMSG_CLOEXEC", 0)


class ChannelError(Exception):
    """What was sent or received breaks the rules of a channel."""


class Channel:
    """One end. Calls `on_message(message, passed)` for each message, and once at the end `on_lost(why)`.

    `passed` is the socket that came with the message, from then on the callee's; with `takes_sockets=False` one that
    comes breaks the channel. Whatever `on_message` raises breaks it too. `send` never waits; a peer that lets more
    than `MAX_WAITING_BYTES` wait loses the channel.
    """

    def __init__(
        self,
        end: socket.socket,
        on_message: Callable[[bytes, socket.socket | None], None],
        on_lost: Callable[[str], None],
        *,
        takes_sockets: bool,
    ) -> None:
        end.setblocking(False)  # noqa: FBT003 - the socket module's own signature
        self._socket = end
        self._on_message = on_message
        self._on_lost = on_lost
        # Without room for them the kernel closes sockets that come, and says so.
        self._ancillary_bytes = _ANCILLARY_BYTES if takes_sockets else 0
        self._loop = asyncio.get_running_loop()
        self._unread = bytearray()
        self._passed: deque[socket.socket] = deque()
        self._waiting: deque[_Outgoing] = deque()
        self._waiting_bytes = 0
        self._peer_gone = False
        self._drained = asyncio.Event()
        self._drained.set()
        self._loop.add_reader(end.fileno(), self._readable)

    @property
    def closed(self) -> bool:
        """Whether nothing can be sent or received any more."""
        return self._socket.fileno() < 0

    @property
    def waiting(self) -> int:
        """How many messages wait for the peer to read what the kernel holds for it."""
        return len(self._waiting)

    def send(self, message: bytes, passed: socket.socket | None = None) -> None:
        """Send, or keep until the peer reads; of no effect on a closed channel. `passed` is the channel's from now on.

        Raises ChannelError for a message above `MAX_MESSAGE_BYTES`.
        """
        if len(message) > MAX_MESSAGE_BYTES:
            raise ChannelError(f"a message of {len(message)} bytes is too long")
        outgoing = _Outgoing(memoryview(_HEAD.pack(len(message), passed is not None) + message), passed)
        if self.closed or self._peer_gone:
            outgoing.let_go()
            return
        self._waiting.append(outgoing)
        self._waiting_bytes += len(outgoing.data)
        if len(self._waiting) == 1:
            self._writable()
        elif self._waiting_bytes > MAX_WAITING_BYTES:
            self._lose("it does not read what it is sent")

    async def drained(self) -> None:
        """Wait until the peer has read all, or the channel is closed; the deadline is the caller's."""
        await self._drained.wait()

    def close(self) -> None:
        """Close this end; `on_lost` is not called any more."""
        if self.closed:
            return
        self._loop.remove_reader(self._socket.fileno())
        self._loop.remove_writer(self._socket.fileno())
        self._socket.close()
        for passed in self._passed:
            passed.close()
        self._passed.clear()
        self._drop_waiting()

    def _drop_waiting(self) -> None:
        for outgoing in self._waiting:
            outgoing.let_go()
        self._waiting.clear()
        self._drained.set()

    def _lose(self, why: str) -> None:
        # Told later: whoever is sending now is in the midst of something.
        if not self.closed:
            self.close()
            self._loop.call_soon(self._on_lost, why)

    # --- writing -----------------------------------------------------------------------------------------------------

    def _writable(self) -> None:
        while self._waiting:
            try:
                sent = self._waiting[0].send(self._socket)
            except (BlockingIOError, InterruptedError):
                self._drained.clear()
                self._loop.add_writer(self._socket.fileno(), self._writable)
                return
            except ConnectionError:
                # The peer is gone. What it said before that is still to be read, and then the end of it.
                self._peer_gone = True
                self._drop_waiting()
                self._loop.remove_writer(self._socket.fileno())
                return
            except OSError as error:
                self._lose(f"cannot be written: {error.strerror}")
                return
            self._waiting_bytes -= sent
            if not self._waiting[0].data:
                self._waiting.popleft()
        if not self._drained.is_set():
            self._drained.set()
            self._loop.remove_writer(self._socket.fileno())

    # --- reading -----------------------------------------------------------------------------------------------------

    def _readable(self) -> None:
        try:
            data, ancillary, flags, _ = self._socket.recvmsg(_READ_BYTES, self._ancillary_bytes, _CLOSE_ON_EXEC)
        except (BlockingIOError, InterruptedError, ConnectionError):
            # A peer that left with something unread is an error once, before what it said and its end.
            return
        except OSError as error:
            self._lose(f"cannot be read: {error.strerror}")
            return
        self._take_sockets(ancillary)
        if not data:
            self._lose("closed")
            return
        if flags & socket.MSG_CTRUNC:
            self._lose("sent sockets that are not wanted")
            return
        self._unread += data
        try:
            self._take_messages()
        except Exception as error:  # noqa: BLE001 - what a peer sends must not stop the loop of this process
            self._lose(f"{type(error).__name__}: {error}")

    def _take_sockets(self, ancillary: list[tuple[int, int, bytes]]) -> None:
        for level, kind, content in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                numbers = array.array("i")
                numbers.frombytes(content[: len(content) - len(content) % numbers.itemsize])
                self._passed.extend(socket.socket(fileno=number) for number in numbers)

    def _take_messages(self) -> None:
        start = 0
        while not self.closed and len(self._unread) - start >= _HEAD.size:
            length, has_socket = _HEAD.unpack_from(self._unread, start)
            if length > MAX_MESSAGE_BYTES or has_socket > 1:
                raise ChannelError("malformed frame")
            end = start + _HEAD.size + length
            if len(self._unread) < end:
                break
            if has_socket and not self._passed:
                raise ChannelError("a socket was announced and did not come")
            message = bytes(memoryview(self._unread)[start + _HEAD.size : end])
            self._on_message(message, self._passed.popleft() if has_socket else None)
            start = end
        del self._unread[:start]


class _Outgoing:
    """A frame that waits to be written, and the socket that goes with its first byte."""

    __slots__ = ("_passed", "data")

    def __init__(self, data: memoryview, passed: socket.socket | None) -> None:
        self.data = data
        self._passed = passed

    def send(self, through: socket.socket) -> int:
        """Write what the kernel takes and return how many bytes that were. Raises OSError."""
        if self._passed is None:
            sent = through.send(self.data)
        else:
            rights = array.array("i", [self._passed.fileno()])
            sent = through.sendmsg([self.data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
            self.let_go()
        self.data = self.data[sent:]
        return sent

    def let_go(self) -> None:
        """Close our copy of the socket: the peer has its own now, or never will."""
        if self._passed is not None:
            self._passed.close()
            self._passed = None
