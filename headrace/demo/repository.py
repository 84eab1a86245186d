"""Model repositories on disk. Law: the layout is Triton's, so that the same folder works under a full Triton.

`NAME/config.pbtxt` and `NAME/VERSION/model.onnx`
(https://docs.nvidia.com/deeplearning/triton-inference-server/user-guide/docs/user_guide/model_repository.html).
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from headrace.demo.digits import CLASSES, INPUT, LABEL, MODEL, PROBABILITIES, SIDE, Trained

# ONNX's label is [N]: without its batch it has no dimension, which Triton writes as a reshape from [1].
_CONFIG: Final = f"""\
name: "{MODEL}"
backend: "onnxruntime"
max_batch_size: 64
input [ {{ name: "{INPUT}" data_type: TYPE_FP32 dims: [ {SIDE * SIDE} ] }} ]
output [
  {{ name: "{LABEL}" data_type: TYPE_INT64 dims: [ 1 ] reshape: {{ shape: [ ] }} }},
  {{ name: "{PROBABILITIES}" data_type: TYPE_FP32 dims: [ {CLASSES} ] }}
]
dynamic_batching {{ max_queue_delay_microseconds: 500 }}
version_policy {{ all {{ }} }}
parameters {{ key: "intra_op_thread_count" value {{ string_value: "1" }} }}
"""


def write(folder: Path, trained: Trained) -> Path:
    """A repository in `folder` (made) that holds this version alone; the folder."""
    model = folder / MODEL
    version = model / trained.version
    version.mkdir(parents=True)
    (model / "config.pbtxt").write_text(_CONFIG, encoding="utf-8")
    (version / "model.onnx").write_bytes(trained.onnx)
    return folder
