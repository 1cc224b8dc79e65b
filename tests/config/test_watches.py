"""A watch that dies is told of, and is begun again."""

import asyncio

from relay.watches import lasting


class Told:
    def __init__(self):
        self.warnings = []

    def warn(self, event, **fields):
        self.warnings.append((event, fields))


async def test_a_watch_that_fails_is_told_of_and_runs_again():
    runs, again = [], asyncio.Event()

    async def watch():
        runs.append(len(runs))
        if len(runs) == 3:
            again.set()
            await asyncio.Event().wait()
        raise OSError("/a/path/nobody/needs/to/read")

    told = Told()
    task = asyncio.create_task(lasting("load", watch, told, pause=0))
    await again.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert told.warnings == [("watch_failed", {"watch": "load", "error": "OSError"})] * 2


async def test_it_ends_when_it_is_cancelled():
    began = asyncio.Event()

    async def watch():
        began.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(lasting("load", watch, told := Told()))
    await began.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert task.cancelled()
    assert told.warnings == []
