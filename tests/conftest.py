from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from tests.triton import Triton

# Since 1.29 ONNX Runtime reports models and machines to its makers, unless told otherwise before its import.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

# Properties whose every example is a call take few of them in the ordinary run, and as many as this in a thorough one.
settings.register_profile("thorough", max_examples=2000)


@pytest.fixture(scope="session")
def triton(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Triton]:
    """One Triton for all tests that need one: it takes seconds to start."""
    from tests import triton

    with triton.triton(tmp_path_factory.mktemp("triton") / "models") as started:
        yield started
