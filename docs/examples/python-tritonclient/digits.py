"""Reads the digit in a picture, by tritonclient."""

import itertools
import os
import sys
import time

import grpc
import numpy as np
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from grpc_status import rpc_status
from PIL import Image
from tritonclient.grpc import InferenceServerClient, InferInput, InferRequestedOutput
from tritonclient.utils import InferenceServerException

TRIES, SECONDS = 3, 10.0  # at most, and for all of them together
ADVICE = {
    grpc.StatusCode.UNAUTHENTICATED: "get a new token",
    grpc.StatusCode.PERMISSION_DENIED: "ask for a grant, or check the model's name",
    grpc.StatusCode.NOT_FOUND: "check the model's name",
    grpc.StatusCode.INVALID_ARGUMENT: "send what the model's metadata asks for",
    grpc.StatusCode.RESOURCE_EXHAUSTED: "send less, or come back later",
    grpc.StatusCode.UNAVAILABLE: "come back later",
    grpc.StatusCode.DEADLINE_EXCEEDED: "allow it more time",
    grpc.StatusCode.INTERNAL: "report the id of the request",
}


def main(address: str, model: str, picture: str) -> int:
    image, label = InferInput("image", [1, 64], "FP32"), InferRequestedOutput("label")
    image.set_data_from_numpy(pixels(picture))
    token = {"authorization": f"Bearer {os.environ['HEADRACE_TOKEN']}"}
    end = time.monotonic() + SECONDS
    with InferenceServerClient(address, ssl=True, root_certificates=os.environ["HEADRACE_CA"]) as client:
        for attempt in itertools.count(1):
            left = end - time.monotonic()
            try:
                answer = client.infer(model, [image], outputs=[label], headers=token, client_timeout=left)
                print(*answer.as_numpy("label").flat)
                return 0
            except InferenceServerException as error:
                refusal = error.__context__  # the gRPC error: tritonclient leaves its details out
                info, retry = details(refusal)
                code, request_id = refusal.code(), info.metadata["request_id"]
                advice = ADVICE.get(code, "not foreseen")
                print(
                    f"{code.name} {info.reason}: {refusal.details()}; {advice} (request_id={request_id})",
                    file=sys.stderr,
                )
                if attempt == TRIES or not retry.HasField("retry_delay"):
                    return 64 + code.value[0]  # as grpcurl does
                time.sleep(retry.retry_delay.ToTimedelta().total_seconds() * 2 ** (attempt - 1))


def pixels(path: str) -> np.ndarray:
    """The picture as 8 x 8 greys from 0 to 1: float32 [1, 64], row by row."""
    small = Image.open(path).convert("L").resize((8, 8), Image.Resampling.BOX)
    return np.asarray(small, np.float32).reshape(1, 64) / 255


def details(refusal: grpc.RpcError) -> tuple[ErrorInfo, RetryInfo]:
    """Why the gateway refuses, and when to come back; empty where it does not say."""
    info, retry, status = ErrorInfo(), RetryInfo(), rpc_status.from_call(refusal)
    for detail in status.details if status else ():
        detail.Unpack(info) or detail.Unpack(retry)
    return info, retry


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
