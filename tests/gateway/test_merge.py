"""Several copies' answers as one."""

from __future__ import annotations

import pytest

from gateway.merge import Holds, Part, Unreadable, merged, question
from protos import grpc_service_pb2 as pb

INDEX, STATISTICS = "RepositoryIndex", "ModelStatistics"
ONE: Holds = frozenset({("m", "1")})
TWO: Holds = frozenset({("m", "2")})
MODELS = frozenset({"m"})

Row = tuple[str, str, str, str]


def listing(*rows: Row | tuple[str, str, str], holds: Holds = ONE) -> Part:
    made = [
        pb.RepositoryIndexResponse.ModelIndex(name=name, version=version, state=state, reason="".join(reason))
        for name, version, state, *reason in rows
    ]
    return Part(holds, pb.RepositoryIndexResponse(models=made).SerializeToString())


def index(*parts: Part, silent: tuple[Holds, ...] = (), ready: bool = False) -> list[Row]:
    request = pb.RepositoryIndexRequest(ready=ready).SerializeToString()
    answer = pb.RepositoryIndexResponse.FromString(merged(INDEX, request, MODELS, parts, silent))
    return [(row.name, row.version, row.state, row.reason) for row in answer.models]


READY = ("m", "1", "READY")
GONE = ("m", "1", "UNAVAILABLE", "unloaded")
NEVER = ("m", "", "")


# ---- the index ----


@pytest.mark.parametrize("row", [READY, GONE, NEVER, ("m", "7", "READY")])
def test_where_copies_agree_the_row_is_theirs(row: Row) -> None:
    assert index(listing(row)) == index(listing(row), listing(row)) == [(*row, "")[:4]]


def test_rows_of_other_models_are_left_out() -> None:
    assert index(listing(READY, ("secret", "1", "READY"))) == [(*READY, "")]


@pytest.mark.parametrize(
    ("other", "state", "why"),
    [
        (listing(GONE), "UNAVAILABLE", "of 3 copies: READY on 2, UNAVAILABLE on 1; unloaded"),
        (listing(("m", "1", "LOADING")), "LOADING", "of 3 copies: READY on 2, LOADING on 1"),
        (listing(NEVER), "UNAVAILABLE", "of 3 copies: READY on 2, UNAVAILABLE on 1; not loaded"),
        (listing(), "UNAVAILABLE", "of 3 copies: READY on 2, UNAVAILABLE on 1; not loaded"),
    ],
)
def test_where_they_differ_the_worst_is_told_and_how_many_there_are(other: Part, state: str, why: str) -> None:
    ready = listing(READY)
    for parts in ((ready, ready, other), (other, ready, ready), (ready, other, ready)):
        assert index(*parts) == [("m", "1", state, why)]
    assert index(ready, ready, other, ready=True) == []
    assert index(ready, ready, ready=True) == [(*READY, "")]


def test_a_copy_without_an_answer_is_told_of_and_takes_no_readiness_from_the_others() -> None:
    assert index(listing(READY), silent=(ONE,)) == [(*READY, "of 2 copies: READY on 1, no answer from 1")]
    assert index(listing(READY), silent=(TWO, TWO)) == [
        (*READY, ""),
        ("m", "2", "UNKNOWN", "no answer from 2 of 2 copies"),
    ]


def test_what_a_copy_of_another_version_lists_does_not_count() -> None:
    """Calls for a version do not go there."""
    stray = listing(("m", "1", "UNAVAILABLE"), ("m", "2", "READY"), holds=TWO)
    assert index(stray, listing(READY)) == [(*READY, ""), ("m", "2", "READY", "")]
    assert index(listing(READY, ("m", "2", "READY")), silent=(TWO,))[1][2] == "UNKNOWN"


def test_nothing_loaded_of_one_version_is_told_beside_the_other() -> None:
    assert index(listing(NEVER), listing(("m", "2", "READY"), holds=TWO)) == [(*NEVER, ""), ("m", "2", "READY", "")]


def test_copies_are_asked_for_all_rows() -> None:
    for ready in (True, False):
        asked = pb.RepositoryIndexRequest(ready=ready, repository_name="r")
        seen = pb.RepositoryIndexRequest.FromString(question(INDEX, asked.SerializeToString()))
        assert (seen.ready, seen.repository_name) == (False, "r")
    assert question(STATISTICS, b"x") == b"x"


