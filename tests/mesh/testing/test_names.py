from __future__ import annotations

import pytest

from mesh.testing.names import Named

FOUND = Named({("models", "one"): 1, ("models", "two"): 2, ("other", "two"): 3})


def test_by_both_names_or_by_one_that_is_clear() -> None:
    assert (FOUND["one.models"], FOUND["one"], FOUND["two.other"]) == (1, 1, 3)
    assert [*FOUND] == ["one.models", "two.models", "two.other"]
    assert [*FOUND.values()] == [1, 2, 3]
    assert ("one" in FOUND, "three" in FOUND, FOUND.get("three")) == (True, False, None)


def test_one_that_could_be_two_is_none() -> None:
    with pytest.raises(KeyError, match=r"more than one workload two; there are: one\.models, two\.models, two\.other"):
        FOUND["two"]


def test_one_that_is_not_there() -> None:
    with pytest.raises(KeyError, match=r"no workload three; there are: one\.models"):
        FOUND["three"]
    with pytest.raises(KeyError, match="no workload three; there are: none"):
        Named({})["three"]
