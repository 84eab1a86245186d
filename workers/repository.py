"""The model repository: a folder, read. Law: a model's name becomes a path here alone, and only once it is checked.

`NAME/config.pbtxt` (may be absent for ONNX models) and `NAME/VERSION/model.onnx` or `NAME/VERSION/model.py`, where
VERSION is a positive integer: Triton's layout.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from protos import model_config_pb2 as pb
from protos.names import MODEL_NAME, VERSION
from workers import config as configuration
from workers.errors import LoadError


@dataclass(frozen=True, slots=True)
class Description:
    """One model as its folder describes it: the configuration as written, and the versions that its policy serves.

    `config` is never changed.
    """

    name: str
    folder: Path
    config: pb.ModelConfig
    versions: tuple[int, ...]


def well_named(name: str) -> bool:
    """Whether a name can be a model's: letters, digits, `_`, and inside also `.` and `-`; so never a way out."""
    return MODEL_NAME.fullmatch(name) is not None


def names(repository: Path) -> tuple[str, ...]:
    """The names of all models in the repository, sorted."""
    return tuple(sorted(entry.name for entry in repository.iterdir() if well_named(entry.name) and entry.is_dir()))


def describe(repository: Path, name: str) -> Description | None:
    """The model of that name, or None where the repository has none. Raises LoadError for one that is wrong."""
    folder = repository / name
    if not well_named(name) or not folder.is_dir():
        return None
    file = folder / "config.pbtxt"
    try:
        text = file.read_text(encoding="utf-8") if file.exists() else ""
    except (OSError, UnicodeDecodeError):
        raise LoadError(f"config.pbtxt of model '{name}' cannot be read as UTF-8 text") from None
    config = configuration.parse(text, name)
    there = {int(entry.name) for entry in folder.iterdir() if VERSION.fullmatch(entry.name) and entry.is_dir()}
    return Description(name, folder, config, choose(config.version_policy, there, name))


def choose(policy: pb.ModelVersionPolicy, there: Collection[int], name: str) -> tuple[int, ...]:
    """The versions to serve of those that are there, ascending; without a policy the latest. Raises LoadError."""
    versions = sorted(there)
    if not versions:
        raise LoadError(f"model '{name}' has no version: put its file into {name}/1/")
    match policy.WhichOneof("policy_choice"):
        case "all":
            return tuple(versions)
        case "specific":
            asked = sorted(set(policy.specific.versions))
            missing = [version for version in asked if version not in versions]
            if missing or not asked:
                what = f"version {missing[0]}, which is not there" if missing else "no version"
                raise LoadError(f"config.pbtxt of model '{name}': version_policy.specific names {what}")
            return tuple(asked)
        case _:
            return tuple(versions[-(policy.latest.num_versions or 1) :])
