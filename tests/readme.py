"""What README.md shows, as data; and a gateway with the model that its examples call."""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from onnx import TensorProto, helper

from gateway.server import serving
from gateway.settings import load
from tests.gateway.tokens import Issuer
from tests.gateway.world import in_front_of
from workers.server import Options
from workers.server import serving as worker_serving

TOP = Path(__file__).parent.parent
TEXT = (TOP / "README.md").read_text()


def blocks(language: str) -> list[str]:
    """The README's code blocks of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Door:
    address: str
    token: str


def classifier() -> bytes:
    """An ONNX model as the examples expect it: `image` FP32 [n, 64] to `label` INT64 [n]."""
    graph = helper.make_graph(
        [helper.make_node("ArgMax", ["image"], ["label"], axis=1, keepdims=0)],
        "digits",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 64])],
        [helper.make_tensor_value_info("label", TensorProto.INT64, ["n"])],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10).SerializeToString()


@contextlib.asynccontextmanager
async def door(folder: Path) -> AsyncIterator[Door]:
    """A gateway whose catalog has `digits`, on a real worker."""
    model = folder / "models" / "digits" / "1" / "model.onnx"
    model.parent.mkdir(parents=True)
    model.write_bytes(classifier())
    issuer = Issuer()
    async with worker_serving(Options(folder / "models", "127.0.0.1:0")) as worker:
        config = in_front_of(worker, folder, issuer, "digits")
        async with serving(load(config, {})) as addresses:
            yield Door(addresses.grpc, issuer.token())
