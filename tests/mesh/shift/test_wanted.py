"""What may be asked for."""

import pytest

from mesh.shift.wanted import read


def test_weights_of_versions() -> None:
    assert read(["1=80", "2=20"]) == {"1": 80, "2": 20}
    assert read(["a100=100", "l4=0"]) == {"a100": 100, "l4": 0}


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["1=80", "2=2"], "add up to 82, not 100"),
        ([], "add up to 0"),
        (["1=50", "1=50"], "version 1 is there twice"),
        (["1=100.0"], "'100.0' is no weight for version 1"),
        (["1=101"], "'101' is no weight"),
        (["1=-1", "2=101"], "'-1' is no weight"),
        (["1="], "'' is no weight"),
        (["1=\u0665\u0660", "2=50"], "is no weight"),
        (["1"], "'1' is not VERSION=WEIGHT"),
        (["=100"], "'=100' is not VERSION=WEIGHT"),
    ],
)
def test_what_is_no_share(words: list[str], what: str) -> None:
    with pytest.raises(ValueError, match=what):
        read(words)
