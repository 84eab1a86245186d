"""Executions that do not end. Law: it looks and says so; it ends nothing.

A thread cannot be ended from outside. Calls to a model that hangs end at their deadlines, and only the log tells why.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Final

from protos.complaints import Complaints
from workers.model import Version

LONG: Final = 30.0  # seconds that an execution may take before the log speaks of it


async def watch(serving: Callable[[], Iterable[Version]], complaints: Complaints, long: float) -> None:
    """Complain of each version whose execution has run for more than `long` seconds, until cancelled."""
    while True:
        await asyncio.sleep(long / 6)
        for version in serving():
            busy = version.busy()
            if busy > long:
                complaints.warn(
                    ("busy", version.name, version.number),
                    f"model '{version.name}' version {version.number}: an execution has run for {busy:.0f} s so far",
                )
