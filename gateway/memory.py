"""What the process does with memory that it has freed. Law: it is kept for the next messages, up to a bound.

By itself glibc hands the top of its heap back to the kernel whenever a large message has been freed, and the next one
pays for each page of its buffers anew: half of what a call of 600 KB costs (docs/decisions/0022).
"""

from __future__ import annotations

import ctypes
from typing import Final

_TRIM_THRESHOLD: Final = -1  # these two as <malloc.h> numbers them
_MMAP_THRESHOLD: Final = -3
_KEPT: Final = 64 * 1024 * 1024  # bytes
_MAPPED: Final = 32 * 1024 * 1024  # bytes of a block that is the kernel's again at once; glibc takes no higher bound


def keep_freed() -> bool:
    """Whether the allocator is one that could be told so: glibc's."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and bool(mallopt(_TRIM_THRESHOLD, _KEPT) and mallopt(_MMAP_THRESHOLD, _MAPPED))
