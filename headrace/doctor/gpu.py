"""GPU and CUDA provider. Law: models run on the CPU where either lacks, and that is said where the other is there."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

from headrace.doctor.finding import Finding

_AREA: Final = "gpu"
_CUDA: Final = "CUDAExecutionProvider"


def gpu(devices: Path, available: Callable[[], Sequence[str]]) -> Iterator[Finding]:
    """What a worker here would compute with: `devices` is /dev, `available` names ONNX Runtime's providers.

    `available` raises ModuleNotFoundError where there is no ONNX Runtime.
    """
    cards = sorted(path.name for path in devices.glob("nvidia[0-9]*"))
    try:
        cuda = _CUDA in available()
    except ModuleNotFoundError:
        do = "run pip install 'headrace[worker]' if a headrace worker is to run here"
        yield Finding(_AREA, "ok", "there is no ONNX Runtime here, which headrace worker needs", do)
        return
    if cards and not cuda:
        do = "run pip uninstall onnxruntime, then pip install onnxruntime-gpu"
        yield Finding(_AREA, "warning", f"{', '.join(cards)}, but ONNX Runtime has no CUDA provider", do)
    elif cuda and not cards:
        do = "install NVIDIA's driver, or give the container its GPUs"
        yield Finding(_AREA, "warning", "ONNX Runtime has a CUDA provider, but there is no NVIDIA GPU", do)
    elif cuda:
        yield Finding(_AREA, "ok", f"ONNX Runtime has a CUDA provider for {', '.join(cards)}")
    else:
        yield Finding(_AREA, "ok", "no NVIDIA GPU: models of a worker here run on the CPU")
