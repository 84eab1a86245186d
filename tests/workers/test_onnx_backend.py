"""Which provider computes, and what ONNX Runtime's binding cannot do by itself."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from protos.errors import HeadraceError, Reason
from tests.workers import zoo
from workers.errors import LoadError
from workers.onnx_backend import CPU, CUDA, OnnxModel, providers
from workers.reading import Work

BOTH = ["TensorrtExecutionProvider", CUDA, CPU]


@pytest.mark.parametrize(
    ("available", "kind", "gpu", "chosen"),
    [
        ([CPU], "KIND_AUTO", None, [CPU]),
        ([CPU], "KIND_CPU", None, [CPU]),
        (BOTH, "KIND_AUTO", None, [CUDA, CPU]),
        (BOTH, "KIND_GPU", 1, [CUDA, CPU]),
        (BOTH, "KIND_CPU", None, [CPU]),
    ],
)
def test_cuda_is_used_where_there_is_one(available: list[str], kind: str, gpu: int | None, chosen: list[str]) -> None:
    made = providers(available, kind, gpu)
    assert [name for name, _ in made] == chosen
    if CUDA in chosen:
        assert made[0][1] == {"device_id": str(gpu or 0)}


@pytest.mark.parametrize(("kind", "gpu"), [("KIND_GPU", None), ("KIND_AUTO", 0)])
def test_a_gpu_that_is_not_there_is_refused(kind: str, gpu: int | None) -> None:
    with pytest.raises(LoadError, match="onnxruntime-gpu"):
        providers([CPU], kind, gpu)


def test_a_gpu_that_does_not_start_is_refused_only_where_it_is_a_must(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / zoo.identity(tmp_path, "FP32") / "1" / "model.onnx"
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: [CUDA, CPU])  # a CUDA that is not there
    with pytest.warns(UserWarning, match=CUDA), pytest.raises(LoadError, match="CUDA did not start"):
        OnnxModel.load(file, "KIND_GPU", None, (1, 1))
    with pytest.warns(UserWarning, match=CUDA):
        assert OnnxModel.load(file, "KIND_AUTO", None, (1, 1)).provider == CPU


def loaded(tmp_path: Path, datatype: str) -> OnnxModel:
    name = zoo.identity(tmp_path, datatype)
    return OnnxModel.load(tmp_path / name / "1" / "model.onnx", "KIND_CPU", None, (1, 1))


def test_bfloat16_goes_through(tmp_path: Path) -> None:
    model = loaded(tmp_path, "BF16")
    array = np.array([[1.5, -2], [0.1, 65536]], ml_dtypes.bfloat16)
    out = model.infer({"x": array}, ["y"])["y"]
    assert out.dtype == array.dtype
    assert (out == array).all()


def test_strings_go_through_and_other_bytes_are_refused(tmp_path: Path) -> None:
    model = loaded(tmp_path, "BYTES")
    work = model.admit(Work({"x": np.array([["ä".encode(), b""]], np.object_)}, ("y",), 1))
    assert model.infer(work.inputs, work.outputs)["y"].tolist() == [["ä", ""]]
    with pytest.raises(HeadraceError, match="input 'x'") as caught:
        model.admit(Work({"x": np.array([[b"\xff", b""]], np.object_)}, ("y",), 1))
    assert caught.value.reason is Reason.REQUEST_MALFORMED


def test_a_file_that_is_no_graph(tmp_path: Path) -> None:
    file = tmp_path / "model.onnx"
    file.write_bytes(b"not a graph")
    with pytest.raises(LoadError, match=r"ONNX Runtime cannot read model\.onnx") as caught:
        OnnxModel.load(file, "KIND_CPU", None, (0, 0))
    assert str(tmp_path) not in caught.value.public
