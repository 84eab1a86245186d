"""How many files the process may have open. Law: as many as it is allowed to allow itself.

Each caller and each model's host is a connection, which is a file; the soft limit is often 1,024, for programs that
call select(2) (https://0pointer.net/blog/file-descriptor-limits.html). The Envoy in front inherits ours.
"""

from __future__ import annotations

import contextlib
from typing import Final

_MOST: Final = 1024 * 1024  # where there is no limit


def allow_many() -> None:
    """Raise the soft limit, where the system has such."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource  # noqa: PLC0415 - POSIX only

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        most = _MOST if hard == resource.RLIM_INFINITY else min(hard, _MOST)
        if soft != resource.RLIM_INFINITY and soft < most:
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
