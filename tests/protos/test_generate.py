"""The stubs on disk follow from the contract."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto

from protos.generate import CONTRACT, FOLDER, PROMETHEUS, compile_protos, stubs
from protos.prometheus import metrics_pb2


def test_the_stubs_are_what_generate_writes() -> None:
    written = {path.name: path.read_text() for path in FOLDER.glob("*.pyi")}
    assert stubs(FOLDER) == written, "run python -m protos.generate"


def test_prometheus_messages_are_those_of_their_file() -> None:
    registered = FileDescriptorProto()
    metrics_pb2.DESCRIPTOR.CopyToProto(registered)
    (written,) = compile_protos(FOLDER, PROMETHEUS).file
    assert _fields(written) == _fields(registered)


def _fields(file: FileDescriptorProto) -> list[tuple[str, str, int, int]]:
    return [
        (message.name, field.name, field.number, field.type) for message in file.message_type for field in message.field
    ]


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("grpc_service.proto", "bool live = 1;", "bool alive = 1;"),
        ("grpc_service.proto", "(stream ModelInferRequest)", "(ModelInferRequest)"),
        ("model_config.proto", "TYPE_BF16 = 14;", "TYPE_BF16 = 14; TYPE_FP8 = 15;"),
    ],
)
def test_another_contract_gives_other_stubs(tmp_path: Path, file: str, old: str, new: str) -> None:
    for name in CONTRACT:
        shutil.copy(FOLDER / name, tmp_path)
    text = (tmp_path / file).read_text()
    assert old in text
    (tmp_path / file).write_text(text.replace(old, new, 1))
    assert stubs(tmp_path) != stubs(FOLDER)
