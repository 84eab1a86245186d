"""Reads the digit in a picture, by stubs that grpcio-tools makes from the gateway's protos."""

import itertools
import os
import struct
import sys
import time
from pathlib import Path

import grpc
import grpc_service_pb2 as pb
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from grpc_service_pb2_grpc import GRPCInferenceServiceStub
from grpc_status import rpc_status
from PIL import Image

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
    request = pb.ModelInferRequest(model_name=model, raw_input_contents=[pixels(picture)])
    request.inputs.add(name="image", datatype="FP32", shape=[1, 64])
    request.outputs.add(name="label")
    token = [("authorization", f"Bearer {os.environ['HEADRACE_TOKEN']}")]
    end = time.monotonic() + SECONDS
    tls = grpc.ssl_channel_credentials(Path(os.environ["HEADRACE_CA"]).read_bytes())
    with grpc.secure_channel(address, tls) as channel:
        stub = GRPCInferenceServiceStub(channel)
        for attempt in itertools.count(1):
            try:
                answer = stub.ModelInfer(request, timeout=end - time.monotonic(), metadata=token)
                print(*struct.unpack("<q", answer.raw_output_contents[0]))
                return 0
            except grpc.RpcError as refusal:
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


def pixels(path: str) -> bytes:
    """The picture as 8 x 8 greys from 0 to 1: FP32, row by row, little endian."""
    small = Image.open(path).convert("L").resize((8, 8), Image.Resampling.BOX)
    return struct.pack("<64f", *(grey / 255 for grey in small.tobytes()))


def details(refusal: grpc.RpcError) -> tuple[ErrorInfo, RetryInfo]:
    """Why the gateway refuses, and when to come back; empty where it does not say."""
    info, retry, status = ErrorInfo(), RetryInfo(), rpc_status.from_call(refusal)
    for detail in status.details if status else ():
        detail.Unpack(info) or detail.Unpack(retry)
    return info, retry


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
