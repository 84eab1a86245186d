"""The real Triton that tests run, if there is one, and a repository for it that needs no GPU."""

from __future__ import annotations

import contextlib
import http.server
import importlib.util
import json
import platform
import re
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import dedent
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from tests.web import web
from tests.workers import zoo

_THERE = sys.platform == "linux" and platform.machine() == "x86_64" and importlib.util.find_spec("pytriton") is not None
needs_triton = pytest.mark.skipif(
    not _THERE, reason="no Triton: pip install 'headrace[triton]' on Linux on x86-64, with Python before 3.13"
)
_METRICS = re.compile(r"metrics on http://(\S+?)/metrics")
QUICKLY = "--disable-auto-complete-config"  # configurations are complete: Triton need not run each model for that first


@dataclass
class Launched:
    """A running `headrace triton`: its process, its HOST:PORT, and what it and Triton say."""

    process: subprocess.Popen[str]
    address: str
    said: list[str]


@contextlib.contextmanager
def launched(repository: Path, *options: str) -> Iterator[Launched]:
    """`headrace triton` on a free port while inside."""
    command = [sys.executable, "-m", "headrace", "triton", "--repository", str(repository), "--listen", "127.0.0.1:0"]
    process = subprocess.Popen([*command, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    said: list[str] = []
    reading = threading.Thread(target=lambda: said.extend(process.stderr), daemon=True)  # it must never wait for us
    reading.start()
    try:
        line = process.stdout.readline()
        if not line:
            reading.join(10)
        assert line.startswith("headrace triton ready on 127.0.0.1:"), "".join(said)[-2000:]
        yield Launched(process, line.split()[-1], said)
    finally:
        if process.poll() is None:
            process.terminate()
        try:
            process.wait(40)
        finally:
            process.kill()
        reading.join(10)
        process.stdout.close()
        if not reading.is_alive():  # who is left behind holds it open
            process.stderr.close()


@dataclass
class Collector:
    """An OTLP/HTTP collector; Triton sends JSON."""

    url: str = ""
    spans: list[dict[str, Any]] = field(default_factory=list)

    @contextlib.contextmanager
    def serving(self) -> Iterator[Collector]:
        spans = self.spans

        class Taking(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                assert self.path == "/v1/traces"
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                spans.extend(
                    span | {"service": resource["resource"]["attributes"]}
                    for resource in body["resourceSpans"]
                    for scope in resource["scopeSpans"]
                    for span in scope["spans"]
                )
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

        with web(Taking) as self.url:
            yield self


@dataclass
class Triton:
    """A Triton that serves `repository`."""

    address: str
    repository: Path
    collector: Collector
    metrics: str
    said: list[str]

    def noted(self, model: str) -> Noted:
        """The test's side of a model of `NOTED`."""
        return Noted(self.repository / model)

    def waiting(self, model: str) -> int:
        """How many requests wait in the model's queue."""
        return self._counted("nv_inference_pending_request_count", f'model="{model}"')

    def failed(self, model: str, reason: str) -> int:
        """How many requests of the model have failed for that reason."""
        return self._counted("nv_inference_request_failure", f'model="{model}"', f'reason="{reason}"')

    def page(self) -> str:
        """Its metrics."""
        with urllib.request.urlopen(f"http://{self.metrics}/metrics", timeout=5) as page:
            return page.read().decode()

    def _counted(self, name: str, *labels: str) -> int:
        counts = [line for line in self.page().splitlines() if line.startswith(f"{name}{{")]
        return sum(int(line.split()[-1]) for line in counts if all(label in line for label in labels))

    @contextlib.contextmanager
    def leaving(self, client: Any) -> Iterator[Callable[[], bool]]:
        """While inside, the value tells whether Triton has noticed that a caller has left; it says so in its log."""
        client.update_log_settings({"log_verbose_level": 1})
        after = len(self.said)
        try:
            yield lambda: any("Cancellation notification received" in line for line in list(self.said[after:]))
        finally:
            client.update_log_settings({"log_verbose_level": 0})


@dataclass(frozen=True)
class Noted:
    """What a model of `NOTED` has run, and its gate."""

    folder: Path

    def ran(self) -> list[float]:
        file = self.folder / "ran"
        return [float(line) for line in file.read_text().split()] if file.exists() else []

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """While inside it answers nothing that it has begun."""
        (self.folder / "hold").touch()
        try:
            yield
        finally:
            (self.folder / "hold").unlink()


@contextlib.contextmanager
def triton(repository: Path) -> Iterator[Triton]:
    """A Triton with all of the models below."""
    fill(repository)
    with Collector().serving() as collector:
        options = ["--otlp", collector.url, "--service", "tests-triton", "--metrics", "127.0.0.1:0"]
        # Triton does not always come to rest after streams that were cancelled.
        with launched(repository, *options, "--drain", "2s", "--", QUICKLY) as started:
            until(lambda: _METRICS.search("".join(started.said)))
            (metrics,) = _METRICS.findall("".join(started.said))
            yield Triton(started.address, repository, collector, metrics, started.said)


PORTS = """
max_batch_size: 1
input { name: "x" data_type: TYPE_FP32 dims: 1 }
output { name: "y" data_type: TYPE_FP32 dims: 1 }
instance_group { kind: KIND_CPU count: 1 }
"""

# What a request says of how long it may wait, and of its level, counts.
HASTY = """
dynamic_batching {
  priority_levels: 3
  default_priority_level: 2
  default_queue_policy { default_timeout_microseconds: 60000000 allow_timeout_override: true }
}
"""

# Triton's own kind. Notes each value that it runs, and waits for `hold` beside it to go.
NOTED = """
import pathlib, time
import triton_python_backend_utils as triton

class TritonPythonModel:
    def initialize(self, args):
        self.folder = pathlib.Path(__file__).resolve().parent.parent  # the original's

    def execute(self, requests):
        answers = []
        for request in requests:
            x = triton.get_input_tensor_by_name(request, "x").as_numpy()
            with (self.folder / "ran").open("a") as ran:
                ran.write("%g\\n" % x.ravel()[0])
            while (self.folder / "hold").exists():
                time.sleep(0.005)
            if x.ravel()[0] < 0:
                error = triton.TritonError("x must not be negative", triton.TritonError.INVALID_ARG)
                answers.append(triton.InferenceResponse(error=error))
            else:
                answers.append(triton.InferenceResponse([triton.Tensor("y", x * 2)]))
        return answers
"""

# Triton's own kind: as many answers as x says.
COUNTING = """
import numpy
import triton_python_backend_utils as triton

class TritonPythonModel:
    def execute(self, requests):
        for request in requests:
            sender = request.get_response_sender()
            for at in range(int(triton.get_input_tensor_by_name(request, "x").as_numpy()[0])):
                sender.send(triton.InferenceResponse([triton.Tensor("y", numpy.array([at], numpy.float32))]))
            sender.send(flags=triton.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
"""
COUNTED = """
input { name: "x" data_type: TYPE_FP32 dims: 1 }
output { name: "y" data_type: TYPE_FP32 dims: 1 }
model_transaction_policy { decoupled: true }
instance_group { kind: KIND_CPU }
"""

# Our worker's kind.
WORKERS = """
import numpy

class Model:
    def __init__(self, folder, config):
        self.most = int((folder / "most").read_text())

    def infer(self, inputs):
        for at in range(min(self.most, int(inputs["x"][0]))):
            yield {"y": numpy.array([at], numpy.float32)}
"""

# Our worker's kind: of two that are run together it forgets the first.
CROOKED = """
class Model:
    def __init__(self, folder, config):
        pass

    def infer(self, inputs):
        return {"y": inputs["x"][-1:]}
"""
PAIRED = (
    PORTS.replace("max_batch_size: 1", "max_batch_size: 2")
    + """
dynamic_batching { preferred_batch_size: 2 max_queue_delay_microseconds: 5000000 }
"""
)

SUMMING = """
max_batch_size: 4
input { name: "x" data_type: TYPE_FP32 dims: 1 }
output { name: "y" data_type: TYPE_FP32 dims: 1 }
sequence_batching {
  max_sequence_idle_microseconds: 10000000
  state {
    input_name: "before" output_name: "after" data_type: TYPE_FP32 dims: 1
    initial_state { name: "nothing" data_type: TYPE_FP32 dims: 1 zero_data: true }
  }
}
"""


def fill(repository: Path) -> None:
    """The models that tests need."""
    repository.mkdir(exist_ok=True)
    zoo.add(repository, dims=("n", 3), config=ADD)
    (repository / "add" / "labels.txt").write_text("ant\nbee\ncow\n")
    for datatype in ("FP16", "BF16", "BYTES"):
        zoo.identity(repository, datatype)
    zoo.add(repository, "versions", version=1, config="version_policy { all {} }")
    zoo.put(repository, "versions", zoo.graph("Sub", {"a": ("n", 2), "b": ("n", 2)}, {"c": ("n", 2)}), version=2)
    native(repository, "slow", NOTED, PORTS + "dynamic_batching { default_queue_policy { max_queue_size: 8 } }")
    native(repository, "late", NOTED, PORTS)
    native(repository, "hasty", NOTED, PORTS + HASTY)
    native(repository, "count", COUNTING, COUNTED)
    zoo.python(repository, "workers", WORKERS, COUNTED)
    (repository / "workers" / "1" / "most").write_text("3")
    zoo.python(repository, "crooked", CROOKED, PAIRED)
    zoo.put(repository, "sum", summing(), config=SUMMING)
    zoo.gated(repository)


ADD = 'output { name: "c" data_type: TYPE_FP32 dims: 3 label_filename: "labels.txt" }\nmax_batch_size: 4'


def native(repository: Path, name: str, code: str, config: str) -> None:
    """A model of Triton's python backend."""
    zoo.python(repository, name, dedent(code), config)


def summing() -> bytes:
    """`y = after = x + before`: with `before` as a state, the sum of a sequence."""
    kind, dims = TensorProto.FLOAT, ("n", 1)
    made = helper.make_graph(
        [helper.make_node("Add", ["x", "before"], ["y"]), helper.make_node("Add", ["x", "before"], ["after"])],
        "sum",
        [helper.make_tensor_value_info(name, kind, dims) for name in ("x", "before")],
        [helper.make_tensor_value_info(name, kind, dims) for name in ("y", "after")],
    )
    opset = [helper.make_opsetid("", zoo.OPSET)]
    return helper.make_model(made, opset_imports=opset, ir_version=zoo.IR_VERSION).SerializeToString()


def tensor(module: Any, name: str, datatype: str, values: Any) -> Any:
    """An input of tritonclient's."""
    if datatype == "BF16":
        import ml_dtypes

        values = np.asarray(values, ml_dtypes.bfloat16)
    made = module.InferInput(name, list(np.shape(values)), datatype)
    made.set_data_from_numpy(np.asarray(values))
    return made


def until(condition: Callable[[], object], seconds: float = 20.0) -> None:
    """Wait for a condition; fail when it does not come true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def floats(*values: float) -> np.ndarray:
    return np.array(values, np.float32)
