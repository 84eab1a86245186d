from __future__ import annotations

import pytest

from headrace.client import Signature, signature
from headrace.failure import CommandError
from protos.grpc_service_pb2 import ModelMetadataResponse

Tensor = ModelMetadataResponse.TensorMetadata
IMAGE = Tensor(name="image", datatype="FP32", shape=[-1, 64])
LABEL = Tensor(name="label", datatype="INT64", shape=[-1, 1])
SCORES = Tensor(name="probabilities", datatype="FP32", shape=[-1, 10])


def test_a_classifier_of_pictures_is_known_by_its_tensors() -> None:
    assert signature("digits", [IMAGE], [LABEL, SCORES]) == Signature("image", 8, "probabilities")


@pytest.mark.parametrize(
    ("inputs", "outputs"),
    [
        ([], [SCORES]),
        ([IMAGE, IMAGE], [SCORES]),
        ([Tensor(name="image", datatype="FP32", shape=[-1, 63])], [SCORES]),
        ([Tensor(name="image", datatype="FP32", shape=[-1, -1])], [SCORES]),
        ([Tensor(name="image", datatype="UINT8", shape=[-1, 64])], [SCORES]),
        ([Tensor(name="image", datatype="FP32", shape=[-1, 8, 8])], [SCORES]),
        ([IMAGE], [LABEL]),
        ([IMAGE], [SCORES, SCORES]),
    ],
)
def test_another_model_is_told(inputs: list[Tensor], outputs: list[Tensor]) -> None:
    with pytest.raises(CommandError, match="is no image classifier"):
        signature("other", inputs, outputs)
