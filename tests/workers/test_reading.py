"""Requests against what a model takes: what a refusal costs, and how long its text is."""

from __future__ import annotations

import pytest

from protos import grpc_service_pb2 as pb
from protos.errors import HeadraceError, Reason
from workers import reading
from workers.config import Settings, Tensor

HUGE = 2**62


def settings(*dims: int, batch: int, datatype: str = "FP32", reshape: tuple[int, ...] | None = None) -> Settings:
    """A model of one input, x, and one output, y."""
    return Settings(
        name="m",
        backend="python",
        filename="model.py",
        max_batch_size=batch,
        inputs=(Tensor("x", datatype, dims, reshape),),
        outputs=(Tensor("y", datatype, dims),),
        batching=None,
        sequences=None,
        instances=1,
        kind="KIND_CPU",
        gpu=None,
        decoupled=False,
        threads=(0, 0),
    )


def request(*shape: int, raw: bytes = b"12345678", name: str = "x", datatype: str = "FP32") -> pb.ModelInferRequest:
    made = pb.ModelInferRequest(raw_input_contents=[raw])
    made.inputs.add(name=name, datatype=datatype, shape=shape)
    return made


def refused(asked: pb.ModelInferRequest, model: Settings) -> str:
    """What the refusal says; no text may be long."""
    with pytest.raises(HeadraceError) as caught:
        reading.read_request(asked, model)
    assert caught.value.reason is Reason.REQUEST_MALFORMED
    assert len(caught.value.public) < 700
    return caught.value.public


@pytest.mark.parametrize("typed", [True, False])
@pytest.mark.parametrize(
    ("model", "shape"),
    [
        (settings(-1, batch=4), (HUGE,) * 200_000),
        (settings(-1, batch=4), (HUGE,) * 6000),
        (settings(-1, batch=4), (1,) * 65),
        (settings(-1, batch=0), (1, 2)),
        (settings(-1, batch=4), (2,)),
        (settings(-1, batch=4), ()),
        (settings(-1, 2, batch=0), (1, 3)),
        (settings(-1, 2, batch=4), (1, 1, -2)),
        (settings(-1, -1, batch=4), (0, HUGE)),
    ],
)
def test_a_shape_that_the_model_does_not_take_goes_no_further(
    monkeypatch: pytest.MonkeyPatch, typed: bool, model: Settings, shape: tuple[int, ...]
) -> None:
    def further(*_: object) -> None:
        raise AssertionError("the shape was gone by")

    monkeypatch.setattr(reading, "from_raw", further)
    monkeypatch.setattr(reading, "from_contents", further)
    asked = request(*shape)
    if typed:
        del asked.raw_input_contents[:]
    assert "input 'x' has" in refused(asked, model)


@pytest.mark.parametrize("datatype", ["FP32", "BYTES"])
@pytest.mark.parametrize("shape", [(0, HUGE, HUGE), (HUGE, HUGE, HUGE), (1, -1, 2), (-1, 1, 2), (1, 0, HUGE)])
def test_a_shape_of_the_right_rank_that_no_array_has(datatype: str, shape: tuple[int, ...]) -> None:
    asked = request(*shape, datatype=datatype, raw=b"")
    assert "input 'x' has the shape" in refused(asked, settings(-1, -1, batch=4, datatype=datatype))


def test_a_model_of_more_sizes_than_an_array_has() -> None:
    refused(request(*(1,) * 65, raw=b"1234"), settings(*(-1,) * 65, batch=0))


def test_the_shape_that_the_model_sees() -> None:
    work = reading.read_request(request(2, 1), settings(1, batch=4, reshape=()))
    assert (work.inputs["x"].shape, work.batch) == ((2,), 2)
    work = reading.read_request(request(2), settings(2, batch=0, reshape=(1, 2)))
    assert (work.inputs["x"].shape, work.batch) == ((1, 2), 1)


LONG = "ä" * 2_500_000


def test_a_long_name_of_an_input() -> None:
    assert f"no input '{'ä' * 200}...'" in refused(request(2, name=LONG), settings(2, batch=0))


def test_a_long_datatype() -> None:
    assert f"not '{'ä' * 200}...'" in refused(request(2, datatype=LONG), settings(2, batch=0))


def test_a_long_name_of_an_output() -> None:
    asked = request(2)
    asked.outputs.add(name=LONG)
    assert f"no output '{'ä' * 200}...'" in refused(asked, settings(2, batch=0))


def test_a_long_shape() -> None:
    assert "[1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, ...]" in refused(request(*[1] * 17), settings(2, batch=0))


def test_no_shape_where_a_batch_is_wanted() -> None:
    assert "input 'x' has no shape" in refused(request(), settings(2, batch=4))
