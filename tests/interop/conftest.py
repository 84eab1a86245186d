from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from headrace.demo import digits
from headrace.demo.digits import Trained
from tests.envoy import needs_envoy
from tests.interop.client_world import ClientWorld, client_world


@pytest.fixture(scope="session")
def trained() -> Trained:
    """The demo's better model."""
    return digits.train_better(*digits.pictures(), lambda: None)


@pytest_asyncio.fixture(
    scope="module", loop_scope="module", params=["python", pytest.param("express", marks=needs_envoy)]
)
async def world(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, trained: Trained
) -> AsyncIterator[ClientWorld]:
    """A gateway with TLS by each of its lanes."""
    async with client_world(tmp_path_factory.mktemp("world"), trained, express=request.param == "express") as made:
        yield made
