"""One run of a whole deployment, of which all tests here ask. Skipped, saying why, where it cannot be run."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from support import needs

from operations.programs import why_not
from operations.story import Report, told


@pytest.fixture(scope="session")
def report(tmp_path_factory) -> Report:
    reason = why_not()
    if reason is not None:
        needs.lacking(reason)
    pictures = Path(os.environ["PICTURES"]) if os.environ.get("PICTURES") else None
    if pictures is not None:
        pictures.mkdir(parents=True, exist_ok=True)
    return asyncio.run(told(tmp_path_factory.mktemp("ops"), pictures))
