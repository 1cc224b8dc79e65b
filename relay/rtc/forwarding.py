"""Which forwarder serves: the compiled one if it was built, else the one in Python.

`RELAY_FORWARDER` in the environment forces one (`native`, `python`); `auto` is the default, which warns of a compiled
one that is there and does not fit. Raises ImportError if `native` is wanted and cannot be had.
"""

from __future__ import annotations

import importlib
import logging
import os
import select
from types import ModuleType
from typing import TYPE_CHECKING

from relay.config_sources import FORWARDER_ENV
from relay.core.rtp import DropCause
from relay.rtc import forwarding_python
from relay.rtc.packet import DATA, READ_BYTES, VIEW, srtp_functions

if TYPE_CHECKING:
    from relay.rtc.forwarding_python import Forwarder, Poller, Reader

__all__ = ["CAN_POLL", "NAME", "Forwarder", "Poller", "Reader", "choose", "load_native"]

_LOG = logging.getLogger(__name__)
# INTERFACE of forwarding_c/module.c: raised in both when what one asks of the other changes.
_INTERFACE = 3
# Without epoll (not Linux) every socket is watched by the event loop itself.
CAN_POLL = hasattr(select, "epoll")


def load_native() -> ModuleType:
    """The compiled forwarder. Raises ModuleNotFoundError if it was not built, ImportError if it does not fit."""
    native = importlib.import_module("relay.rtc._forwarding")
    built = getattr(native, "INTERFACE", None)
    if built != _INTERFACE:
        # A library that stayed behind when the source beside it changed.
        raise ImportError(f"it was built from another version (interface {built}, not {_INTERFACE}): build it again")
    native.configure(DATA, VIEW, READ_BYTES, *srtp_functions(), {each.name: each for each in DropCause})
    return native


def choose(wanted: str) -> str:
    """Take `native`, `python` or (`auto`) the better one that is there, for what is made from now on; which it is."""
    implementation: ModuleType = forwarding_python
    if wanted != "python":
        try:
            implementation = load_native()
        except ImportError as error:
            if wanted == "native":
                raise ImportError(f"{FORWARDER_ENV}=native: no compiled forwarder: {error}") from error
            if not isinstance(error, ModuleNotFoundError):
                _LOG.warning("the forwarder in Python serves, the compiled one cannot: %s", error)
    for name in ("Forwarder", "Reader", "Poller"):
        globals()[name] = getattr(implementation, name)
    return "python" if implementation is forwarding_python else "native"


NAME = choose(os.environ.get(FORWARDER_ENV) or "auto")
