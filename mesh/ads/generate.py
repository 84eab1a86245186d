"""`python -m mesh.ads.generate FOLDER` writes the descriptors of xDS. Law: they are those of the package xds-protos.

FOLDER is where `pip install --no-deps --target FOLDER xds-protos==1.81.1` put it: apart from the environment, for it
brings files of other packages in versions of its own (`opentelemetry.proto`, `google.rpc`, `envoy/__init__.py`).
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Final

from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet

WRITTEN: Final = Path(__file__).with_name("xds.binpb")

_FILES: Final = (
    "envoy.service.discovery.v3.discovery_pb2",
    "envoy.config.listener.v3.listener_pb2",
    "envoy.config.route.v3.route_pb2",
    "envoy.config.cluster.v3.cluster_pb2",
    "envoy.config.endpoint.v3.endpoint_pb2",
    # What may come packed inside these:
    "envoy.extensions.filters.http.fault.v3.fault_pb2",
    "envoy.extensions.filters.http.router.v3.router_pb2",
    "envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2",
    "envoy.extensions.retry.host.previous_hosts.v3.previous_hosts_pb2",
    "envoy.extensions.retry.priority.previous_priorities.v3.previous_priorities_config_pb2",
    "envoy.extensions.transport_sockets.tls.v3.tls_pb2",
)


def descriptors() -> FileDescriptorSet:
    """The files, each after those that it needs. They are imported: this process should do nothing else."""
    found: dict[str, FileDescriptorProto] = {}
    for name in _FILES:
        _collect(importlib.import_module(name).DESCRIPTOR, found)
    return FileDescriptorSet(file=found.values())


def _collect(file: FileDescriptor, found: dict[str, FileDescriptorProto]) -> None:
    for needed in file.dependencies:
        _collect(needed, found)
    if file.name not in found:
        found[file.name] = FileDescriptorProto()
        file.CopyToProto(found[file.name])


def main() -> None:
    """Write them beside this module."""
    sys.path.insert(0, sys.argv[1])
    WRITTEN.write_bytes(descriptors().SerializeToString(deterministic=True))


if __name__ == "__main__":
    main()
