"""An error that is kept keeps nothing of where it was."""

from __future__ import annotations

import gc
import weakref

import pytest

from relay.core.kept_errors import without_frames


class Session:
    """Something that an error must not keep."""


def failing(session):
    try:
        int(repr(session))
    except ValueError as error:
        raise LookupError("it did not work") from error


@pytest.fixture
def _collector_at_rest():
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("_collector_at_rest")
def test_neither_it_nor_what_led_to_it_keeps_its_frames():
    session = Session()
    seen, kept = weakref.ref(session), []
    try:
        failing(session)
    except LookupError as error:
        kept.append(without_frames(error))
    del session
    assert seen() is None
    assert (type(kept[0]), type(kept[0].__cause__)) == (LookupError, ValueError)


def test_two_errors_that_led_to_each_other_are_no_endless_chain():
    first, second = ValueError("first"), LookupError("second")
    first.__cause__, second.__context__ = second, first
    assert without_frames(first) is first
