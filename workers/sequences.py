"""The sequences that a version keeps the state of. Law: a request runs on the state that the one before it left.

Requests of one sequence have their turns in the order in which they came. A sequence begins with a request that says so
and is over with the one that ends it, when it has been silent for too long, or when it begins anew; a request of one
that is not there is refused, in Triton's words, for nobody can know what came before it.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Final, NamedTuple

from protos import grpc_service_pb2 as pb
from workers.errors import malformed, overloaded, sequence_unknown
from workers.tensors import Array

_MOST: Final = 4096  # sequences of one version
_LONGEST: Final = 128  # bytes of an id, as in Triton


class Place(NamedTuple):
    """A request's place in a sequence."""

    id: int | str
    starts: bool
    ends: bool


def place_of(request: pb.ModelInferRequest, model: str) -> Place:
    """The place that the request says it has. Raises REQUEST_MALFORMED."""
    given = request.parameters.get("sequence_id")
    said = "" if given is None else given.WhichOneof("parameter_choice") or ""
    if said not in ("", "int64_param", "uint64_param", "string_param"):
        raise malformed("the parameter sequence_id must be an integer or a string")
    sequence: int | str = getattr(given, said) if said else ""
    if not sequence:
        raise malformed(f"inference request to model '{model}' must specify a non-zero or non-empty correlation ID")
    if isinstance(sequence, str) and len(sequence.encode()) > _LONGEST:
        raise malformed(f"a sequence_id may have {_LONGEST} bytes at most")
    return Place(sequence, _flag(request, "sequence_start"), _flag(request, "sequence_end"))


def _flag(request: pb.ModelInferRequest, name: str) -> bool:
    given = request.parameters.get(name)
    if given is None:
        return False
    if given.WhichOneof("parameter_choice") != "bool_param":
        raise malformed(f"the parameter {name} must be a bool")
    return given.bool_param


class Sequence:
    """One sequence: the state that its next request runs on, by the model's inputs."""

    __slots__ = ("_turns", "begun", "seen", "state", "waiting")

    def __init__(self, state: Mapping[str, Array]) -> None:
        self.state = state
        self.begun = False
        self.seen = 0.0
        self.waiting = 0
        self._turns = asyncio.Lock()

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for what came before."""
        self.waiting += 1
        try:
            async with self._turns:
                yield
        finally:
            self.waiting -= 1


class Sequences:
    """The sequences of one version; `initial` is what each begins with, `idle` how many seconds it may be silent."""

    def __init__(self, model: str, idle: float, initial: Mapping[str, Array], clock: Callable[[], float]) -> None:
        self._model = model
        self._idle = idle
        self._initial = initial
        self._clock = clock
        self._kept: OrderedDict[int | str, Sequence] = OrderedDict()  # who was heard of last is last

    @asynccontextmanager
    async def turn(self, place: Place) -> AsyncIterator[Sequence]:
        """The place's sequence, when it is its turn; what is raised inside leaves it as it was, or not begun.

        Raises HeadraceError: INVALID_ARGUMENT where it is not there, OVERLOADED where there are too many.
        """
        self._forget()
        sequence = self._begin(place.id) if place.starts else self._kept.get(place.id)
        if sequence is None:
            raise sequence_unknown(str(place.id), self._model)
        self._kept[place.id] = sequence
        done = False
        async with sequence.turn():
            try:
                if self._kept.get(place.id) is not sequence:  # it has ended, or begun anew, or never begun
                    raise sequence_unknown(str(place.id), self._model)
                yield sequence
                done = sequence.begun = True
            finally:
                if self._kept.get(place.id) is sequence:
                    sequence.seen = self._clock()
                    self._kept.move_to_end(place.id)
                    if not sequence.begun or (place.ends and done):
                        del self._kept[place.id]

    def _begin(self, sequence_id: int | str) -> Sequence:
        if len(self._kept) >= _MOST and sequence_id not in self._kept:
            raise overloaded(self._model)
        return Sequence(self._initial)

    def _forget(self) -> None:
        """Let go of those that have been silent for too long."""
        long_ago = self._clock() - self._idle
        silent: list[int | str] = []
        for sequence_id, sequence in self._kept.items():
            if sequence.waiting:
                continue
            if sequence.seen > long_ago:
                break
            silent.append(sequence_id)
        for sequence_id in silent:
            del self._kept[sequence_id]
