"""Networks of namespaces: skipped, saying why, where none can be made."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support import needs

from network import namespaces
from network.lab import Lab


@pytest.fixture(scope="session", autouse=True)
def _a_network_can_be_made() -> None:
    reason = namespaces.why_not()
    if reason is not None:
        needs.lacking(reason)


@pytest.fixture
def lab() -> Iterator[Lab]:
    with Lab() as made:
        yield made
