"""Two hundred sessions, one after the other: afterwards everything is as it was."""

from __future__ import annotations

import gc

import pytest
from support.client import Client
from support.resources import held, nothing_left_since, resident_bytes
from support.service import CLIENT_KEY
from support.sessions import watched

SESSIONS = 200
WARM_UP = 40
# What 160 sessions may add to the process, client and stand-in included, beyond what 40 needed.
GROWTH_BYTES = 12 * 1024 * 1024


@pytest.mark.timeout(240)
async def test_two_hundred_sessions_in_sequence_leave_nothing():
    async with watched() as watch:
        before = held()
        resident = 0
        for number in range(SESSIONS):
            if number == WARM_UP:
                gc.collect()
                resident = resident_bytes()
            watch.records.clear()
            async with Client(watch.world.url, CLIENT_KEY, sound=False) as client:
                await client.connect()
            assert (await watch.ended()).reason == "client_left"
        await watch.nothing_live()
        await nothing_left_since(before, sockets=False)
        gc.collect()
        growth = resident_bytes() - resident
        assert growth < GROWTH_BYTES, growth
