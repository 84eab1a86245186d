"""Folders, names and version policies."""

from __future__ import annotations

from pathlib import Path

import pytest

from protos import model_config_pb2 as pb
from tests.workers import zoo
from workers import repository as repo
from workers.errors import LoadError


def policy(**choice: object) -> pb.ModelVersionPolicy:
    return pb.ModelVersionPolicy(**choice)


LATEST = pb.ModelVersionPolicy.Latest
SPECIFIC = pb.ModelVersionPolicy.Specific


@pytest.mark.parametrize(
    ("asked", "served"),
    [
        (policy(), (10,)),
        (policy(latest=LATEST()), (10,)),
        (policy(latest=LATEST(num_versions=2)), (9, 10)),
        (policy(latest=LATEST(num_versions=9)), (1, 9, 10)),
        (policy(all=pb.ModelVersionPolicy.All()), (1, 9, 10)),
        (policy(specific=SPECIFIC(versions=[9, 1])), (1, 9)),
    ],
)
def test_the_policy_chooses(asked: pb.ModelVersionPolicy, served: tuple[int, ...]) -> None:
    assert repo.choose(asked, {10, 9, 1}, "m") == served


@pytest.mark.parametrize(
    ("asked", "there", "says"),
    [
        (policy(), set(), "has no version"),
        (policy(specific=SPECIFIC(versions=[1, 7])), {1}, "version 7, which is not there"),
        (policy(specific=SPECIFIC()), {1}, "names no version"),
    ],
)
def test_a_policy_that_cannot_be_kept_is_refused(asked: pb.ModelVersionPolicy, there: set[int], says: str) -> None:
    with pytest.raises(LoadError, match=says):
        repo.choose(asked, there, "m")


@pytest.mark.parametrize("name", ["", ".", "..", "../a", "a/b", "/etc", ".hidden", "a\x00b", "-x", "a" * 200, "a\n"])
def test_a_name_is_no_way_out(tmp_path: Path, name: str) -> None:
    inside = tmp_path / "models"
    inside.mkdir()
    zoo.add(tmp_path, "a")
    assert repo.describe(inside, name) is None


def test_folders_that_are_no_models_or_versions_are_passed_over(repository: Path) -> None:
    zoo.add(repository, "add", version=3)
    for folder in ("add/x", "add/0", "add/-1", "add/007", f"add/{10**18}", ".git"):
        (repository / folder).mkdir()
    (repository / "README").touch()
    assert repo.names(repository) == ("add",)
    described = repo.describe(repository, "add")
    assert described is not None
    assert described.versions == (3,)


def test_a_configuration_that_is_no_text_is_refused(repository: Path) -> None:
    zoo.add(repository)
    (repository / "add" / "config.pbtxt").write_bytes(b"\xff\xfe")
    with pytest.raises(LoadError, match="UTF-8"):
        repo.describe(repository, "add")
