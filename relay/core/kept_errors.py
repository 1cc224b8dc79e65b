"""Errors that are kept: by whoever waits for the outcome, or in the frame that caught them."""

from __future__ import annotations

from typing import TypeVar

E = TypeVar("E", bound=BaseException)


def without_frames(error: E) -> E:
    """The error, it and what led to it without the frames they went through.

    Those know the session, which knows the error: all of it would wait for the garbage collector.
    """
    chain: list[BaseException | None] = [error]
    seen: set[int] = set()
    while chain:
        found = chain.pop()
        # Two errors may each have led to the other.
        if found is not None and id(found) not in seen:
            seen.add(id(found))
            found.__traceback__ = None
            chain += (found.__cause__, found.__context__)
    return error
