from __future__ import annotations

import numpy as np
import pytest

from headrace.demo import digits
from headrace.demo.digits import Pictures, Trained


def test_the_held_out_pictures_are_not_trained_on(pictures: tuple[Pictures, Pictures]) -> None:
    seen, held = pictures
    assert held.pixels.shape == (300, 64)
    assert held.pixels.dtype == np.float32
    assert 0.0 == held.pixels.min() < held.pixels.max() == 1.0
    assert len(seen.labels) + len(held.labels) == 1797
    assert not {row.tobytes() for row in seen.pixels} & {row.tobytes() for row in held.pixels}


def test_version_2_is_better_than_version_1_which_is_not_bad(
    pictures: tuple[Pictures, Pictures], modest: Trained, better: Trained
) -> None:
    labels = pictures[1].labels
    first, second = digits.accuracy(modest.predictions, labels), digits.accuracy(better.predictions, labels)
    assert 0.7 < first < second - 0.03
    assert second > 0.95


@pytest.mark.parametrize("name", ["modest", "better"])
def test_the_exported_model_says_what_the_trained_one_says(
    name: str,
    pictures: tuple[Pictures, Pictures],
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trained: Trained = request.getfixturevalue(name)
    monkeypatch.setenv("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    session = onnxruntime.InferenceSession(trained.onnx, providers=["CPUExecutionProvider"])
    assert [(tensor.name, tensor.type) for tensor in session.get_inputs()] == [("image", "tensor(float)")]
    assert [(tensor.name, tensor.type) for tensor in session.get_outputs()] == [
        ("label", "tensor(int64)"),
        ("probabilities", "tensor(float)"),
    ]
    labels, probabilities = session.run(None, {"image": pictures[1].pixels})
    assert probabilities.shape == (300, 10)
    assert np.allclose(probabilities.sum(axis=1), 1, atol=1e-4)
    assert np.array_equal(labels, trained.predictions)


def test_training_again_makes_the_same_model(pictures: tuple[Pictures, Pictures], modest: Trained) -> None:
    assert digits.train_modest(*pictures).onnx == modest.onnx


def test_every_epoch_is_told(pictures: tuple[Pictures, Pictures]) -> None:
    told: list[None] = []
    few = Pictures(pictures[0].pixels[:50], pictures[0].labels[:50])
    digits.train_better(few, pictures[1], lambda: told.append(None))
    assert len(told) == digits.EPOCHS
