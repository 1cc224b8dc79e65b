"""What every test may use."""

from __future__ import annotations

import sys
from pathlib import Path

from hypothesis import settings

# Shared test code (a client, a running relay) lives beside the tests that use it.
sys.path.insert(0, str(Path(__file__).parent))

# How long one example takes says how busy the machine is, and nothing of what is tested.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
