"""The kinds of store that a test is run with, by name; the real servers take their time."""

from __future__ import annotations

import pytest

DATABASES = ["sqlite", pytest.param("postgresql", marks=pytest.mark.stores)]
KINDS = [*DATABASES, pytest.param("redis", marks=pytest.mark.stores)]
