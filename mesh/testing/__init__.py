"""Mesh policies under test: Istio resources on real Envoys, with stand-ins for the workers. Law: nothing else is faked.

As a pytest plugin it brings one fixture, `mesh_up` (`mesh.testing.plugin`); without pytest, `running` does the same.
"""

from mesh.testing.calls import Call, Calls
from mesh.testing.mesh import Mesh, running
from mesh.testing.worker import Worker

__all__ = ["Call", "Calls", "Mesh", "Worker", "running"]