# ---- statistics ----


def duration(count: int) -> pb.StatisticDuration:
    return pb.StatisticDuration(count=count, ns=100 * count)


def statistics(scale: int, batch: int, *, gpu: int = 0, at: int = 0, version: str = "1") -> pb.ModelStatistics:
    """Every field, by a number that tells where it comes from."""
    inference = {field.name: duration(scale) for field in pb.InferStatistics.DESCRIPTOR.fields}
    answers = {field.name: duration(scale) for field in pb.InferResponseStatistics.DESCRIPTOR.fields}
    computing = {f"compute_{part}": duration(scale) for part in ("input", "infer", "output")}
    return pb.ModelStatistics(
        name="m",
        version=version,
        last_inference=at,
        inference_count=2 * scale,
        execution_count=scale,
        inference_stats=pb.InferStatistics(**inference),
        batch_stats=[pb.InferBatchStatistics(batch_size=batch, **computing)],
        memory_usage=[pb.MemoryUsage(type="GPU", id=gpu, byte_size=scale)],
        response_stats={str(batch): pb.InferResponseStatistics(**answers)},
    )


def counted(*rows: pb.ModelStatistics, holds: Holds = ONE, alone: bool = True) -> Part:
    return Part(holds, pb.ModelStatisticsResponse(model_stats=rows).SerializeToString(), alone=alone)


def summed(*parts: Part) -> dict[str, pb.ModelStatistics]:
    answer = pb.ModelStatisticsResponse.FromString(merged(STATISTICS, b"", MODELS, parts, ()))
    assert len({row.version for row in answer.model_stats}) == len(answer.model_stats)
    return {row.version: row for row in answer.model_stats}


def test_one_copys_statistics_are_its_own() -> None:
    row = statistics(3, batch=2, at=5)
    assert summed(counted(row)) == {"1": row}
    assert summed(counted(pb.ModelStatistics(name="m", version="1"))) == {
        "1": pb.ModelStatistics(name="m", version="1")
    }


def test_statistics_are_summed_over_copies() -> None:
    assert len(pb.ModelStatistics.DESCRIPTOR.fields) == 9  # of which the test knows
    parts = (statistics(1, batch=8, at=9), statistics(10, batch=2, at=7), statistics(100, batch=8, gpu=1))
    (total,) = summed(*map(counted, parts)).values()
    whole = statistics(111, batch=2, at=9)
    assert (total.last_inference, total.inference_count, total.execution_count) == (9, 222, 111)
    assert total.inference_stats == whole.inference_stats
    assert [(batch.batch_size, batch.compute_infer) for batch in total.batch_stats] == [
        (2, duration(10)),
        (8, duration(101)),
    ]
    assert {(use.type, use.id): use.byte_size for use in total.memory_usage} == {("GPU", 0): 11, ("GPU", 1): 100}
    assert total.response_stats["8"] == statistics(101, batch=8).response_stats["8"]
    assert total.response_stats["2"] == statistics(10, batch=2).response_stats["2"]


def test_versions_are_not_mixed() -> None:
    found = summed(counted(statistics(1, 1), statistics(5, 1, version="2")), counted(statistics(2, 1)))
    assert (found["1"].execution_count, found["2"].execution_count) == (3, 5)


@pytest.mark.parametrize(("alone", "executions"), [(True, (1 + 3, 2 + 4)), (False, (1, 4))])
def test_what_may_be_the_same_copy_is_not_counted_twice(alone: bool, executions: tuple[int, int]) -> None:
    one = counted(statistics(1, 1), statistics(2, 1, version="2"), holds=ONE, alone=alone)
    two = counted(statistics(3, 1), statistics(4, 1, version="2"), holds=TWO, alone=alone)
    found = summed(one, two)
    assert (found["1"].execution_count, found["2"].execution_count) == executions


@pytest.mark.parametrize("rpc", [INDEX, STATISTICS])
def test_an_answer_that_cannot_be_read(rpc: str) -> None:
    with pytest.raises(Unreadable):
        merged(rpc, b"", MODELS, [Part(ONE, b"\x0a\xff")], ())
