from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.envoy import needs_envoy
from tests.gateway import world as worlds


@pytest_asyncio.fixture
async def world(tmp_path: Path) -> AsyncIterator[worlds.World]:
    async with worlds.world(tmp_path) as made:
        yield made


@pytest_asyncio.fixture(params=["python", pytest.param("express", marks=needs_envoy)])
async def lanes(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[worlds.World]:
    """A gateway by each of its lanes."""
    async with worlds.world(tmp_path, express=request.param == "express") as made:
        yield made
