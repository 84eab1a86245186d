"""One trace's id, from the caller to wherever somebody looks: a failing call on each lane, among real processes."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from protos import grpc_service_pb2 as pb
from tests.envoy import needs_envoy
from tests.gateway.tokens import Issuer
from tests.gateway.world import INFER, in_front_of
from tests.interop.jaeger_server import Jaeger, jaeger

pytestmark = [pytest.mark.interop, pytest.mark.timeout(300), needs_envoy]

SPAN = "b7ad6b7169203331"
TRACES = {"python": "0af7651916cd43dd8448eb211c80319c", "express": "4bf92f3577b34da6a3ce929d0e0e4736"}
MODEL = """\
class Model:
    def __init__(self, folder, config):
        pass

    def infer(self, inputs):
        if (inputs["x"] < 0).any():
            kind = RuntimeError if (inputs["x"] < -1).any() else ArithmeticError  # a log has one line of a kind
            raise kind("there is no root")
        return {"y": inputs["x"] ** 0.5}
"""
CONFIG = """\
backend: "python"
input { name: "x" data_type: TYPE_FP32 dims: -1 }
output { name: "y" data_type: TYPE_FP32 dims: -1 }
"""


def message(value: float) -> bytes:
    request = pb.ModelInferRequest(model_name="root", model_version="1")
    request.inputs.add(name="x", datatype="FP32", shape=[1])
    request.raw_input_contents.append(np.array([value], "<f4").tobytes())
    return request.SerializeToString()


@contextmanager
def running(log: Path, *arguments: str) -> Iterator[str]:
    """A process of ours while inside, and where it serves; what it logs is in the file."""
    command = [sys.executable, "-m", "headrace", *arguments]
    with log.open("w") as errors:
        child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, cwd=log.parent)
    try:
        assert child.stdout is not None
        said = child.stdout.readline()
        found = re.match(r"headrace \w+ ready on (\S+)", said)
        assert found is not None, log.read_text()
        yield found[1]
    finally:
        child.terminate()
        child.communicate(timeout=60)


def found(what: Callable[[], Any]) -> Any:
    """What is looked for, once it is there."""
    deadline = time.monotonic() + 30
    while not (there := what()):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return there


def lines(path: Path, trace_id: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines() if trace_id in line]


class Places:
    """Where the id is looked for."""

    def __init__(self, folder: Path, real: Jaeger, address: str, token: str) -> None:
        self.folder = folder
        self.jaeger = real
        self.channel = grpc.insecure_channel(address)
        self._token = token

    def call(self, value: float, trace_id: str = "") -> grpc.StatusCode:
        metadata = [("authorization", f"Bearer {self._token}")]
        if trace_id:
            metadata.append(("traceparent", f"00-{trace_id}-{SPAN}-01"))
        try:
            self.channel.unary_unary(INFER)(message(value), metadata=metadata, timeout=20)
        except grpc.RpcError as error:
            return error.code()
        return grpc.StatusCode.OK

    def lane(self) -> str:
        """By which lane the last call came."""
        last = (self.folder / "access.log").read_text().splitlines()[-1:]
        return str(json.loads(last[0])["headrace.lane"]) if last else ""

    def until_carried(self) -> None:
        def carried() -> bool:
            assert self.call(4.0) is grpc.StatusCode.OK
            time.sleep(0.1)
            return self.lane() == "express"

        found(carried)


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Places]:
    folder = tmp_path_factory.mktemp("one")
    version = folder / "models" / "root" / "1"
    version.mkdir(parents=True)
    (version / "model.py").write_text(MODEL)
    (version.parent / "config.pbtxt").write_text(CONFIG)
    issuer = Issuer()
    with ExitStack() as stack:
        real = stack.enter_context(jaeger(folder))
        serves = ("worker", "--repository", str(folder / "models"), "--listen", "127.0.0.1:0", "--otlp", real.otlp)
        worker = stack.enter_context(running(folder / "worker.log", *serves))
        told = {"otlp": real.otlp, "sample": 0.0, "access_log": "access.log", "logs": False}
        config = in_front_of(worker, folder, issuer, "root", telemetry=told, audit={"file": "audit.jsonl"})
        address = stack.enter_context(running(folder / "gateway.log", "gateway", "--config", str(config)))
        yield Places(folder, real, address, issuer.token())


@pytest.mark.parametrize("lane", TRACES)
def test_it_is_found_everywhere(places: Places, lane: str) -> None:
    trace_id, folder = TRACES[lane], places.folder
    if lane == "express":
        places.until_carried()
    # The caller has the trace's id: it made it up.
    assert places.call(-2.0 if lane == "express" else -1.0, trace_id) is grpc.StatusCode.INTERNAL
    (accessed,) = found(lambda: lines(folder / "access.log", trace_id))
    assert (accessed["headrace.lane"], accessed["trace_id"]) == (lane, trace_id)
    request_id = accessed["headrace.request.id"]

    (audited,) = found(lambda: lines(folder / "audit.jsonl", trace_id))
    assert (audited["headrace.decision"], audited["headrace.request.id"]) == ("allowed", request_id)
    assert audited["trace_id"] == trace_id

    of_gateway = found(lambda: lines(folder / "gateway.log", trace_id))
    assert all(request_id in json.dumps(line) for line in of_gateway)

    of_worker = found(lambda: lines(folder / "worker.log", trace_id))
    assert any("there is no root" in json.dumps(line) for line in of_worker)
    assert all(line["headrace.request.id"] == request_id for line in of_worker)

    def spans() -> set[str]:
        (trace,) = places.jaeger.asked(f"/api/traces/{trace_id}") or [{"spans": []}]
        return {trace["processes"][span["processID"]]["serviceName"] for span in trace["spans"]}

    assert found(lambda: spans() >= {"headrace-gateway", "headrace-worker"})


def test_nobody_else_has_it(places: Places) -> None:
    """The control: an id that was made up and not sent is nowhere."""
    for name in ("access.log", "audit.jsonl", "gateway.log", "worker.log"):
        assert not lines(places.folder / name, "f" * 32)
    assert not places.jaeger.asked(f"/api/traces/{'f' * 32}")
