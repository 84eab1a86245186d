"""What workers know sequences by: each caller's are its own."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.call import InSequence
from gateway.caller import Caller
from gateway.sequence_id import lot, named, of_caller
from gateway.wire import Extent
from protos import grpc_service_pb2 as pb

ALICE, BOB = (Caller("https://id.example/", name, {}, 0.0) for name in ("alice", "bob"))


def place(sequence: int | str) -> InSequence:
    return InSequence(str(sequence), isinstance(sequence, str), False, False, Extent(0, 0))


def test_each_callers_are_its_own() -> None:
    callers = [ALICE, BOB, Caller("https://other.example/", "alice", {}, 0.0)]
    for one, other in combinations(callers, 2):
        for sequence in (1, "1", "camera"):
            assert of_caller(one, place(sequence)) != of_caller(other, place(sequence))


def test_a_callers_own_are_told_apart_and_known_again() -> None:
    sequences = [*range(1, 500), *map(str, range(1, 500))]
    known = [of_caller(ALICE, place(sequence)) for sequence in sequences]
    assert len(set(known)) == len(sequences)
    again = Caller("https://id.example/", "alice", {"exp": 2}, 9.0)  # another token
    assert known == [of_caller(again, place(sequence)) for sequence in sequences]


def test_what_one_worker_is_told_every_gateway_tells() -> None:
    """The ids of gateways of different releases, side by side, must be the same."""
    assert of_caller(ALICE, place(7)) == "514603553883221805"
    assert of_caller(ALICE, place("camera")) == "c1cd9d800bc4a3482d25283ebb38eef2"


@given(st.integers(1, 2**64 - 1) | st.text(min_size=1, max_size=200))
def test_servers_take_it_as_what_it_was(sequence: int | str) -> None:
    known = of_caller(ALICE, place(sequence))
    read = pb.ModelInferRequest.FromString(named(place(sequence), known)).parameters["sequence_id"]
    if isinstance(sequence, str):
        assert read == pb.InferParameter(string_param=known)
        assert 0 < len(known.encode()) <= 128  # Triton takes no more
    else:
        assert read == pb.InferParameter(int64_param=int(known))
        assert 0 < int(known) < 2**63


@pytest.mark.parametrize("kind", [int, str])
def test_lots_are_spread(kind: type) -> None:
    lots = [lot(of_caller(ALICE, place(kind(number)))) for number in range(1, 1001)]
    assert all(0 <= each < 1 for each in lots)
    assert 60 < sum(each < 0.1 for each in lots) < 140
