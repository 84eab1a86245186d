"""Python's garbage collector in a server. Law: what a process has before it takes up its work is there to stay.

These are its modules, above all. They are not looked through again while calls wait: that cost a call more than to
count it (docs/decisions/0044). What comes later may go: the collector alone frees a model that is unloaded.
"""

from __future__ import annotations

import gc


def spare() -> None:
    """Leave all that is there by now out of collections; what has gone already goes first."""
    gc.collect()
    gc.freeze()
