import os
from collections.abc import Iterator

import pytest

from tests import triton as tritons

# Since 1.29 ONNX Runtime reports models and machines to its makers, unless told otherwise before its import.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")


@pytest.fixture(scope="session")
def triton(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tritons.Triton]:
    """One Triton for all tests that need one: it takes seconds to start."""
    with tritons.triton(tmp_path_factory.mktemp("triton") / "models") as started:
        yield started
