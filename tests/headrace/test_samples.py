from __future__ import annotations

from pathlib import Path

import numpy as np
from google.protobuf import json_format

from headrace import pictures as files
from headrace.demo import samples
from headrace.demo.digits import Pictures
from headrace.tensors import Wanted
from protos.grpc_service_pb2 import ModelInferRequest

IMAGE = Wanted("image", "FP32", (-1, 64))


def test_both_files_of_a_digit_show_the_same_held_out_picture(
    tmp_path: Path, pictures: tuple[Pictures, Pictures]
) -> None:
    samples.write(tmp_path / "samples", pictures[1])
    assert len(list((tmp_path / "samples").iterdir())) == 20
    for digit in range(10):
        body = (tmp_path / "samples" / f"digit-{digit}.json").read_text()
        request = json_format.Parse(body, ModelInferRequest())
        [tensor] = request.inputs
        assert (request.model_name, tensor.name, list(tensor.shape)) == ("digits", "image", [1, 64])
        sent = np.array(tensor.contents.fp32_contents, np.float32)
        seen = files.read(tmp_path / "samples" / f"digit-{digit}.png", IMAGE)
        assert np.abs(sent - seen).max() < 0.003
        [at] = np.flatnonzero((pictures[1].pixels == sent).all(axis=1))
        assert pictures[1].labels[at] == digit
