"""One port number on several addresses."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Protocol, TypeVar

_TRIES = 8


class Bound(Protocol):
    """Something that listens on a port until closed."""

    @property
    def port(self) -> int:
        """The local port."""
        ...

    def close(self) -> None:
        """Free it."""
        ...


_B = TypeVar("_B", bound=Bound)


def bind_alike(hosts: tuple[str, ...], port: int, bind: Callable[[str, int], _B]) -> list[_B]:
    """Bind every host to the same port, any free one if it is 0. Raises OSError, and then nothing stays bound."""
    for left in reversed(range(_TRIES)):
        bound: list[_B] = []
        try:
            for host in hosts:
                bound.append(bind(host, bound[0].port if bound else port))
        except OSError as error:
            for each in bound:
                each.close()
            # With any free port wanted, what the first host gives may be taken on the second.
            if port or not bound or error.errno != errno.EADDRINUSE or not left:
                raise
        else:
            return bound
    raise AssertionError  # the last try returned or raised
