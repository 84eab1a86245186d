"""What a caller may have of a model, and what it has had. Law: all processes behind one door count together, exactly.

A caller is counted by its name, for each model and action. What is over is refused at once, with the time after which
it would go.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import grpc

from gateway.authorize import Permit
from gateway.ledger import Ledger, Record
from gateway.limits import Bucket, Rate, leased, wait
from protos.errors import HeadraceError, Reason

_MOST: Final = 32_768  # callers and models; of those that are quiet again nothing is lost
_OF_RATE: Final = struct.Struct("=ddId")  # tokens, at; calls taken in advance, and when
_TYPICAL: Final = struct.Struct("=d")  # seconds that calls take
_RUNNING: Final = struct.Struct("=H")  # for each process
_RUNS_AT: Final = _OF_RATE.size + _TYPICAL.size
_RUNS: Final = float("inf")
_SOON: Final = 0.01  # seconds; less is not worth waiting for
_SMOOTH: Final = 0.1  # weight of the newest


class Quotas:
    """Counts; this is the process at `place` of so many. `clock` is monotonic. Raises OSError: no file for it."""

    def __init__(self, file: Path | None, processes: int, place: int, clock: Callable[[], float]) -> None:
        self._ledger = Ledger(_RUNS_AT + processes * _RUNNING.size, _MOST, file)
        self._clock = clock
        self._mine = _RUNS_AT + place * _RUNNING.size
        if file is not None:
            self._nothing_runs()

    def _nothing_runs(self) -> None:
        """Here, yet; but something may have in a process that had our place before."""
        nothing = bytes(_RUNNING.size)
        for value in self._ledger.values():
            mine = value[self._mine : self._mine + _RUNNING.size]
            if mine != nothing:
                mine[:] = nothing

    def close(self) -> None:
        """Forget."""
        self._ledger.close()

    def take(self, permit: Permit) -> None:
        """Count one call. Raises HeadraceError RATE_LIMITED."""
        rate = permit.limits.rate
        if rate is None:
            return
        with self._ledger.record(*_key(permit)) as record:
            bucket, before, at = self._bucket(record, rate)
            if short := wait(bucket, rate):
                raise _limited(permit, f"you may make {rate.per_second:g} calls a second of this model", short)
            self._put(record, Bucket(bucket.tokens - 1, bucket.at), rate, before, at)

    def lease(self, permit: Permit) -> int | None:
        """How many calls may be made within `limits.LEASE` without asking again; None: any number, at any time."""
        rate = permit.limits.rate
        if rate is None:
            return None
        with self._ledger.record(*_key(permit)) as record:
            bucket, before, at = self._bucket(record, rate)
            calls = leased(bucket, rate, before, bucket.at - at)
            if calls:
                self._put(record, Bucket(bucket.tokens - calls, bucket.at), rate, calls, bucket.at)
        return calls

    @contextmanager
    def held(self, permit: Permit, most: int, *, tells: bool = True) -> Iterator[None]:
        """Count a call, of which `most` may run at a time, while it does; `tells`: its length is one to expect.

        Raises HeadraceError: RATE_LIMITED, OVERLOADED.
        """
        with self._ledger.record(*_key(permit)) as record:
            if self._running(record) >= most:
                (typical,) = _TYPICAL.unpack_from(record.value, _OF_RATE.size)
                raise _limited(permit, f"you may have {most} calls of this model at a time", typical / most)
            self._count(record, 1)
            record.keep(_RUNS)
        began = self._clock()
        try:
            yield
        finally:
            took = self._clock() - began
            with self._ledger.record(*_key(permit)) as record:
                self._count(record, -1)
                if tells:
                    (typical,) = _TYPICAL.unpack_from(record.value, _OF_RATE.size)
                    typical += (took - typical) * (_SMOOTH if typical else 1.0)
                    _TYPICAL.pack_into(record.value, _OF_RATE.size, typical)
                record.keep(_RUNS if self._running(record) else self._quiet_at(record, permit.limits.rate))

    def _bucket(self, record: Record, rate: Rate) -> tuple[Bucket, int, float]:
        """How it is now; how many calls were taken in advance, and when."""
        now = self._clock()
        tokens, at, before, leased_at = _OF_RATE.unpack_from(record.value)
        bucket = Bucket(tokens, at).by(now, rate) if at else Bucket(rate.burst, now)
        return bucket, before, leased_at

    def _put(self, record: Record, bucket: Bucket, rate: Rate, before: int, leased_at: float) -> None:
        _OF_RATE.pack_into(record.value, 0, *bucket, before, leased_at)
        record.keep(_RUNS if self._running(record) else bucket.full_at(rate))

    def _quiet_at(self, record: Record, rate: Rate | None) -> float:
        tokens, at, _, _ = _OF_RATE.unpack_from(record.value)
        return Bucket(tokens, at).full_at(rate) if rate and at else self._clock()

    def _running(self, record: Record) -> int:
        return sum(count for (count,) in _RUNNING.iter_unpack(record.value[_RUNS_AT:]))

    def _count(self, record: Record, more: int) -> None:
        (mine,) = _RUNNING.unpack_from(record.value, self._mine)
        _RUNNING.pack_into(record.value, self._mine, max(0, mine + more))


def _key(permit: Permit) -> tuple[str, str, str]:
    return permit.caller.name, permit.model, permit.action


def _limited(permit: Permit, public: str, after: float) -> HeadraceError:
    return HeadraceError(
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        Reason.RATE_LIMITED,
        public,
        private=f"{permit.caller.name} {permit.action}",
        retry_after=max(after, _SOON),
    )
