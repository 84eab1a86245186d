"""Arrays to bytes and back."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import ml_dtypes
import numpy as np
import pytest

from protos import grpc_service_pb2 as pb
from protos.errors import HeadraceError, Reason
from workers import tensors

Contents = pb.InferTensorContents
HUGE = 2**62
RANK = 32


class Lengths:
    """The struct that reads an element's length, and how often it did."""

    size = 4

    def __init__(self) -> None:
        self.read = 0

    def unpack_from(self, raw: bytes, at: int) -> tuple[int]:
        self.read += 1
        return struct.unpack_from("<I", raw, at)


class Endless(Sequence[int]):
    """A shape of millions of sizes, of which only the first may be looked at."""

    def __len__(self) -> int:
        return 10**7

    def __getitem__(self, at: int | slice) -> int:  # type: ignore[override]  # nobody may slice it either
        raise AssertionError(f"size {at} was looked at")


def refused(datatype: str, shape: Sequence[int], raw: bytes) -> str:
    """What the refusal of raw contents says."""
    with pytest.raises(HeadraceError) as caught:
        tensors.from_raw("x", datatype, shape, raw)
    assert caught.value.reason is Reason.REQUEST_MALFORMED
    return caught.value.public


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


@pytest.mark.parametrize("datatype", ["FP32", "BYTES"])
@pytest.mark.parametrize(
    "shape", [(HUGE,) * RANK, (0, HUGE, HUGE), (0, 2**25), (1,) * 65, (-HUGE, -HUGE), (2**63 - 1,)]
)
def test_a_shape_that_no_array_has(datatype: str, shape: tuple[int, ...]) -> None:
    says = refused(datatype, shape, b"")
    assert len(says) < 1000
    with pytest.raises(HeadraceError) as caught:
        tensors.from_contents("x", datatype, shape, Contents())
    assert caught.value.public == says


def test_a_shape_of_too_many_sizes_is_not_read() -> None:
    assert "10000000 sizes" in refused("FP32", Endless(), b"1234")


def test_sizes_are_multiplied_until_there_are_too_many() -> None:
    multiplied: list[int] = []

    class Size(int):
        def __rmul__(self, other: int) -> int:
            multiplied.append(other)
            return other * int(self)

    refused("FP32", [Size(2**20)] * RANK, b"")
    assert multiplied == [1, 2**20]


def test_a_shape_of_many_sizes_that_numpy_takes() -> None:
    assert tensors.from_raw("x", "FP32", (1,) * RANK, b"1234").ndim == RANK


@pytest.mark.parametrize("datatype", sorted(tensors.DTYPES))
def test_no_elements(datatype: str) -> None:
    array = tensors.from_raw("x", datatype, (2, 0, 3), b"")
    assert (array.shape, array.dtype) == ((2, 0, 3), tensors.DTYPES[datatype])


@pytest.mark.parametrize(
    ("count", "raw", "most"),
    [
        (2**20 + 1, bytes(4 * (2**20 + 1)), 0),  # more than a tensor may have
        (1001, bytes(4 * 1000), 0),  # more than the bytes could hold
        (0, bytes(4 * 1000), 0),
        (1, bytes(4 * 2**20), 1),  # no further than the shape goes
        (1000, b"\xff" * 4000, 2),  # no further than the contents go
    ],
)
def test_few_lengths_are_read_for_a_refusal(monkeypatch: pytest.MonkeyPatch, count: int, raw: bytes, most: int) -> None:
    lengths = Lengths()
    monkeypatch.setattr(tensors, "_LENGTH", lengths)
    assert "elements" in refused("BYTES", (count,), raw)
    assert lengths.read <= most


def test_as_many_strings_as_a_tensor_may_have() -> None:
    most = 2**20
    array = tensors.from_raw("x", "BYTES", (2, most // 2), bytes(4 * (most - 1)) + b"\x01\x00\x00\x00a")
    assert (array[0, 0], array[-1, -1]) == (b"", b"a")


def test_too_many_strings_in_typed_contents() -> None:
    most = 2**20
    with pytest.raises(HeadraceError, match=f"{most} elements are the most"):
        tensors.from_contents("x", "BYTES", (most + 1,), Contents(bytes_contents=[b""] * (most + 1)))


def test_typed_contents_are_converted_in_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensors, "_STEP", 4)
    steps: list[object] = []

    class Values(list[int]):
        def __getitem__(self, at: object) -> object:
            steps.append(at)
            return super().__getitem__(at)  # type: ignore[index]  # a slice

    class Stepwise:
        int_contents = Values(range(10))

        def ListFields(self) -> list[object]:  # noqa: N802 - protobuf's name
            return []

    assert tensors.from_contents("x", "INT8", (10,), Stepwise()).tolist() == list(range(10))
    assert steps == [slice(0, 4), slice(4, 8), slice(8, 12)]
    array = tensors.from_contents("x", "INT8", (10,), Contents(int_contents=range(10)))
    assert array.tolist() == list(range(10))
    with pytest.raises(HeadraceError, match="out of the range"):
        tensors.from_contents("x", "INT8", (10,), Contents(int_contents=[0] * 9 + [128]))


def test_what_callers_sent_is_quoted_in_part() -> None:
    assert tensors.quoted("ä" * 200) == f"'{'ä' * 200}'"
    assert tensors.quoted("ä" * 10**6) == f"'{'ä' * 200}...'"
    assert tensors.shown([1, -1]) == "[1, -1]"
    assert tensors.shown(range(16)) == str(list(range(16)))
    assert tensors.shown(range(10**6)) == str(list(range(16)))[:-1] + ", ...]"
    assert len(refused("F" * 10**6, (1,), b"")) < 300
