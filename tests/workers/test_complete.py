"""What a missing or partial configuration stands for."""

from __future__ import annotations

import pytest
from google.protobuf import text_format

from protos import model_config_pb2 as pb
from workers.complete import Graph, Port, complete
from workers.errors import LoadError

BATCHED = Graph((Port("x", "FP32", (-1, 3)),), (Port("y", "INT64", (-1,)),))
FIXED = Graph((Port("x", "FP32", (2, 3)),), (Port("y", "INT64", (2,)),))
X, Y = 'input { name: "x" data_type: TYPE_FP32 dims: 3 } ', 'output { name: "y" data_type: TYPE_INT64 dims: 1 } '


def completed(text: str, graph: Graph) -> pb.ModelConfig:
    return complete(text_format.Parse(text, pb.ModelConfig()), "m", graph)


def test_a_variable_first_dimension_everywhere_is_the_batch() -> None:
    made = completed("", BATCHED)
    assert (made.name, made.platform, made.backend) == ("m", "onnxruntime_onnx", "onnxruntime")
    assert made.max_batch_size == 4
    assert made.HasField("dynamic_batching")
    assert list(made.input[0].dims) == [3]
    assert list(made.output[0].dims) == [1]
    assert made.output[0].HasField("reshape")
    assert list(made.output[0].reshape.shape) == []


def test_without_one_there_is_no_batch() -> None:
    made = completed("", FIXED)
    assert made.max_batch_size == 0
    assert not made.HasField("dynamic_batching")
    assert list(made.input[0].dims) == [2, 3]


def test_what_is_written_stays() -> None:
    made = completed("max_batch_size: 9 dynamic_batching { preferred_batch_size: 3 }", BATCHED)
    assert made.max_batch_size == 9
    assert list(made.dynamic_batching.preferred_batch_size) == [3]
    assert not completed("max_batch_size: 1", BATCHED).HasField("dynamic_batching")


def test_with_inputs_and_outputs_described_nothing_is_assumed() -> None:
    made = completed(X.replace("dims: 3", "dims: [-1, 3]") + Y.replace("dims: 1", "dims: -1"), BATCHED)
    assert made.max_batch_size == 0
    assert not made.HasField("dynamic_batching")


@pytest.mark.parametrize(
    ("text", "graph", "says"),
    [
        ("max_batch_size: 4", FIXED, "no variable first dimension"),
        (X.replace("FP32", "FP64"), BATCHED, "input 'x' is FP64; it is FP32"),
        (X.replace('"x"', '"z"'), BATCHED, "leaves out the graph's input 'x'"),
        (X + Y.replace('"y"', '"z"') + "max_batch_size: 1", BATCHED, "output 'z', which the graph does not have"),
        (
            X.replace("dims: 3", "dims: 4") + "max_batch_size: 1",
            BATCHED,
            r"\[-1, 4\], batch included; it is \[-1, 3\]",
        ),
        ("dynamic_batching { }", FIXED, "needs a max_batch_size"),
        ("dynamic_batching { preferred_batch_size: 5 }", BATCHED, "between 1 and max_batch_size"),
        ("", Graph((Port("x", "seq(map(int64,tensor(float)))", ()),), ()), "cannot carry"),
    ],
)
def test_a_contradiction_is_named(text: str, graph: Graph, says: str) -> None:
    with pytest.raises(LoadError, match=says):
        completed(text, graph)
