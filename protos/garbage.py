"""Python's garbage collector in a server. Law: what a process has once it is ready is there to stay.

So it is not looked through again while calls wait: that cost a call about as much as to count it (docs/decisions/0044).
"""

from __future__ import annotations

import gc


def spare() -> None:
    """Leave all that is there now out of collections; what has gone already goes first."""
    gc.collect()
    gc.freeze()
