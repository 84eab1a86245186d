"""Times as lines have them."""

from __future__ import annotations

from datetime import datetime

import pytest

from protos.rfc3339 import written


@pytest.mark.parametrize(
    ("nanoseconds", "said"),
    [
        (0, "1970-01-01T00:00:00.000Z"),
        (1_785_000_000_999_999_999, "2026-07-25T17:20:00.999Z"),  # cut off, and never the second that comes
    ],
)
def test_a_time_is_told_in_utc_to_the_millisecond(nanoseconds: int, said: str) -> None:
    assert written(nanoseconds) == said
    assert datetime.fromisoformat(said).timestamp() == nanoseconds // 1_000_000 / 1000
