"""`python ray_serve.py FOLDER`: Ray Serve behind its own gRPC proxy. Law: bytes there, bytes back.

It runs in Ray's environment, which has nothing of ours: a copy of this file is all that it needs. `FOLDER` (a short
path) is where Ray keeps its own files, and where the answer is. It prints `serving HOST:PORT`, and ends with its
standard input. Meanwhile Ray's proxy listens at all addresses: it cannot be told otherwise.
"""

from __future__ import annotations

import socket
import sys
from pathlib import Path
from typing import Any

import grpc
import ray
from ray import serve
from ray.serve.config import gRPCOptions

SERVICE = "inference.GRPCInferenceService"
_CALLS = 1000  # at a time


class Raw:
    """A message that is not looked into, in the manner of a protobuf one."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def SerializeToString(self) -> bytes:  # noqa: N802 - protobuf's name
        """Its bytes."""
        return self._data


def add_to_server(servicer: Any, server: Any) -> None:  # noqa: ANN401 - Ray's
    """What protoc would have written for the one method."""
    infer = grpc.unary_unary_rpc_method_handler(servicer.ModelInfer, Raw, Raw.SerializeToString)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {"ModelInfer": infer}),))


class Worker:
    """Gives everyone the same answer."""

    def __init__(self, answer: bytes) -> None:
        self._answer = Raw(answer)

    async def ModelInfer(self, _: Raw) -> Raw:  # noqa: N802 - the RPC's name
        """Answer."""
        return self._answer


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _serve(folder: Path) -> None:
    ray.init(
        address="local",
        num_cpus=1,
        include_dashboard=False,
        dashboard_port=_free_port(),
        log_to_driver=False,
        _node_ip_address="127.0.0.1",
        _temp_dir=str(folder),
    )
    port = _free_port()
    serve.start(
        http_options={"host": "127.0.0.1", "port": _free_port()},
        grpc_options=gRPCOptions(port=port, grpc_servicer_functions=["ray_serve.add_to_server"]),
    )
    deployed = serve.deployment(max_ongoing_requests=_CALLS, ray_actor_options={"num_cpus": 0})(Worker)
    serve.run(deployed.bind((folder / "answer").read_bytes()), name="bench")
    print(f"serving 127.0.0.1:{port}", flush=True)  # noqa: T201 - the parent reads it
    sys.stdin.read()
    ray.shutdown()


if __name__ == "__main__":
    _serve(Path(sys.argv[1]))
