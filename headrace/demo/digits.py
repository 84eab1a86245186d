"""The demo's model: handwritten digits, read by two versions. Law: the same data and seeds, so the same models.

Data: scikit-learn's bundled digits (1,797 pictures of 8 x 8), a share of which no version is trained on. Version 1 is
modest on purpose, so that version 2 has something to improve.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped] # it publishes no types

from headrace.tensors import Pixels

Labels = npt.NDArray[np.int64]

MODEL: Final = "digits"
INPUT: Final = "image"
LABEL: Final = "label"
PROBABILITIES: Final = "probabilities"
SIDE: Final = 8
CLASSES: Final = 10
EPOCHS: Final = 40
_HELD_OUT: Final = 300
_MODEST: Final = 120  # pictures that version 1 is trained on
_OPSET: Final = {"": 18, "ai.onnx.ml": 3}  # older than what ONNX Runtime 1.23 and Triton of 2024 read


@dataclass(frozen=True)
class Pictures:
    """Pictures, float32 [N, 64] from 0 to 1, and the digits they show, int64 [N]."""

    pixels: Pixels
    labels: Labels


@dataclass(frozen=True)
class Trained:
    """One version: `onnx` is the exported model, `predictions` what it says here of the held-out ones, int64 [N]."""

    version: str
    how: str
    onnx: bytes
    predictions: Labels


def pictures() -> tuple[Pictures, Pictures]:
    """The pictures to train on and those held out."""
    data = load_digits()
    pixels, labels = np.asarray(data.data, np.float32) / np.float32(16), np.asarray(data.target, np.int64)
    seen, held, seen_labels, held_labels = train_test_split(
        pixels, labels, test_size=_HELD_OUT, random_state=0, stratify=labels
    )
    return Pictures(seen, seen_labels), Pictures(held, held_labels)


def train_modest(seen: Pictures, held: Pictures) -> Trained:
    """Version 1."""
    classifier = LogisticRegression(max_iter=500)
    with _one_thread():
        classifier.fit(seen.pixels[:_MODEST], seen.labels[:_MODEST])
    return _exported("1", f"linear, {_MODEST} pictures", classifier, held)


def train_better(seen: Pictures, held: Pictures, on_epoch: Callable[[], None]) -> Trained:
    """Version 2; `on_epoch` is called EPOCHS times."""
    classifier = MLPClassifier((96,), learning_rate_init=0.003, random_state=0)
    with _one_thread():
        for _ in range(EPOCHS):
            classifier.partial_fit(seen.pixels, seen.labels, classes=np.arange(CLASSES))
            on_epoch()
    return _exported("2", f"neural, {len(seen.labels):,} pictures", classifier, held)


def _one_thread() -> AbstractContextManager[object]:
    """Matrices this small are slower on many threads, and far slower on a busy machine."""
    limits: AbstractContextManager[object] = threadpool_limits(1)
    return limits


def accuracy(predictions: Labels, labels: Labels) -> float:
    """The share of pictures read right."""
    return float(np.mean(predictions == labels))


def _exported(version: str, how: str, classifier: Any, held: Pictures) -> Trained:  # noqa: ANN401 - untyped scikit-learn
    graph = to_onnx(
        classifier,
        initial_types=[(INPUT, FloatTensorType([None, SIDE * SIDE]))],
        options={id(classifier): {"zipmap": False}},
        target_opset=_OPSET,
    )
    predictions = np.asarray(classifier.predict(held.pixels), np.int64)
    return Trained(version, how, graph.SerializeToString(), predictions)
