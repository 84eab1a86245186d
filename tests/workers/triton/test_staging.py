"""What is staged, and how, without a Triton."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from google.protobuf import text_format

from protos import model_config_pb2 as pb
from tests import triton as tritons
from tests.workers import zoo
from workers.errors import LoadError
from workers.triton.staging import Stage, hosted, staged

HAS = frozenset({"python"})
FULL = frozenset({"python", "onnxruntime"})


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "models"
    folder.mkdir()
    return folder


@pytest.fixture
def stage(repository: Path, tmp_path: Path) -> Stage:
    (tmp_path / "scratch" / "models").mkdir(parents=True)
    return Stage(repository, tmp_path / "scratch" / "models", HAS)


def config_of(folder: Path) -> pb.ModelConfig:
    return text_format.Parse((folder / "config.pbtxt").read_text(), pb.ModelConfig())


def everything(folder: Path) -> dict[str, bytes]:
    return {str(each.relative_to(folder)): each.read_bytes() for each in sorted(folder.rglob("*")) if each.is_file()}


@pytest.mark.parametrize(
    ("config", "backends", "wanted"),
    [
        ("", HAS, "onnxruntime"),
        ('backend: "onnxruntime"', HAS, "onnxruntime"),
        ('platform: "onnxruntime_onnx"', HAS, "onnxruntime"),
        ("", FULL, None),
        ('backend: "onnxruntime"', FULL, None),
    ],
)
def test_a_graph_is_ours_where_the_server_lacks_its_backend(
    repository: Path, config: str, backends: frozenset[str], wanted: str | None
) -> None:
    zoo.add(repository, config=config)
    assert hosted(repository / "add", "add", backends) == wanted


@pytest.mark.parametrize(
    ("code", "wanted"),
    [
        ("class Model: ...", "python"),
        ("class TritonPythonModel: ...", None),
        ("class Model: ...\nclass TritonPythonModel: ...", None),
        ("class (", None),
    ],
)
def test_python_is_ours_where_it_is_written_for_our_worker(repository: Path, code: str, wanted: str | None) -> None:
    zoo.python(repository, "m", code, zoo.ONE_IN_ONE_OUT)
    assert hosted(repository / "m", "m", FULL) == wanted


def test_a_backend_that_is_not_there_is_told(repository: Path) -> None:
    zoo.put(repository, "m", b"", config='backend: "tensorrt"')
    with pytest.raises(LoadError, match=r"model 'm' asks for the backend tensorrt, .* lacks \(it has python\)"):
        hosted(repository / "m", "m", HAS)


def test_what_is_triton_s_own_is_links(repository: Path, stage: Stage) -> None:
    tritons.native(repository, "slow", tritons.NOTED, tritons.PORTS)
    inner = repository / "slow" / "1" / "weights"
    inner.mkdir()
    (inner / "w.bin").write_bytes(b"w")
    (repository / "slow" / "1" / "__pycache__").mkdir()
    assert not list(stage.renew())
    made = stage.folder / "slow"
    assert everything(made) == everything(repository / "slow")
    assert all(each.is_symlink() for each in made.rglob("*") if each.is_file())
    assert not any(each.is_symlink() for each in made.rglob("*") if each.is_dir())  # what is written stays here
    assert not list(made.rglob("__pycache__"))
    (inner / "more.bin").write_bytes(b"m")
    assert not list(stage.renew())
    assert (made / "1" / "weights" / "more.bin").read_bytes() == b"m"


def test_a_graph_without_configuration_gets_a_whole_one(repository: Path, stage: Stage) -> None:
    zoo.add(repository)
    before = everything(repository)
    assert not list(stage.renew())
    made = config_of(stage.folder / "add")
    assert (made.backend, made.platform, made.default_model_filename) == ("python", "", "model.py")
    assert [(port.name, list(port.dims)) for port in (*made.input, *made.output)] == [
        ("a", [2]),
        ("b", [2]),
        ("c", [2]),
    ]
    assert made.max_batch_size == 4
    assert made.HasField("dynamic_batching")
    assert everything(repository) == before


RICH = """
max_batch_size: 8
version_policy { specific { versions: [1, 3] } }
input { name: "a" data_type: TYPE_FP32 dims: 2 }
input { name: "b" data_type: TYPE_FP32 dims: 2 }
output { name: "c" data_type: TYPE_FP32 dims: 2 label_filename: "labels.txt" }
instance_group { count: 2 kind: KIND_CPU rate_limiter { priority: 2 resources { name: "r" count: 1 } } }
dynamic_batching {
  preferred_batch_size: [4]
  priority_levels: 3
  default_priority_level: 2
  default_queue_policy { timeout_action: DELAY max_queue_size: 16 allow_timeout_override: true }
  priority_queue_policy { key: 1 value { max_queue_size: 2 } }
}
model_warmup { name: "w" batch_size: 1 }
parameters { key: "intra_op_thread_count" value { string_value: "1" } }
"""


def test_all_that_a_configuration_says_survives(repository: Path, stage: Stage) -> None:
    for version in (1, 2, 3):
        zoo.add(repository, version=version, config=RICH)
    (repository / "add" / "labels.txt").write_text("ant\nbee\n")
    assert not list(stage.renew())
    made, wanted = config_of(stage.folder / "add"), text_format.Parse(RICH, pb.ModelConfig())
    assert stage.rate_limited()
    assert (stage.folder / "add" / "labels.txt").read_text() == "ant\nbee\n"
    assert sorted(each.name for each in (stage.folder / "add").iterdir() if each.is_dir()) == ["1", "2", "3"]
    wanted.name, wanted.backend, wanted.default_model_filename = "add", "python", "model.py"
    wanted.instance_group[0].name = "add_0"
    assert made == wanted


def test_sequences_survive(repository: Path, stage: Stage) -> None:
    zoo.put(repository, "sum", tritons.summing(), config=tritons.SUMMING)
    assert not list(stage.renew())
    assert config_of(stage.folder / "sum").sequence_batching == (
        text_format.Parse(tritons.SUMMING, pb.ModelConfig()).sequence_batching
    )


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ("max_batch_size: x", "cannot be read"),
        ("optimization { execution_accelerators { } }", "optimization.execution_accelerators"),
        ('parameters { key: "session.x" value { string_value: "1" } }', "parameter session.x"),
        ("version_policy { specific { versions: 9 } }", "version 9, which is not there"),
        ('default_model_filename: "other.onnx" backend: "onnxruntime"', "there is no 1/other.onnx"),
    ],
)
def test_what_would_mean_something_else_is_refused_by_name(
    repository: Path, stage: Stage, config: str, said: str
) -> None:
    zoo.add(repository, config=config)
    with pytest.raises(LoadError, match="add"):
        raise next(stage.renew())
    stage._seen.clear()
    assert [said in str(error) for error in stage.renew()] == [True]


def test_changes_of_the_repository_are_taken_up(repository: Path, stage: Stage) -> None:
    zoo.add(repository)
    zoo.add(repository, "gone")
    assert not list(stage.renew())
    inode = (stage.folder / "add").stat().st_ino
    assert not list(stage.renew())
    assert (stage.folder / "add").stat().st_ino == inode
    zoo.add(repository, version=2, config="version_policy { all {} }")
    zoo.add(repository, "new")
    for file in (repository / "gone").rglob("*"):
        if file.is_file():
            file.unlink()
    (repository / "gone" / "1").rmdir()
    (repository / "gone").rmdir()
    assert not list(stage.renew())
    assert (stage.folder / "add" / "2" / "model.py").is_file()
    assert sorted(each.name for each in stage.folder.iterdir()) == ["add", "new"]
    (repository / "add" / "config.pbtxt").write_text("what")
    assert len(list(stage.renew())) == 1
    assert not list(stage.renew())  # told once
    assert (stage.folder / "add" / "2" / "model.py").is_file()


def test_a_file_that_is_replaced_is_seen(repository: Path, stage: Stage) -> None:
    zoo.add(repository)
    assert not list(stage.renew())
    before = (stage.folder / "add" / "1" / "model.py").stat()
    os.utime(repository / "add" / "1" / "model.onnx", ns=(1, before.st_mtime_ns + 10**9))
    assert not list(stage.renew())
    assert (stage.folder / "add" / "1" / "model.py").stat().st_mtime_ns > before.st_mtime_ns


def test_our_worker_s_python_keeps_its_configuration(repository: Path) -> None:
    zoo.python(repository, "m", tritons.WORKERS, tritons.COUNTED)
    made = staged(repository / "m", "m", "python")
    assert made.model_transaction_policy.decoupled
    assert made.default_model_filename == "model.py"
