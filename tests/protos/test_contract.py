"""Our .proto files against what the Python packages have registered, in both directions."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    ServiceDescriptorProto,
)
from grpc_health.v1 import health_pb2
from tritonclient.grpc import model_config_pb2, service_pb2, service_pb2_grpc

from protos.generate import CONTRACT, FOLDER, compile_protos
from tests.protos.descriptors import Facts, facts, registered

SERVICE = "inference.GRPCInferenceService"
HEALTH = "grpc/health/v1/health.proto"


@pytest.fixture(scope="module")
def theirs() -> Facts:
    return facts(registered(model_config_pb2.DESCRIPTOR, service_pb2.DESCRIPTOR))


@pytest.fixture(scope="module")
def ours() -> list[FileDescriptorProto]:
    return list(compile_protos(FOLDER, *CONTRACT).file)


def test_the_contract_is_tritonclients(ours: list[FileDescriptorProto], theirs: Facts) -> None:
    assert facts(ours) == theirs
    methods = [name for name, fact in theirs.items() if fact[0] == "method"]
    assert len(methods) == 20
    assert len(theirs) > 500  # the table is not of nothing


def test_health_is_grpcs() -> None:
    assert facts(compile_protos(FOLDER, HEALTH).file) == facts(registered(health_pb2.DESCRIPTOR))


def test_tritonclients_stub_calls_the_methods_that_the_contract_names(ours: list[FileDescriptorProto]) -> None:
    """The stub is written apart from the descriptor: ask it for its paths."""
    calls: dict[str, str] = {}

    class Channel:
        def __getattr__(self, kind: str) -> Callable[..., None]:
            return lambda path, **_: calls.__setitem__(path, kind)

    service_pb2_grpc.GRPCInferenceServiceStub(Channel())
    sides = {False: "unary", True: "stream"}
    assert calls == {
        f"/{SERVICE}/{method.name}": f"{sides[method.client_streaming]}_{sides[method.server_streaming]}"
        for method in ours[-1].service[0].method
    }


def _message(files: list[FileDescriptorProto], name: str) -> DescriptorProto:
    first, *nested = name.split(".")
    found = next(message for file in files for message in file.message_type if message.name == first)
    for part in nested:
        found = next(message for message in found.nested_type if message.name == part)
    return found


def _field(files: list[FileDescriptorProto], name: str) -> FieldDescriptorProto:
    message, _, field = name.rpartition(".")
    return next(found for found in _message(files, message).field if found.name == field)


def _service(files: list[FileDescriptorProto]) -> ServiceDescriptorProto:
    return files[-1].service[0]


Mutation = Callable[[list[FileDescriptorProto]], object]


def _set_field(name: str, attribute: str, value: object) -> Mutation:
    return lambda files: setattr(_field(files, name), attribute, value)


def _set_method(index: int, attribute: str, value: object) -> Mutation:
    return lambda files: setattr(_service(files).method[index], attribute, value)


ID, INPUT = "ModelInferRequest.id", "ModelInferRequest.InferInputTensor"
MUTATIONS: dict[str, Mutation] = {
    "another number": _set_field(ID, "number", 99),
    "another name": _set_field(ID, "name", "identity"),
    "another type": _set_field(ID, "type", FieldDescriptorProto.TYPE_BYTES),
    "another message": _set_field(f"{INPUT}.contents", "type_name", ".inference.InferParameter"),
    "another enum": _set_field("ModelInput.format", "type_name", ".inference.DataType"),
    "another label": _set_field(f"{INPUT}.shape", "label", FieldDescriptorProto.LABEL_OPTIONAL),
    "another json name": _set_field("ModelInferRequest.model_name", "json_name", "model"),
    "another key of a map": _set_field(
        "ModelDynamicBatching.PriorityQueuePolicyEntry.key", "type", FieldDescriptorProto.TYPE_INT64
    ),
    "another oneof": lambda files: setattr(
        _message(files, "ModelWarmup.Input").oneof_decl[0], "name", "input_data_choice"
    ),
    "out of its oneof": lambda files: _field(files, "InferParameter.bool_param").ClearField("oneof_index"),
    "no map": lambda files: _message(files, "ModelInferRequest.ParametersEntry").ClearField("options"),
    "not packed": lambda files: setattr(_field(files, "InferTensorContents.int_contents").options, "packed", False),
    "a field less": lambda files: _message(files, "ModelReadyRequest").field.pop(),
    "a field more": lambda files: _message(files, "ServerLiveRequest").field.add(
        name="name", number=1, type=9, label=1
    ),
    "a message more": lambda files: files[0].message_type.add(name="ModelMore"),
    "a nested message more": lambda files: _message(files, "ModelConfig").nested_type.add(name="More"),
    "a value less": lambda files: files[0].enum_type[0].value.pop(),
    "another value": lambda files: setattr(_message(files, "ModelInstanceGroup").enum_type[0].value[-1], "number", 9),
    "a method less": lambda files: _service(files).method.pop(),
    "another answer": _set_method(0, "output_type", ".inference.ServerReadyResponse"),
    "one stream less": _set_method(6, "client_streaming", False),
    "one stream more": _set_method(5, "server_streaming", True),
    "a file option": lambda files: setattr(files[0].options, "deprecated", True),
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_mutated_contract_is_found_different(ours: list[FileDescriptorProto], theirs: Facts, name: str) -> None:
    mutated = [FileDescriptorProto.FromString(file.SerializeToString()) for file in ours]
    MUTATIONS[name](mutated)
    assert facts(mutated) != theirs


def test_a_mutated_file_is_found_different(tmp_path: Path, theirs: Facts) -> None:
    for file in CONTRACT:
        shutil.copy(FOLDER / file, tmp_path)
    text = (tmp_path / CONTRACT[1]).read_text()
    changed = text.replace("string model_version = 2;", "string model_version = 12;", 1)
    assert changed != text
    (tmp_path / CONTRACT[1]).write_text(changed)
    found = facts(compile_protos(tmp_path, *CONTRACT).file)
    assert {name for name in found if found[name] != theirs.get(name)} == {"inference.ModelInferRequest.model_version"}


def test_protoc_refuses_what_is_no_proto(tmp_path: Path) -> None:
    (tmp_path / "bad.proto").write_text('syntax = "proto3";\nmessage {}\n')
    with pytest.raises(subprocess.CalledProcessError):
        compile_protos(tmp_path, "bad.proto")
