"""A caller by gRPC's own xDS client, as a process of its own: gRPC reads its bootstrap once.

Standard input holds a line of JSON for each round: a list of [HOST:PORT, headers, seconds] to call at once. Standard
output gets a line with what each was answered: [status, text, milliseconds].
"""

from __future__ import annotations

import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import grpc
from grpc.experimental import insecure_channel_credentials

METHOD = "/inference.GRPCInferenceService/ModelInfer"


@cache
def channel(host: str) -> grpc.Channel:
    credentials = grpc.xds_channel_credentials(insecure_channel_credentials())
    return grpc.secure_channel(f"xds:///{host}", credentials, options=[("grpc.default_authority", host)])


def call(one: tuple[str, dict[str, str], float]) -> tuple[str, str, float]:
    host, headers, seconds = one
    pairs = [(name, value.encode() if name.endswith("-bin") else value) for name, value in headers.items()]
    began = time.monotonic()
    try:
        said: bytes = channel(host).unary_unary(METHOD)(b"", metadata=pairs, timeout=seconds)
        status, text = "OK", said.decode()
    except grpc.RpcError as error:
        status, text = error.code().name, error.details() or ""
    return status, text, (time.monotonic() - began) * 1000


def main() -> None:
    with ThreadPoolExecutor(64) as threads:
        for line in sys.stdin:
            print(json.dumps(list(threads.map(call, json.loads(line)))), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
