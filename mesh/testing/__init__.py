"""Mesh policies under test: Istio resources on real Envoys, with stand-ins for the workers. Law: nothing else is faked.

As a pytest plugin it brings one fixture, `mesh_up` (`mesh.testing.plugin`); without pytest, `running` does the same.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mesh.testing.calls import Call, Calls
    from mesh.testing.mesh import Mesh, running
    from mesh.testing.worker import Worker

__all__ = ["Call", "Calls", "Mesh", "Worker", "running"]

_HOMES = {"Call": "calls", "Calls": "calls", "Mesh": "mesh", "Worker": "worker", "running": "mesh"}


def __getattr__(name: str) -> object:
    """What is exported, imported when it is asked for: pytest imports this for everybody, and gRPC takes its time."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
