"""Arrays to bytes and back."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from protos import grpc_service_pb2 as pb
from protos.errors import HeadraceError, Reason
from workers import tensors

Contents = pb.InferTensorContents


def test_every_datatype_of_the_protocol_is_known() -> None:
    sizes = {name: dtype.itemsize for name, dtype in tensors.DTYPES.items() if name != "BYTES"}
    assert sizes == {
        "BOOL": 1,
        "INT8": 1,
        "UINT8": 1,
        "INT16": 2,
        "UINT16": 2,
        "FP16": 2,
        "BF16": 2,
        "INT32": 4,
        "UINT32": 4,
        "FP32": 4,
        "INT64": 8,
        "UINT64": 8,
        "FP64": 8,
    }


@pytest.mark.parametrize("datatype", sorted(tensors.DTYPES))
def test_raw_there_and_back(datatype: str) -> None:
    if datatype == "BYTES":
        array = np.array([[b"", b"a\x00\xff"], [b"\x01\x00\x00\x00", b"long" * 100]], np.object_)
    else:
        array = np.array([[0, 1], [1, 0]]).astype(tensors.DTYPES[datatype])
    raw = tensors.to_raw(array, datatype)
    back = tensors.from_raw("x", datatype, (2, 2), raw)
    assert back.dtype == tensors.DTYPES[datatype]
    assert (back == array).all()
    assert tensors.to_raw(back, datatype) == raw


def test_raw_is_little_endian_and_row_major() -> None:
    array = np.array([[1, 2], [3, 4]], ">u2").T
    assert tensors.to_raw(array, "UINT16") == b"\x01\x00\x03\x00\x02\x00\x04\x00"
    assert tensors.to_raw(np.array([1.0], ml_dtypes.bfloat16), "BF16") == b"\x80\x3f"
    assert tensors.to_raw(np.array(["ä"], np.object_), "BYTES") == b"\x02\x00\x00\x00\xc3\xa4"


def test_any_byte_but_0_is_true() -> None:
    assert tensors.from_raw("x", "BOOL", (3,), b"\x00\x01\x02").tolist() == [False, True, True]


@pytest.mark.parametrize(
    ("datatype", "shape", "raw"),
    [
        ("FP32", (2,), b"1234567"),
        ("FP32", (2,), b"123456789"),
        ("FP32", (-1,), b""),
        ("FP32", (2**40, 2**40), b"1234"),
        ("FP99", (1,), b"1"),
        ("BYTES", (1,), b"\x01\x00\x00"),
        ("BYTES", (1,), b"\x05\x00\x00\x00abcd"),
        ("BYTES", (1,), b"\xff\xff\xff\xffabcd"),
        ("BYTES", (2,), b"\x01\x00\x00\x00a"),
        ("BYTES", (1,), b"\x01\x00\x00\x00ab"),
    ],
)
def test_raw_that_does_not_add_up(datatype: str, shape: tuple[int, ...], raw: bytes) -> None:
    with pytest.raises(HeadraceError, match="input 'x'") as caught:
        tensors.from_raw("x", datatype, shape, raw)
    assert caught.value.reason is Reason.REQUEST_MALFORMED


@pytest.mark.parametrize(
    ("datatype", "contents", "values"),
    [
        ("BOOL", Contents(bool_contents=[True, False]), [True, False]),
        ("INT8", Contents(int_contents=[-128, 127]), [-128, 127]),
        ("INT16", Contents(int_contents=[-32768, 1]), [-32768, 1]),
        ("INT32", Contents(int_contents=[-(2**31), 1]), [-(2**31), 1]),
        ("INT64", Contents(int64_contents=[-(2**63), 1]), [-(2**63), 1]),
        ("UINT8", Contents(uint_contents=[0, 255]), [0, 255]),
        ("UINT16", Contents(uint_contents=[0, 65535]), [0, 65535]),
        ("UINT32", Contents(uint_contents=[0, 2**32 - 1]), [0, 2**32 - 1]),
        ("UINT64", Contents(uint64_contents=[0, 2**64 - 1]), [0, 2**64 - 1]),
        ("FP32", Contents(fp32_contents=[0.5, -1]), [0.5, -1]),
        ("FP64", Contents(fp64_contents=[0.1, -1]), [0.1, -1]),
        ("BYTES", Contents(bytes_contents=[b"", b"\xff"]), [b"", b"\xff"]),
    ],
)
def test_typed_contents(datatype: str, contents: Contents, values: list[object]) -> None:
    array = tensors.from_contents("x", datatype, (1, 2), contents)
    assert array.dtype == tensors.DTYPES[datatype]
    assert array.tolist() == [values]


@pytest.mark.parametrize(
    ("datatype", "contents", "says"),
    [
        ("FP16", Contents(fp32_contents=[1, 2]), "no typed contents"),
        ("BF16", Contents(fp32_contents=[1, 2]), "no typed contents"),
        ("FP32", Contents(fp64_contents=[1, 2]), "not in fp64_contents"),
        ("FP32", Contents(fp32_contents=[1, 2], int_contents=[1]), "not in int_contents"),
        ("FP32", Contents(fp32_contents=[1]), "1 elements"),
        ("FP32", Contents(), "0 elements"),
        ("INT8", Contents(int_contents=[1, 128]), "out of the range of INT8"),
        ("UINT8", Contents(uint_contents=[1, 256]), "out of the range of UINT8"),
    ],
)
def test_typed_contents_that_do_not_fit(datatype: str, contents: Contents, says: str) -> None:
    with pytest.raises(HeadraceError, match=says) as caught:
        tensors.from_contents("x", datatype, (2,), contents)
    assert caught.value.reason is Reason.REQUEST_MALFORMED
