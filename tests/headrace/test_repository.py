from __future__ import annotations

from pathlib import Path

from google.protobuf import text_format

from headrace.demo import repository
from headrace.demo.digits import Trained
from protos.model_config_pb2 import DataType, ModelConfig


def test_the_folder_is_laid_out_as_tritons(tmp_path: Path, modest: Trained) -> None:
    folder = repository.write(tmp_path / "models", modest)
    assert (folder / "digits" / "1" / "model.onnx").read_bytes() == modest.onnx
    assert sorted(path.name for path in (folder / "digits").iterdir()) == ["1", "config.pbtxt"]


def test_the_configuration_is_a_model_config_that_batches(tmp_path: Path, modest: Trained) -> None:
    folder = repository.write(tmp_path / "models", modest)
    config = text_format.Parse((folder / "digits" / "config.pbtxt").read_text(), ModelConfig())
    assert config.name == "digits"
    assert config.max_batch_size > 1
    assert config.HasField("dynamic_batching")
    assert [(t.name, t.data_type, list(t.dims)) for t in config.input] == [("image", DataType.TYPE_FP32, [64])]
    assert [t.name for t in config.output] == ["label", "probabilities"]
