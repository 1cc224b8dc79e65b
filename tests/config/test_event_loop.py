"""Which event loop the relay runs on."""

from __future__ import annotations

import asyncio
import sys
import threading
from types import SimpleNamespace

import pytest

from relay import event_loop


@pytest.fixture(autouse=True)
def _pythons_own_switching():
    before = sys.getswitchinterval()
    yield
    sys.setswitchinterval(before)


def test_uvloop_serves_where_it_is_installed(monkeypatch):
    loops = []

    def new_event_loop():
        loops.append(asyncio.new_event_loop())
        return loops[0]

    monkeypatch.setitem(sys.modules, "uvloop", SimpleNamespace(new_event_loop=new_event_loop))
    seen = []

    async def main():
        seen.append(asyncio.get_running_loop())

    event_loop.run(main())
    assert seen == loops


def test_without_it_asyncios_own_does(monkeypatch):
    monkeypatch.setitem(sys.modules, "uvloop", None)
    seen = []

    async def main():
        seen.append(type(asyncio.get_running_loop()))

    event_loop.run(main())
    assert seen == [event_loop.MediaLoop]


def test_no_thread_is_started_while_it_runs():
    seen = []

    async def main():
        seen.append(set(threading.enumerate()))
        await asyncio.gather(*(asyncio.to_thread(seen.append, set(threading.enumerate())) for _ in range(20)))
        seen.append(set(threading.enumerate()))

    before = set(threading.enumerate())
    event_loop.run(main())
    assert all(threads == seen[0] for threads in seen)
    assert set(threading.enumerate()) == before


def test_other_threads_let_go_of_the_interpreter_soon():
    seen = []

    async def main():
        seen.append(sys.getswitchinterval())

    event_loop.run(main())
    assert seen == [pytest.approx(0.0005)]
