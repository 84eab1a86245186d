"""What README.md shows works as it stands there."""

import asyncio
import re
import subprocess
import sys
from pathlib import Path

from gateway.settings import load
from protos.errors import Reason
from tests import readme


async def run(*command: str | Path, cwd: Path) -> str:
    """What the command prints; it must succeed."""
    child = await asyncio.create_subprocess_exec(*command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    out, err = await asyncio.wait_for(child.communicate(), 60)
    assert child.returncode == 0, err.decode()
    return out.decode()


def test_the_two_commands_are_there_as_promised() -> None:
    made = [block.strip() for block in readme.blocks("sh") if block.startswith("python3 -m venv")]
    assert made == [
        "python3 -m venv .venv && .venv/bin/pip install '.[demo]' && .venv/bin/headrace demo",
        "python3 -m venv .venv && .venv/bin/pip install -e '.[dev]' && .venv/bin/pytest",
    ]


def test_the_configuration_is_one_that_is_accepted(tmp_path: Path) -> None:
    (block,) = readme.blocks("yaml")
    path = tmp_path / "headrace.yaml"
    path.write_text(block)
    settings = load(path, {"HEADRACE_LISTEN__ADDRESS": "0.0.0.0:8080"})
    assert settings.listen.address == "0.0.0.0:8080"
    assert settings.catalog["digits"].weights == (("1", 90), ("2", 10))


def test_the_table_of_refusals_has_every_reason() -> None:
    assert {reason for reason in Reason if f"`{reason}`" not in readme.TEXT} == set()


def test_what_it_links_to_and_names_is_there() -> None:
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", readme.TEXT):
        assert (readme.TOP / target.partition("#")[0]).exists(), target
    for folder in re.findall(r"^\| `([a-z/]+)/` \|", readme.TEXT, re.MULTILINE):
        assert (readme.TOP / folder).is_dir(), folder


async def test_the_example_with_tritonclient(tmp_path: Path) -> None:
    example = next(block for block in readme.blocks("python") if "tritonclient" in block)
    async with readme.door(tmp_path) as door:
        script = f"token = {door.token!r}\n" + example.replace("127.0.0.1:8080", door.address)
        assert await run(sys.executable, "-c", script, cwd=tmp_path) == "[[0]]\n"


async def test_the_example_with_stubs_of_ones_own(tmp_path: Path) -> None:
    generate = next(block for block in readme.blocks("sh") if "grpc_tools.protoc" in block).splitlines()[-1]
    example = next(block for block in readme.blocks("python") if "pb.ModelInferRequest" in block)
    (tmp_path / "protos").symlink_to(readme.TOP / "protos")
    (tmp_path / "models").mkdir()
    await run(sys.executable, *generate.split()[1:], cwd=tmp_path)
    async with readme.door(tmp_path / "models") as door:
        script = f"token = {door.token!r}\n" + example.replace("127.0.0.1:8080", door.address)
        assert await run(sys.executable, "-c", script, cwd=tmp_path) == "1 [0]\n"
