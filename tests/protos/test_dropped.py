"""Losses are counted, from any thread."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from protos import dropped
from protos.dropped import Signal


def test_none_is_forgotten() -> None:
    before = dropped.counts()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: [dropped.add(Signal.SPANS) for _ in range(1000)], range(8)))
    dropped.add(Signal.AUDIT, 3)
    grown = {signal: count - before[signal] for signal, count in dropped.counts().items()}
    assert grown == dict.fromkeys(Signal, 0) | {Signal.SPANS: 8000, Signal.AUDIT: 3}
