"""What is sent and answered. Law: real ModelInfer messages, the same bytes each time."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Final

from protos.contract import SERVICE
from protos.grpc_service_pb2 import ModelInferRequest, ModelInferResponse

MODEL: Final = "bench"
PATH: Final = f"/{SERVICE}/ModelInfer"

SHAPES: Final = {"small": (1, 64), "large": (1, 3, 224, 224)}  # FP32: 0.3 kB and 602 kB


def model(index: int) -> str:
    """The name of one model of many; the first is MODEL."""
    return f"{MODEL}-{index}" if index else MODEL


def request(shape: Sequence[int], model_name: str = MODEL) -> bytes:
    """A ModelInferRequest with one FP32 input of this shape, raw."""
    message = ModelInferRequest(model_name=model_name, id="1")
    message.inputs.add(name="image", datatype="FP32", shape=shape)
    message.raw_input_contents.append(bytes(4 * prod(shape)))
    return message.SerializeToString()


def with_parameter(message: bytes) -> bytes:
    """The request with a parameter, for which the express lane hands it to Python."""
    more = ModelInferRequest()
    more.parameters["priority"].int64_param = 1
    return message + more.SerializeToString()


def answer() -> bytes:
    """A ModelInferResponse with ten FP32 scores, raw."""
    message = ModelInferResponse(model_name=MODEL, model_version="1", id="1")
    message.outputs.add(name="scores", datatype="FP32", shape=(1, 10))
    message.raw_output_contents.append(bytes(40))
    return message.SerializeToString()


def prefixed(message: bytes) -> bytes:
    """The message as gRPC frames it: not compressed, its length, itself."""
    return b"\x00" + len(message).to_bytes(4, "big") + message
