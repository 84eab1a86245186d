"""What the gateway answers itself. Law: nothing here speaks of models or workers."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version

from gateway.rpcs import Rpc
from protos import grpc_service_pb2 as pb

_EXTENSIONS = (
    "binary_tensor_data",
    "classification",
    "model_configuration",
    "model_repository",
    "model_repository(unload_dependents)",
    "schedule_policy",
    "sequence",
    "statistics",
    "system_shared_memory",
    "cuda_shared_memory",
    "trace",
    "logging",
)
"""The protocol's extensions that pass through us; whether a model's server has them is the server's to say."""


class Local:
    """Answers for ServerLive, ServerReady and ServerMetadata; `ready` tells whether calls can be taken."""

    def __init__(self, ready: Callable[[], bool]) -> None:
        self._ready = ready

    def answer(self, rpc: Rpc) -> bytes:
        """The serialized response."""
        match rpc.name:
            case "ServerLive":
                return pb.ServerLiveResponse(live=True).SerializeToString()
            case "ServerReady":
                return pb.ServerReadyResponse(ready=self._ready()).SerializeToString()
            case _:
                return pb.ServerMetadataResponse(
                    name="headrace", version=version("headrace"), extensions=_EXTENSIONS
                ).SerializeToString()
