"""Tiny models, made for the tests, in repositories like any other."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

from onnx import TensorProto, helper

IR_VERSION = 10
OPSET = 18
ONNX_TYPES = {
    "BOOL": TensorProto.BOOL,
    "UINT8": TensorProto.UINT8,
    "UINT16": TensorProto.UINT16,
    "UINT32": TensorProto.UINT32,
    "UINT64": TensorProto.UINT64,
    "INT8": TensorProto.INT8,
    "INT16": TensorProto.INT16,
    "INT32": TensorProto.INT32,
    "INT64": TensorProto.INT64,
    "FP16": TensorProto.FLOAT16,
    "FP32": TensorProto.FLOAT,
    "FP64": TensorProto.DOUBLE,
    "BYTES": TensorProto.STRING,
    "BF16": TensorProto.BFLOAT16,
}
Dims = tuple[int | str, ...]


def graph(node: str, inputs: dict[str, Dims], outputs: dict[str, Dims], datatype: str = "FP32") -> bytes:
    """An ONNX model of one node whose inputs and outputs all have one datatype."""
    kind = ONNX_TYPES[datatype]
    made = helper.make_graph(
        [helper.make_node(node, list(inputs), list(outputs))],
        "tiny",
        [helper.make_tensor_value_info(name, kind, dims) for name, dims in inputs.items()],
        [helper.make_tensor_value_info(name, kind, dims) for name, dims in outputs.items()],
    )
    opset = [helper.make_opsetid("", OPSET)]
    return helper.make_model(made, opset_imports=opset, ir_version=IR_VERSION).SerializeToString()


def put(repository: Path, name: str, body: bytes, *, version: int = 1, config: str = "") -> None:
    """A version of an ONNX model, and the configuration if there is one."""
    _put(repository, name, version, "model.onnx", body, config)


def add(repository: Path, name: str = "add", *, version: int = 1, config: str = "", dims: Dims = ("n", 2)) -> None:
    """`c = a + b`, FP32."""
    put(repository, name, graph("Add", {"a": dims, "b": dims}, {"c": dims}), version=version, config=config)


def identity(repository: Path, datatype: str, *, config: str = "", dims: Dims = ("n", 2)) -> str:
    """`y = x` of one datatype, under the datatype's name in small letters."""
    name = datatype.lower()
    put(repository, name, graph("Identity", {"x": dims}, {"y": dims}, datatype), config=config)
    return name


SUM = """
max_batch_size: 0
sequence_batching {
  max_sequence_idle_microseconds: 60000000
  state { input_name: "before" output_name: "after" data_type: TYPE_FP32 dims: 1 }
}
"""


def running_sum(repository: Path, name: str = "sum", *, config: str = SUM, dims: Dims = (1,), version: int = 1) -> None:
    """`y = x + before`, and `after = y`: what a sequence has sent so far, added up. FP32."""
    kind = ONNX_TYPES["FP32"]
    made = helper.make_graph(
        [helper.make_node("Add", ["x", "before"], ["y"]), helper.make_node("Identity", ["y"], ["after"])],
        "sum",
        [helper.make_tensor_value_info(port, kind, dims) for port in ("x", "before")],
        [helper.make_tensor_value_info(port, kind, dims) for port in ("y", "after")],
    )
    opset = [helper.make_opsetid("", OPSET)]
    body = helper.make_model(made, opset_imports=opset, ir_version=IR_VERSION).SerializeToString()
    put(repository, name, body, version=version, config=config)


def python(repository: Path, name: str, code: str, config: str, *, version: int = 1) -> None:
    """A model of the Python backend."""
    _put(repository, name, version, "model.py", dedent(code).encode(), f'backend: "python"\n{config}')


ONE_IN_ONE_OUT = """
input { name: "x" data_type: TYPE_FP32 dims: -1 }
output { name: "y" data_type: TYPE_FP32 dims: -1 }
"""

# Writes down each value that it runs, and waits at a gate: while `hold` is there, it does not answer.
GATED = """
import time

class Model:
    def __init__(self, folder, config):
        self.folder = folder.parent

    def infer(self, inputs):
        with (self.folder / "ran").open("a") as ran:
            ran.write("%s\\n" % " ".join("%g" % v for v in inputs["x"].ravel()))
        while (self.folder / "hold").exists():
            time.sleep(0.002)
        return {"y": inputs["x"] * 2}
"""


def gated(repository: Path, config: str = ONE_IN_ONE_OUT, name: str = "gated") -> Gate:
    """A Python model that answers y = 2 x once its gate is open."""
    python(repository, name, GATED, config)
    return Gate(repository / name)


class Gate:
    """The test's side of a gated model."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def shut(self) -> None:
        (self._folder / "hold").touch()

    def open(self) -> None:
        (self._folder / "hold").unlink(missing_ok=True)

    def ran(self) -> list[str]:
        """What was run, a line for each execution."""
        file = self._folder / "ran"
        return file.read_text().splitlines() if file.exists() else []


def _put(repository: Path, name: str, version: int, file: str, body: bytes, config: str) -> None:
    folder = repository / name / str(version)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / file).write_bytes(body)
    if config:
        (repository / name / "config.pbtxt").write_text(config)
