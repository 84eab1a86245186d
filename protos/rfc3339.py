"""Times as our lines write them. Law: RFC 3339, in UTC, to the millisecond; as Envoy's `%START_TIME%` does."""

from __future__ import annotations

import time
from functools import lru_cache


def written(nanoseconds: int) -> str:
    """A time since the epoch."""
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    return f"{_to_the_second(seconds)}.{rest // 1_000_000:03d}Z"


@lru_cache(64)
def _to_the_second(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
