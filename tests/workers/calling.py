"""Requests and what comes of them."""

from __future__ import annotations

import grpc.aio
import numpy as np
import pytest
from google.rpc import error_details_pb2, status_pb2

from protos import grpc_service_pb2 as pb
from protos.boundary import DETAILS_KEY


def request(model: str, version: str = "", id: str = "", **inputs: np.ndarray) -> pb.ModelInferRequest:
    """A request of FP32 arrays, raw."""
    made = pb.ModelInferRequest(model_name=model, model_version=version, id=id)
    for name, array in inputs.items():
        made.inputs.add(name=name, datatype="FP32", shape=array.shape)
        made.raw_input_contents.append(array.astype("<f4").tobytes())
    return made


def in_sequence(
    model: str, sequence: int | str, *, start: bool = False, end: bool = False, id: str = "", **inputs: np.ndarray
) -> pb.ModelInferRequest:
    """A request of a sequence, with the flags that tritonclient sends."""
    made = request(model, id=id, **inputs)
    if isinstance(sequence, str):
        made.parameters["sequence_id"].string_param = sequence
    else:
        made.parameters["sequence_id"].int64_param = sequence
    made.parameters["sequence_start"].bool_param = start
    made.parameters["sequence_end"].bool_param = end
    return made


def floats(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def fp32(response: pb.ModelInferResponse, at: int = 0) -> np.ndarray:
    """An output as an array."""
    return np.frombuffer(response.raw_output_contents[at], "<f4").reshape(response.outputs[at].shape)


class Refusal:
    """What a caller sees of an error."""

    def __init__(self, error: grpc.aio.AioRpcError) -> None:
        self.status = error.code()
        self.text = error.details() or ""
        self.reason = ""
        self.request_id = ""
        self.retry_after = 0.0
        for key, value in error.trailing_metadata() or ():
            if key == DETAILS_KEY:
                for detail in status_pb2.Status.FromString(value).details:
                    info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
                    if detail.Unpack(info):
                        assert info.domain == "headrace"
                        self.reason, self.request_id = info.reason, info.metadata["request_id"]
                    if detail.Unpack(retry):
                        self.retry_after = retry.retry_delay.ToNanoseconds() / 1e9


async def refused(call: object) -> Refusal:
    """The error that the call ends with; it must."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call  # type: ignore[misc]  # any gRPC call
    return Refusal(caught.value)
