"""What every test may use."""

from __future__ import annotations

import gc
import os
import sys
from pathlib import Path

from hypothesis import settings

# Shared test code (a client, a running relay) lives beside the tests that use it.
sys.path.insert(0, str(Path(__file__).parent))

# The program is started hundreds of times: to compile it anew each time would cost more than most tests.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# How long one example takes says how busy the machine is, and nothing of what is tested. Few: every run draws others.
settings.register_profile("untimed", deadline=None, max_examples=50)
settings.load_profile("untimed")


def pytest_collection_finish() -> None:
    """Set aside what was imported and collected: no full collection of garbage need look at all of that again."""
    gc.collect()
    gc.freeze()
