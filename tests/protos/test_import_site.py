"""tritonclient's messages come into Python through `protos` and nowhere else; all of them do."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from google.protobuf.descriptor import FileDescriptor
from tritonclient.grpc import model_config_pb2 as their_config
from tritonclient.grpc import service_pb2 as their_service

from protos import grpc_service_pb2, grpc_service_pb2_grpc, model_config_pb2

ROOT = Path(__file__).parents[2]
PACKAGES = ("protos", "gateway", "workers", "mesh", "loadtest", "headrace")
SITES = {"protos/grpc_service_pb2.py", "protos/grpc_service_pb2_grpc.py", "protos/model_config_pb2.py"}
THEIRS = {f"tritonclient.grpc.{name}" for name in ("service_pb2", "service_pb2_grpc", "model_config_pb2")}


def _imports(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _imports_theirs(source: str) -> bool:
    return not THEIRS.isdisjoint(_imports(source))


def test_one_import_site() -> None:
    modules = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    found = {str(path.relative_to(ROOT)) for path in modules if _imports_theirs(path.read_text())}
    assert found == SITES


@pytest.mark.parametrize(
    "source",
    [
        "import tritonclient.grpc.service_pb2 as pb",
        "from tritonclient.grpc import service_pb2",
        "def late():\n    from tritonclient.grpc.model_config_pb2 import ModelConfig",
        "from tritonclient.grpc.service_pb2_grpc import GRPCInferenceServiceStub",
    ],
)
def test_a_second_site_is_found(source: str) -> None:
    assert _imports_theirs(source)
    assert not _imports_theirs(source.replace("tritonclient.grpc", "protos"))


@pytest.mark.parametrize(
    ("site", "descriptor"),
    [(grpc_service_pb2, their_service.DESCRIPTOR), (model_config_pb2, their_config.DESCRIPTOR)],
)
def test_the_site_names_every_message_and_enum(site: object, descriptor: FileDescriptor) -> None:
    names = {*descriptor.message_types_by_name, *descriptor.enum_types_by_name, "DESCRIPTOR"}
    names |= {value for enum in descriptor.enum_types_by_name.values() for value in enum.values_by_name}
    assert set(vars(site)["__all__"]) == names
    assert all(hasattr(site, name) for name in names)


def test_the_service_is_named() -> None:
    (service,) = their_service.DESCRIPTOR.services_by_name
    assert set(grpc_service_pb2_grpc.__all__) == {
        f"{service}Stub",
        f"{service}Servicer",
        f"add_{service}Servicer_to_server",
    }
