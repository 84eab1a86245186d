"""The RPCs of `inference.GRPCInferenceService` and what each one asks for.

Law: all that differs by RPC is told here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Literal

from protos.contract import SERVICE


class Action(StrEnum):
    """What a grant can allow."""

    INFER = "infer"
    INSPECT = "inspect"
    MANAGE = "manage"


Way = Literal["local", "forward", "stream", "gather", "everywhere"]


@dataclass(frozen=True, slots=True)
class Rpc:
    """One RPC.

    `way` is how it is answered: by the gateway itself (`local`), by one copy (`forward`, or message by message:
    `stream`), by every copy of one model or of all that the caller may inspect, with the answers merged (`gather`), or
    by every copy of one model or of all that the caller may manage, each of which must do it (`everywhere`). `model`,
    `version` and `id` are the numbers of the request's fields that hold these, 0 where it has none. `settings` is the
    number of the field by which a call about one model can reach further (files of a load, dependents of an unload,
    where traces are written), -1 where there is none. `shared_memory` says that it is about memory of the worker's
    machine, `open` that no token is needed.
    """

    name: str
    way: Way
    action: Action
    model: int = 0
    version: int = 0
    id: int = 0
    settings: int = -1
    shared_memory: bool = False
    open: bool = False

    @property
    def path(self) -> str:
        """The HTTP/2 `:path`."""
        return f"/{SERVICE}/{self.name}"

    @property
    def full_name(self) -> str:
        """`rpc.method` as OpenTelemetry spells it."""
        return f"{SERVICE}/{self.name}"


_ALL = (
    Rpc("ServerLive", "local", Action.INSPECT, open=True),
    Rpc("ServerReady", "local", Action.INSPECT, open=True),
    Rpc("ServerMetadata", "local", Action.INSPECT),
    Rpc("ModelReady", "forward", Action.INSPECT, model=1, version=2),
    Rpc("ModelMetadata", "forward", Action.INSPECT, model=1, version=2),
    Rpc("ModelConfig", "forward", Action.INSPECT, model=1, version=2),
    Rpc("ModelStatistics", "gather", Action.INSPECT, model=1, version=2),
    Rpc("RepositoryIndex", "gather", Action.INSPECT),
    Rpc("ModelInfer", "forward", Action.INFER, model=1, version=2, id=3),
    Rpc("ModelStreamInfer", "stream", Action.INFER, model=1, version=2, id=3),
    Rpc("RepositoryModelLoad", "everywhere", Action.MANAGE, model=2, settings=3),
    Rpc("RepositoryModelUnload", "everywhere", Action.MANAGE, model=2, settings=3),
    Rpc("TraceSetting", "everywhere", Action.MANAGE, model=2, settings=1),
    Rpc("LogSettings", "everywhere", Action.MANAGE),
    Rpc("SystemSharedMemoryStatus", "everywhere", Action.MANAGE, shared_memory=True),
    Rpc("SystemSharedMemoryRegister", "everywhere", Action.MANAGE, shared_memory=True),
    Rpc("SystemSharedMemoryUnregister", "everywhere", Action.MANAGE, shared_memory=True),
    Rpc("CudaSharedMemoryStatus", "everywhere", Action.MANAGE, shared_memory=True),
    Rpc("CudaSharedMemoryRegister", "everywhere", Action.MANAGE, shared_memory=True),
    Rpc("CudaSharedMemoryUnregister", "everywhere", Action.MANAGE, shared_memory=True),
)

RPCS: Final[Mapping[str, Rpc]] = {rpc.path: rpc for rpc in _ALL}
