"""Networks of namespaces: skipped, saying why, where none can be made."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from network import namespaces
from network.lab import Lab


@pytest.fixture(scope="session", autouse=True)
def _a_network_can_be_made() -> None:
    reason = namespaces.why_not()
    if reason is None:
        return
    if os.environ.get("CI") == "true":
        pytest.fail(f"CI needs networks of its own: {reason}")
    pytest.skip(reason)


@pytest.fixture
def lab() -> Iterator[Lab]:
    with Lab() as made:
        yield made
