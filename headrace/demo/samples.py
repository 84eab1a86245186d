"""Held-out pictures as files to call with. Law: each says the same to `headrace infer` and to grpcurl.

`digit-N.png` is for people, `digit-N.json` a ModelInferRequest in proto JSON with typed contents.
"""

from __future__ import annotations

from pathlib import Path

from google.protobuf import json_format

from headrace import pictures
from headrace.demo.digits import CLASSES, INPUT, MODEL, Pictures
from protos.grpc_service_pb2 import ModelInferRequest


def write(folder: Path, held: Pictures) -> None:
    """One picture of each digit, in `folder` (made)."""
    folder.mkdir()
    for digit in range(CLASSES):
        pixels = held.pixels[held.labels == digit][0]
        pictures.write(folder / f"digit-{digit}.png", pixels)
        request = ModelInferRequest(model_name=MODEL)
        tensor = request.inputs.add(name=INPUT, datatype="FP32", shape=[1, pixels.size])
        tensor.contents.fp32_contents.extend(pixels.tolist())
        body = json_format.MessageToJson(request, preserving_proto_field_name=True)
        (folder / f"digit-{digit}.json").write_text(body, encoding="utf-8")
