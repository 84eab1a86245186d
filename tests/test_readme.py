"""What README.md shows works as it stands there."""

import asyncio
import contextlib
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

from gateway.settings import load
from protos.errors import Reason
from tests import readme
from tests.gateway.world import unused_address


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


async def test_the_walk_from_the_demo_to_ones_own_models(tmp_path: Path) -> None:
    """As it is pasted, but for the ports."""
    walk = readme.TEXT[readme.TEXT.index("### From the demo") : readme.TEXT.index("### Tokens and trouble")]
    ports = {name: unused_address() for name in ("127.0.0.1:8101", "127.0.0.1:8080")}
    environ = {"HEADRACE_LISTEN__ADDRESS": ports["127.0.0.1:8080"], "HEADRACE_LISTEN__ADMIN": "null"}
    blocks = re.findall(r"^```sh\n(.*?)^```$", walk, re.MULTILINE | re.DOTALL)
    for port, free in ports.items():
        blocks = [block.replace(port, free) for block in blocks]
    model, settings, worker, gateway, call = (
        block.replace(".venv/bin/headrace", f"{sys.executable} -m headrace") for block in blocks
    )
    for each in (model, settings):
        await run("bash", "-ec", each, cwd=tmp_path)
    async with started(worker, tmp_path), started(gateway, tmp_path, environ):
        out = await run("bash", "-ec", call, cwd=tmp_path)
    assert out.startswith("double version 1 (")
    assert out.split()[-4:] == ["[3]", "2,", "4,", "7"]


@contextlib.asynccontextmanager
async def started(line: str, folder: Path, environ: Mapping[str, str] = {}) -> AsyncIterator[None]:
    """A server, from when it says that it is ready."""
    environ = {**os.environ, **environ}
    child = await asyncio.create_subprocess_exec(*line.split(), cwd=folder, stdout=subprocess.PIPE, env=environ)
    assert child.stdout is not None
    try:
        assert b" ready on " in await asyncio.wait_for(child.stdout.readline(), 60)
        yield
    finally:
        child.terminate()
        await asyncio.wait_for(child.communicate(), 60)


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
