"""Other people's clients against the gateway: grpcurl, ghz, and stubs generated for Go."""

import asyncio
import json
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
import pytest_asyncio
from google.rpc import error_details_pb2

from tests import readme
from tests.interop.client_world import ClientWorld

pytestmark = [pytest.mark.interop, pytest.mark.timeout(600)]
SERVICE = "inference.GRPCInferenceService"


@pytest_asyncio.fixture
async def door(tmp_path: Path) -> AsyncIterator[readme.Door]:
    async with readme.door(tmp_path) as made:
        yield made


async def run(*command: str | Path, cwd: Path | None = None) -> tuple[int | None, str, str]:
    child = await asyncio.create_subprocess_exec(*command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    out, err = await asyncio.wait_for(child.communicate(), 500)
    return child.returncode, out.decode(), err.decode()


def image(bright: int) -> str:
    """A tensor in which one of the 64 places is bright."""
    contents = {"fp32_contents": [float(place == bright) for place in range(64)]}
    tensor = {"name": "image", "datatype": "FP32", "shape": [1, 64], "contents": contents}
    return json.dumps({"model_name": "digits", "inputs": [tensor]})


async def grpcurl(door: readme.Door, method: str, message: str, *, token: bool = True) -> tuple[int | None, str, str]:
    header = ["-H", f"authorization: Bearer {door.token}"] if token else []
    return await run("grpcurl", "-plaintext", *header, "-d", message, door.address, method)


async def test_grpcurl_by_reflection(door: readme.Door) -> None:
    _, listed, _ = await run("grpcurl", "-plaintext", door.address, "list", SERVICE)
    assert f"{SERVICE}.ModelStreamInfer" in listed.split()
    code, answer, said = await grpcurl(door, f"{SERVICE}/ModelInfer", image(42))
    assert code == 0, said
    assert json.loads(answer)["raw_output_contents"] == ["KgAAAAAAAAA="]  # 42, little endian
    code, answer, said = await grpcurl(door, f"{SERVICE}/ModelMetadata", '{"name": "digits"}')
    assert [tensor["name"] for tensor in json.loads(answer)["inputs"]] == ["image"]


async def test_grpcurl_reads_why_it_was_refused(door: readme.Door) -> None:
    code, _, said = await grpcurl(door, f"{SERVICE}/ModelInfer", image(1), token=False)
    assert code != 0
    assert "Unauthenticated" in said
    assert "TOKEN_MISSING" in said


async def test_ghz_sends_load(door: readme.Door) -> None:
    metadata = json.dumps({"authorization": f"Bearer {door.token}"})
    code, report, said = await run(
        "ghz", "--insecure", "--call", f"{SERVICE}/ModelInfer", "-d", image(3), "-m", metadata,
        "-n", "500", "-c", "8", "-O", "json", door.address,
    )  # fmt: skip
    assert code == 0, said
    assert json.loads(report)["statusCodeDistribution"] == {"OK": 500}


DETAILS = Path(error_details_pb2.__file__).parent.parent.parent  # googleapis-common-protos brings the files, too
FROM_FILES = (
    *("-import-path", str(readme.TOP / "protos"), "-proto", "grpc_service.proto"),
    *("-import-path", str(DETAILS), "-proto", "google/rpc/error_details.proto"),
)


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("described", [(), FROM_FILES], ids=["reflection", "proto"])
async def test_grpcurl_with_tls_and_a_token(world: ClientWorld, described: tuple[str, ...]) -> None:
    sample = (world.samples / "digit-7.json").read_text()
    command, call = ("grpcurl", "-cacert", world.ca, *described), (world.address, f"{SERVICE}/ModelInfer")
    token = f"authorization: Bearer {world.token}"
    code, said, errors = await run(*command, "-H", token, "-d", sample, *call)
    assert code == 0, errors
    answer = json.loads(said)
    names = [output["name"] for output in answer["outputs"]]
    contents = answer.get("raw_output_contents") or answer["rawOutputContents"]  # as reflection, or the file, has it
    assert contents[names.index("label")] == "BwAAAAAAAAA="  # 7, little endian
    code, _, errors = await run(*command, "-d", sample, *call)
    assert code == 64 + grpc.StatusCode.UNAUTHENTICATED.value[0]  # the clients in docs/examples do as grpcurl does
    assert "TOKEN_MISSING" in errors


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("described", [(), ("--proto", str(readme.TOP / "protos" / "grpc_service.proto"))], ids=len)
async def test_ghz_sends_load_with_tls_and_a_token(world: ClientWorld, described: tuple[str, ...]) -> None:
    sample, metadata = world.samples / "digit-7.json", json.dumps({"authorization": f"Bearer {world.token}"})
    code, report, said = await run(
        "ghz", "--cacert", world.ca, *described, "--call", f"{SERVICE}/ModelInfer", "-D", sample, "-m", metadata,
        "-n", "500", "-c", "8", "--connections", "4", "-O", "json", world.address,
    )  # fmt: skip
    assert code == 0, said
    assert json.loads(report)["statusCodeDistribution"] == {"OK": 500}


async def test_stubs_for_go_as_the_readme_makes_them(door: readme.Door, tmp_path: Path) -> None:
    generate = next(block for block in readme.blocks("sh") if "--go_out" in block).splitlines()
    folder = tmp_path / "client"
    (folder / "inference").mkdir(parents=True)
    (folder / "protos").symlink_to(readme.TOP / "protos")
    (folder / "main.go").write_text(readme.blocks("go")[0])
    protoc = f"{sys.executable} -m grpc_tools.protoc"
    script = "\n".join(
        line.replace("protoc -I", f"{protoc} -I") for line in generate if not line.startswith("go install")
    )
    for command in (
        ("bash", "-euc", script),
        ("go", "mod", "init", "example.com/client"),
        ("go", "mod", "tidy"),
        ("go", "build", "-o", "client", "."),
    ):
        code, _, said = await run(*command, cwd=folder)
        assert code == 0, said
    code, answer, said = await run(folder / "client", door.address, door.token)
    assert code == 0, said
    assert answer == "1 0\n"


def test_the_tools_are_at_hand() -> None:
    missing = [
        tool for tool in ("grpcurl", "ghz", "go", "protoc-gen-go", "protoc-gen-go-grpc") if not shutil.which(tool)
    ]
    assert missing == []
