"""Several copies' answers as one. Law: pure functions; what differs between copies is shown and never averaged away.

Index: a row for each model and version, in the worst state that a copy has it in. Statistics: sums over the copies.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Final

from google.protobuf.message import DecodeError, Message

from protos import grpc_service_pb2 as pb

Row = pb.RepositoryIndexResponse.ModelIndex
Key = tuple[str, str]
"""A model and a version of it."""
Holds = frozenset[Key]

_READY: Final = "READY"
_NOT_THERE: Final = "UNAVAILABLE"
_NOT_TOLD: Final = "UNKNOWN"
_WORST_LAST: Final = (_READY, "LOADING", "UNLOADING", _NOT_TOLD, "", _NOT_THERE)
_EVERY_ROW: Final = b"\x10\x00"  # `ready: false`: of two the last counts


class Unreadable(Exception):  # noqa: N818 - what it says of an answer
    """An answer is not the message that it should be."""


@dataclass(frozen=True, slots=True)
class Part:
    """A copy's answer, and what the copy is there for; not `alone`: it is one of several, and any of them."""

    holds: Holds
    body: bytes
    alone: bool = True


def merged(rpc: str, request: bytes, models: frozenset[str], parts: Sequence[Part], silent: Sequence[Holds]) -> bytes:
    """The answer to RepositoryIndex or ModelStatistics; `silent`: what each copy without an answer is there for.

    Raises Unreadable.
    """
    try:
        if rpc == "RepositoryIndex":
            ready = pb.RepositoryIndexRequest.FromString(request).ready
            return _index(models, parts, silent, ready=ready).SerializeToString()
        return _statistics(models, parts).SerializeToString()
    except DecodeError as error:
        raise Unreadable(str(error)) from None


# ---- the index ----


def question(rpc: str, request: bytes) -> bytes:
    """What copies are asked: for all rows of the index, for a model is ready if it is on every one."""
    return request + _EVERY_ROW if rpc == "RepositoryIndex" else request


def _index(
    models: frozenset[str], parts: Sequence[Part], silent: Sequence[Holds], *, ready: bool
) -> pb.RepositoryIndexResponse:
    copies = [_Copy(part.holds, _table(models, part)) for part in parts] + [_Copy(holds, None) for holds in silent]
    keys = dict.fromkeys(key for copy in copies for key in (sorted(copy.holds) if copy.rows is None else copy.rows))
    known = {key for key in keys if key[1]}
    rows = [_row(key, copies) if key[1] else _never_loaded(key, copies, known) for key in keys]
    return pb.RepositoryIndexResponse(models=[row for row in rows if row and (row.state == _READY or not ready)])


@dataclass(frozen=True, slots=True)
class _Copy:
    """What a copy is there for, and its rows; None: it does not answer."""

    holds: Holds
    rows: Mapping[Key, Row] | None


def _table(models: frozenset[str], part: Part) -> Mapping[Key, Row]:
    rows = pb.RepositoryIndexResponse.FromString(part.body).models
    return {(row.name, row.version): row for row in rows if row.name in models}


def _never_loaded(key: Key, copies: Iterable[_Copy], known: Set[Key]) -> Row | None:
    """The row of a model of which nothing is loaded on a copy, where no row of a version tells of it."""
    return next((copy.rows[key] for copy in copies if copy.rows and key in copy.rows and not copy.holds & known), None)


def _row(key: Key, copies: Iterable[_Copy]) -> Row:
    """The row of a version: as it is where all its copies agree, else the worst one's, saying how many are how."""
    its_own = [copy for copy in copies if key in copy.holds] or list(copies)
    there = [copy.rows for copy in its_own if copy.rows is not None]
    found = [rows.get(key) or Row(name=key[0], version=key[1], state=_NOT_THERE, reason="not loaded") for rows in there]
    silent = len(its_own) - len(there)
    if not found:
        return Row(name=key[0], version=key[1], state=_NOT_TOLD, reason=f"no answer from {silent} of {silent} copies")
    worst = max(found, key=lambda row: _badness(row.state))
    states = Counter(row.state for row in found)
    if len(states) == 1 and not silent:
        return worst
    counts = [
        f"{state or 'never loaded'} on {number}"
        for state, number in sorted(states.items(), key=lambda one: _badness(one[0]))
    ]
    counts += [f"no answer from {silent}"] if silent else []
    of_all = f"of {len(its_own)} copies: {', '.join(counts)}"
    row = Row()
    row.CopyFrom(worst)
    row.reason = f"{of_all}; {worst.reason}" if worst.reason else of_all
    return row


def _badness(state: str) -> int:
    return _WORST_LAST.index(state) if state in _WORST_LAST else len(_WORST_LAST)


# ---- statistics ----


def _statistics(models: frozenset[str], parts: Sequence[Part]) -> pb.ModelStatisticsResponse:
    totals: dict[Key, pb.ModelStatistics] = {}
    for part, row in _of_their_own_first(models, parts):
        key = (row.name, row.version)
        if key not in totals:
            totals[key] = row
        elif part.alone or key in part.holds:  # else it may be a copy that was asked before
            _add(totals[key], row)
    return pb.ModelStatisticsResponse(model_stats=totals.values())


def _of_their_own_first(models: frozenset[str], parts: Sequence[Part]) -> Iterable[tuple[Part, pb.ModelStatistics]]:
    rows = [
        (part, row)
        for part in parts
        for row in pb.ModelStatisticsResponse.FromString(part.body).model_stats
        if row.name in models
    ]
    return sorted(rows, key=lambda one: (one[1].name, one[1].version) not in one[0].holds)


def _add(total: pb.ModelStatistics, more: pb.ModelStatistics) -> None:
    total.last_inference = max(total.last_inference, more.last_inference)
    total.inference_count += more.inference_count
    total.execution_count += more.execution_count
    _add_durations(total.inference_stats, more.inference_stats)
    batches = {batch.batch_size: batch for batch in total.batch_stats}
    for batch in more.batch_stats:
        if batch.batch_size in batches:
            _add_durations(batches[batch.batch_size], batch)
        else:
            total.batch_stats.append(batch)
    total.batch_stats.sort(key=lambda batch: batch.batch_size)
    memory = {(use.type, use.id): use for use in total.memory_usage}
    for use in more.memory_usage:
        if (use.type, use.id) in memory:
            memory[use.type, use.id].byte_size += use.byte_size
        else:
            total.memory_usage.append(use)
    for index, responses in more.response_stats.items():
        _add_durations(total.response_stats[index], responses)


def _add_durations(total: Message, more: Message) -> None:
    """Every StatisticDuration in the one to that of the same name in the other."""
    for field, duration in more.ListFields():
        if isinstance(duration, pb.StatisticDuration):
            ours: pb.StatisticDuration = getattr(total, field.name)
            ours.count += duration.count
            ours.ns += duration.ns
