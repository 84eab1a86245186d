"""Every RPC of the inference service. Law: constants only; a test holds the table to the contract's descriptor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

SERVICE: Final = "inference.GRPCInferenceService"


@dataclass(frozen=True, slots=True)
class Method:
    """One RPC: its name, its `:path`, and on which sides messages stream."""

    name: str
    path: str
    request_streaming: bool
    response_streaming: bool


def _unary(name: str) -> Method:
    return Method(name, f"/{SERVICE}/{name}", request_streaming=False, response_streaming=False)


def _streaming(name: str) -> Method:
    return Method(name, f"/{SERVICE}/{name}", request_streaming=True, response_streaming=True)


METHODS: Final = (
    _unary("ServerLive"),
    _unary("ServerReady"),
    _unary("ModelReady"),
    _unary("ServerMetadata"),
    _unary("ModelMetadata"),
    _unary("ModelInfer"),
    _streaming("ModelStreamInfer"),
    _unary("ModelConfig"),
    _unary("ModelStatistics"),
    _unary("RepositoryIndex"),
    _unary("RepositoryModelLoad"),
    _unary("RepositoryModelUnload"),
    _unary("SystemSharedMemoryStatus"),
    _unary("SystemSharedMemoryRegister"),
    _unary("SystemSharedMemoryUnregister"),
    _unary("CudaSharedMemoryStatus"),
    _unary("CudaSharedMemoryRegister"),
    _unary("CudaSharedMemoryUnregister"),
    _unary("TraceSetting"),
    _unary("LogSettings"),
)
