"""Tensors as other servers write them; what goes through ours is in test_infer.py."""

from __future__ import annotations

import numpy as np
import pytest

from headrace.answers import shares
from headrace.tensors import Tensor, of_messages, to_values
from protos import grpc_service_pb2 as pb

Output = pb.ModelInferResponse.InferOutputTensor


@pytest.mark.parametrize(
    ("datatype", "field", "values"),
    [
        ("BOOL", "bool_contents", [True, False]),
        ("INT8", "int_contents", [-1, 2]),
        ("INT64", "int64_contents", [-1, 2**62]),
        ("UINT16", "uint_contents", [0, 65535]),
        ("UINT64", "uint64_contents", [0, 2**64 - 1]),
        ("FP32", "fp32_contents", [0.1, 2]),
        ("FP64", "fp64_contents", [0.1, 2]),
        ("BYTES", "bytes_contents", [b"a", "ü".encode()]),
    ],
)
def test_contents_may_be_typed(datatype: str, field: str, values: list[object]) -> None:
    output = Output(name="y", datatype=datatype, shape=[2, 1])
    getattr(output.contents, field).extend(values)
    (tensor,) = of_messages([output], [])
    assert (tensor.name, tensor.datatype, tensor.array.shape) == ("y", datatype, (2, 1))
    assert to_values(tensor.array) == [one.decode() if isinstance(one, bytes) else one for one in values]


@pytest.mark.parametrize(
    ("datatype", "raw"),
    [("FP32", bytes(4)), ("FP32", bytes(5)), ("FP8", bytes(2)), ("BYTES", b"\x01\0\0\0a"), ("BYTES", b"\x01\0")],
)
def test_contents_that_do_not_fit_are_an_error(datatype: str, raw: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - numpy's words, or ours
        of_messages([Output(name="y", datatype=datatype, shape=[2])], [raw])


def test_a_tensor_without_contents_is_an_error() -> None:
    one = Output(name="y", datatype="FP32", shape=[1])
    with pytest.raises(ValueError, match=r"zip\(\)"):
        of_messages([one, one], [bytes(4)])


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        ([[0.25, 0.75]], [0.25, 0.75]),
        ([0.5, 0.5], [0.5, 0.5]),
        ([[0.25, 0.75], [0.5, 0.5]], None),  # of several inputs
        ([[1.0]], None),
        ([[-0.5, 1.5]], None),
        ([[0.25, 0.25]], None),
        ([[np.nan, 1.0]], None),
        ([[[0.5, 0.5]]], None),
    ],
)
def test_what_adds_up_to_1_is_a_classifiers(array: list[object], expected: list[float] | None) -> None:
    assert shares(Tensor("y", "FP32", np.array(array, np.float32))) == expected
    assert shares(Tensor("y", "INT32", np.ones(2, np.int32))) is None
