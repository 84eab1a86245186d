"""A caller, on unmodified tritonclient. Law: it knows of the gateway only what any caller is told.

For the demo there is more: an image classifier is a model with one FP32 input of [N, side * side] and an FP32 output of
[N, classes].
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import grpc
import numpy as np
import numpy.typing as npt
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2
from tritonclient.grpc import InferInput, InferRequestedOutput
from tritonclient.grpc.aio import InferenceServerClient
from tritonclient.utils import InferenceServerException

from headrace.answers import Reply
from headrace.failure import CommandError
from headrace.tensors import Pixels, Tensor, Wanted, of_messages
from headrace.wants import Wants
from protos import grpc_service_pb2 as pb
from protos.boundary import DETAILS_KEY

_Answer = TypeVar("_Answer")
TIMEOUT: Final = 10.0  # seconds a call may take


@dataclass(frozen=True)
class Signature:
    """The names of a classifier's tensors, and its pictures' side in pixels."""

    input: str
    side: int
    probabilities: str


@dataclass(frozen=True)
class Answer:
    """What a version said of N pictures: `probabilities` is float32 [N, classes]."""

    version: str
    probabilities: npt.NDArray[np.float32]

    @property
    def labels(self) -> npt.NDArray[np.int64]:
        """The likeliest class of each picture, int64 [N]."""
        return np.asarray(np.argmax(self.probabilities, axis=1), np.int64)


class Refused(CommandError):  # noqa: N818 - it is the call that was refused
    """A call that got no answer: its status by name, the ErrorInfo's reason (empty where there is none), the text."""

    def __init__(self, status: str, reason: str, text: str) -> None:
        super().__init__(f"{status} {reason}: {text}" if reason else f"{status}: {text}")
        self.status = status
        self.reason = reason
        self.text = text


class Client:
    """Calls the gateway at `address` (HOST:PORT): by TLS where `ca` has certificates to trust, else in plain text.

    Every call raises Refused where it gets no answer within `timeout` seconds.
    """

    def __init__(self, address: str, ca: Path | None = None, timeout: float = TIMEOUT) -> None:
        self._client = InferenceServerClient(address, ssl=ca is not None, root_certificates=ca and str(ca))
        self._timeout = timeout

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.close()

    async def inputs(self, model: str, version: str = "", token: str | None = None) -> Wants:
        """What the model takes, from its metadata."""
        metadata = await self._metadata(model, version, token)
        return Wants(model, tuple(Wanted(one.name, one.datatype, tuple(one.shape)) for one in metadata.inputs))

    async def infer(
        self, model: str, tensors: Sequence[Tensor], *, version: str = "", token: str | None = None
    ) -> Reply:
        """What the model says."""
        inputs = [InferInput(one.name, list(one.array.shape), one.datatype) for one in tensors]
        for made, one in zip(inputs, tensors, strict=True):
            made.set_data_from_numpy(one.array)
        result = await _answered(
            self._client.infer(
                model, inputs, model_version=version, headers=_headers(token), client_timeout=self._timeout
            )
        )
        said = result.get_response()
        try:
            outputs = tuple(of_messages(said.outputs, said.raw_output_contents))
        except ValueError as error:
            raise CommandError(f"the answer cannot be read: {error}") from None
        return Reply(said.model_name, said.model_version, said.id, outputs)

    async def signature(self, model: str, version: str = "", token: str | None = None) -> Signature:
        """The model's tensors, from its metadata. Raises CommandError where the model is no image classifier."""
        metadata = await self._metadata(model, version, token)
        return signature(model, metadata.inputs, metadata.outputs)

    async def _metadata(self, model: str, version: str, token: str | None) -> pb.ModelMetadataResponse:
        found: pb.ModelMetadataResponse = await _answered(
            self._client.get_model_metadata(model, version, headers=_headers(token), client_timeout=self._timeout)
        )
        return found

    async def classify(
        self,
        model: str,
        pictures: Pixels,
        like: Signature,
        *,
        version: str = "",
        token: str | None = None,
        headers: Sequence[tuple[str, str]] = (),
    ) -> Answer:
        """What the model says of the pictures, float32 [N, side * side]."""
        tensor = InferInput(like.input, list(pictures.shape), "FP32")
        tensor.set_data_from_numpy(np.ascontiguousarray(pictures, np.float32))
        result = await _answered(
            self._client.infer(
                model,
                [tensor],
                model_version=version,
                outputs=[InferRequestedOutput(like.probabilities)],
                headers={**_headers(token), **dict(headers)},
                client_timeout=self._timeout,
            )
        )
        probabilities = result.as_numpy(like.probabilities)
        return Answer(result.get_response().model_version, np.asarray(probabilities, np.float32))


def signature(model: str, inputs: Sequence[Any], outputs: Sequence[Any]) -> Signature:
    """The signature in a ModelMetadataResponse's tensors. Raises CommandError."""
    scores = [output for output in outputs if output.datatype == "FP32" and len(output.shape) == 2]
    if len(inputs) == 1 and inputs[0].datatype == "FP32" and len(inputs[0].shape) == 2 and len(scores) == 1:
        side = math.isqrt(max(0, inputs[0].shape[1]))
        if side and side * side == inputs[0].shape[1]:
            return Signature(inputs[0].name, side, scores[0].name)
    raise CommandError(
        f"{model} is no image classifier (one FP32 input [N, side * side], one FP32 output [N, classes]): "
        "call it from your own code"
    )


async def _answered(call: Awaitable[_Answer]) -> _Answer:
    """What the call gives. Raises Refused."""
    try:
        return await call
    except InferenceServerException as error:
        raise _refused(error) from None


def _headers(token: str | None) -> dict[str, str]:
    return {} if token is None else {"authorization": f"Bearer {token}"}


def _refused(error: InferenceServerException) -> Refused:
    # tritonclient leaves out the status's details: they are in the gRPC error that it raised this one for.
    cause = error.__context__
    status = str(error.status()).removeprefix("StatusCode.")
    return Refused(status, _reason(cause) if isinstance(cause, grpc.aio.AioRpcError) else "", str(error.message()))


def _reason(error: grpc.aio.AioRpcError) -> str:
    packed = dict(error.trailing_metadata()).get(DETAILS_KEY, b"")
    try:
        details = status_pb2.Status.FromString(packed).details
    except (DecodeError, TypeError):
        return ""
    for detail in details:
        info = error_details_pb2.ErrorInfo()
        if detail.Unpack(info):
            return str(info.reason)
    return ""
