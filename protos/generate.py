"""`python -m protos.generate` writes the typed stubs. Law: they follow from the .proto files and nothing else.

The messages themselves come from tritonclient, which registers them: a second registration in one process raises.
So protoc is asked for types alone, and `grpc_tools` is needed to change the contract, never to run it. Prometheus's
messages, which nobody else brings, are written whole.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from google.protobuf.descriptor_pb2 import FileDescriptorSet, MethodDescriptorProto

FOLDER = Path(__file__).parent
CONTRACT = ("model_config.proto", "grpc_service.proto")
PROMETHEUS = "prometheus/metrics.proto"

_WRITTEN = "# Written by `python -m protos.generate`.\n"
_MESSAGES_HEAD = f'{_WRITTEN}# mypy: disable-error-code="no-untyped-def, type-arg"\n'
_SERVICE_HEAD = f"""{_WRITTEN}# ruff: noqa: E501, N802 - one line a method, under its own name
# fmt: off
from collections.abc import AsyncIterator

import grpc.aio

from protos import grpc_service_pb2 as pb
"""


def compile_protos(folder: Path, *files: str) -> FileDescriptorSet:
    """The descriptors of .proto files under `folder`, in that order. CalledProcessError where protoc refuses."""
    with TemporaryDirectory() as scratch:
        out = Path(scratch, "set")
        _protoc(folder, f"--descriptor_set_out={out}", *files)
        return FileDescriptorSet.FromString(out.read_bytes())


def stubs(folder: Path) -> dict[str, str]:
    """File name to text of every .pyi that follows from the contract in `folder`."""
    with TemporaryDirectory() as scratch:
        _protoc(folder, f"--pyi_out={scratch}", *CONTRACT)
        written = {path.name: path.read_text() for path in Path(scratch).glob("*.pyi")}
    messages = {name: _MESSAGES_HEAD + _import_from_protos(text) for name, text in written.items()}
    (service,) = compile_protos(folder, *CONTRACT).file[-1].service
    return messages | {"grpc_service_pb2_grpc.pyi": _service_stub(service.name, list(service.method))}


def prometheus(folder: Path) -> dict[str, str]:
    """File name to text of what follows from Prometheus's messages in `folder`."""
    with TemporaryDirectory() as scratch:
        _protoc(folder, f"--python_out={scratch}", f"--pyi_out={scratch}", PROMETHEUS)
        written = {str(path.relative_to(scratch)): path.read_text() for path in Path(scratch).rglob("*_pb2.py*")}
    heads = {".py": _WRITTEN, ".pyi": _MESSAGES_HEAD}
    return {name: heads[Path(name).suffix] + text for name, text in written.items()}


def main() -> None:
    """Write what follows beside what it follows from."""
    for name, text in (stubs(FOLDER) | prometheus(FOLDER)).items():
        (FOLDER / name).write_text(text)


def _protoc(folder: Path, *arguments: str) -> None:
    command = [sys.executable, "-m", "grpc_tools.protoc", f"--proto_path={folder}", *arguments]
    subprocess.run(command, check=True)  # noqa: S603 - our own files, no shell


def _import_from_protos(text: str) -> str:
    return text.replace("import model_config_pb2 as", "from protos import model_config_pb2 as", 1)


def _service_stub(service: str, methods: list[MethodDescriptorProto]) -> str:
    calls = "".join(f"    {method.name}: {_multi_callable(method)}\n" for method in methods)
    handlers = "".join(_handler(method) for method in methods)
    return (
        f"{_SERVICE_HEAD}\n"
        f"class {service}Stub:\n    def __init__(self, channel: grpc.aio.Channel) -> None: ...\n{calls}\n"
        f"class {service}Servicer:\n{handlers}\n"
        f"def add_{service}Servicer_to_server(servicer: {service}Servicer, server: grpc.aio.Server) -> None: ...\n"
    )


def _types(method: MethodDescriptorProto) -> tuple[str, str]:
    request, response = (name.rpartition(".")[2] for name in (method.input_type, method.output_type))
    return f"pb.{request}", f"pb.{response}"


def _multi_callable(method: MethodDescriptorProto) -> str:
    sides = (method.client_streaming, method.server_streaming)
    kind = "".join("Stream" if streaming else "Unary" for streaming in sides)
    return f"grpc.aio.{kind}MultiCallable[{', '.join(_types(method))}]"


def _handler(method: MethodDescriptorProto) -> str:
    request, response = _types(method)
    context = f"grpc.aio.ServicerContext[{request}, {response}]"
    asks = f"request_iterator: AsyncIterator[{request}]" if method.client_streaming else f"request: {request}"
    gives = f"AsyncIterator[{response}]" if method.server_streaming else response
    define = "def" if method.server_streaming else "async def"
    return f"    {define} {method.name}(self, {asks}, context: {context}) -> {gives}: ...\n"


if __name__ == "__main__":
    main()
