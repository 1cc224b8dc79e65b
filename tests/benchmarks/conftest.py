"""How these tests run a program of the benchmarks, and see what it refuses."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


async def _run(*arguments: str) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        *arguments,
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode, out.decode(), err.decode()


@pytest.fixture
def run() -> Callable[..., Awaitable[tuple[int, str, str]]]:
    """Runs a module with arguments; its exit code, output and errors."""
    return _run


@pytest.fixture
def refused(monkeypatch, capsys) -> Callable[..., str]:
    """Calls a program's `main` with arguments that it refuses; its words."""

    def call(main: Callable[[], int], *arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", ["benchmarks", *arguments])
        with pytest.raises(SystemExit) as left:
            main()
        out, err = capsys.readouterr()
        assert (left.value.code, out) == (2, "")
        return err

    return call
