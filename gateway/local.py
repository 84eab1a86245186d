"""What the gateway answers itself. Law: nothing here speaks of models or workers."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version
from typing import Final

from gateway.rpcs import Rpc
from protos import grpc_service_pb2 as pb

_EXTENSIONS: Final = (
    "classification",
    "sequence",
    "model_repository",
    "model_repository(unload_dependents)",
    "schedule_policy",
    "model_configuration",
    "parameters",
    "statistics",
    "trace",
    "logging",
)
"""The protocol's extensions that pass through us; whether a model's server has them is the server's to say.

Not `binary_tensor_data`: it is of HTTP bodies, which nobody takes here.
"""
_SHARED_MEMORY: Final = ("system_shared_memory", "cuda_shared_memory")


class Local:
    """Answers for ServerLive, ServerReady and ServerMetadata; `ready` tells whether calls can be taken."""

    def __init__(self, ready: Callable[[], bool]) -> None:
        self._ready = ready

    def answer(self, rpc: Rpc, *, shares_memory: bool) -> bytes:
        """The serialized response; `shares_memory`: whether there is anyone on this machine to share it with."""
        match rpc.name:
            case "ServerLive":
                return pb.ServerLiveResponse(live=True).SerializeToString()
            case "ServerReady":
                return pb.ServerReadyResponse(ready=self._ready()).SerializeToString()
            case _:
                extensions = _EXTENSIONS + (_SHARED_MEMORY if shares_memory else ())
                return pb.ServerMetadataResponse(
                    name="headrace", version=version("headrace"), extensions=extensions
                ).SerializeToString()
