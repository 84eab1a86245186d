"""The model is trained once for all tests here; it takes a second."""

from __future__ import annotations

import pytest

from headrace.demo import digits
from headrace.demo.digits import Pictures, Trained


@pytest.fixture(scope="session")
def pictures() -> tuple[Pictures, Pictures]:
    return digits.pictures()


@pytest.fixture(scope="session")
def modest(pictures: tuple[Pictures, Pictures]) -> Trained:
    return digits.train_modest(*pictures)


@pytest.fixture(scope="session")
def better(pictures: tuple[Pictures, Pictures]) -> Trained:
    return digits.train_better(*pictures, on_epoch=lambda: None)
