"""Errors that are kept: by whoever waits for the outcome, or in the frame that caught them."""

from __future__ import annotations

from typing import TypeVar

E = TypeVar("E", bound=BaseException)


def without_frames(error: E) -> E:
    """The error, it and what led to it without the frames they went through.

    Those know the session, which knows the error: all of it would wait for the garbage collector.
    """
    found: BaseException | None = error
    # An error that led to itself ends the chain: Python takes care of that when it raises one.
    while found is not None:
        found.__traceback__ = None
        found = found.__cause__ or found.__context__
    return error
