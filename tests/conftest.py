"""What every test may use."""

from __future__ import annotations

import sys
from pathlib import Path

# Shared test code (a client, a running relay) lives beside the tests that use it.
sys.path.insert(0, str(Path(__file__).parent))
