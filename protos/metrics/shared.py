"""What gateway and workers both count. Law: under one name, one description.

What is lost on the way to whoever watches is among them; each process tells of the signals that it has.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from protos import dropped, tracing
from protos.dropped import Signal
from protos.metrics.described import LATENCY, Described, Kind
from protos.metrics.instruments import Registry

DURATION: Final = Described(
    "rpc.server.call.duration",
    Kind.HISTOGRAM,
    "s",
    "How long calls took, from their beginning to the last of the answer.",
    labels=(tracing.RPC_METHOD, tracing.MODEL, tracing.VERSION_SERVED, tracing.LANE, tracing.RPC_STATUS),
    bounds=LATENCY,
)
DROPPED: Final = Described(
    "headrace.telemetry.dropped",
    Kind.COUNTER,
    "{item}",
    "What should have been told and is lost: spans, lines, or times that metrics could not be sent.",
    labels=(tracing.SIGNAL,),
)


def of_dropped(registry: Registry, signals: Iterable[Signal] = tuple(Signal)) -> None:
    """Have told what is lost of each of the signals."""
    known = tuple(signals)
    registry.asked(DROPPED, lambda: {(signal,): count for signal, count in dropped.counts().items() if signal in known})
