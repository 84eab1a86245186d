"""The table of RPCs agrees with the contract that callers' stubs are made from."""

from __future__ import annotations

import pytest
from google.protobuf.descriptor import Descriptor

from gateway.rpcs import RPCS, Action, Rpc
from protos import grpc_service_pb2 as pb
from protos.contract import SERVICE

_METHODS = pb.DESCRIPTOR.services_by_name["GRPCInferenceService"].methods_by_name
_ROWS = {rpc.name: rpc for rpc in RPCS.values()}


def _number(message: Descriptor, *names: str) -> int:
    return next((message.fields_by_name[name].number for name in names if name in message.fields_by_name), 0)


def test_every_rpc_of_the_contract_is_here_and_no_other() -> None:
    assert set(_ROWS) == set(_METHODS)
    assert all(path == f"/{SERVICE}/{rpc.name}" == rpc.path for path, rpc in RPCS.items())
    assert pb.DESCRIPTOR.services_by_name["GRPCInferenceService"].full_name == SERVICE


@pytest.mark.parametrize("rpc", RPCS.values(), ids=lambda rpc: rpc.name)
def test_field_numbers_are_the_contracts(rpc: Rpc) -> None:
    request = _METHODS[rpc.name].input_type
    about_a_model = rpc.name.startswith(("Model", "RepositoryModel", "Trace"))
    names = ("model_name", "name") if about_a_model else ("model_name",)
    assert rpc.model == _number(request, *names)
    assert rpc.version == (_number(request, "model_version", "version") if about_a_model else 0)
    assert rpc.id == _number(request, "id")


@pytest.mark.parametrize("rpc", RPCS.values(), ids=lambda rpc: rpc.name)
def test_only_the_stream_streams(rpc: Rpc) -> None:
    assert (rpc.way == "stream") == (_METHODS[rpc.name].client_streaming or _METHODS[rpc.name].server_streaming)


def test_actions() -> None:
    by_action = {action: {rpc.name for rpc in RPCS.values() if rpc.action is action} for action in Action}
    assert by_action[Action.INFER] == {"ModelInfer", "ModelStreamInfer"}
    assert {name for name in _ROWS if "SharedMemory" in name} <= by_action[Action.MANAGE]
    assert by_action[Action.MANAGE] >= {"RepositoryModelLoad", "RepositoryModelUnload", "TraceSetting", "LogSettings"}
    assert by_action[Action.INSPECT] >= {"ModelReady", "ModelMetadata", "ModelConfig", "ModelStatistics"}


def test_what_is_about_the_machines_memory() -> None:
    assert {rpc.name for rpc in RPCS.values() if rpc.shared_memory} == {
        name for name in _ROWS if "SharedMemory" in name
    }


def test_only_liveness_and_readiness_need_no_token() -> None:
    assert {rpc.name for rpc in RPCS.values() if rpc.open} == {"ServerLive", "ServerReady"}
    assert all(rpc.way == "local" for rpc in RPCS.values() if rpc.open)


def test_names() -> None:
    rpc = _ROWS["ModelInfer"]
    assert rpc.path == "/inference.GRPCInferenceService/ModelInfer"
    assert rpc.full_name == "inference.GRPCInferenceService/ModelInfer"
