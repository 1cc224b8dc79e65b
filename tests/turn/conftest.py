from __future__ import annotations

import pytest
from support.coturn import coturn, shipped_coturn


@pytest.fixture
async def server(tmp_path):
    """With as few settings as it can do with."""
    async with coturn(tmp_path) as running:
        yield running


@pytest.fixture
async def shipped(tmp_path):
    """As deploy/coturn configures it."""
    directory = tmp_path / "shipped"
    directory.mkdir()
    async with shipped_coturn(directory) as running:
        yield running
