"""`headrace infer`: files of every kind to a real worker through a real gateway, and its answers."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from PIL import Image

from gateway.server import serving
from gateway.settings import load
from mesh.testing.thread import beside
from tests.gateway.certificates import Authority
from tests.gateway.tokens import Issuer
from tests.gateway.world import in_front_of, unused_address
from tests.headrace.called import Done, headrace
from tests.workers import zoo
from workers.server import Options
from workers.server import serving as worker_serving

NUMPY = {
    "BOOL": np.bool_,
    **{f"{kind}{bits}": np.dtype(f"{kind.lower()}{bits}") for kind in ("INT", "UINT") for bits in (8, 16, 32, 64)},
    "FP16": np.float16,
    "FP32": np.float32,
    "FP64": np.float64,
    "BF16": ml_dtypes.bfloat16,
}
WHITE = 255


@dataclass(frozen=True)
class Door:
    """A gateway by plain text and one by TLS, whom both trust, and callers of both."""

    plain: str
    secure: str
    folder: Path
    issuer: Issuer

    def infer(self, *arguments: str | Path, folder: Path | None = None, **environ: str) -> Done:
        token = ["--token", self.issuer.token()]
        return headrace("infer", *map(str, arguments), "--address", self.plain, *token, folder=folder, environ=environ)

    def told(self, *arguments: str | Path) -> list[dict[str, Any]]:
        """The outputs."""
        done = self.infer(*arguments, "-o", "json")
        assert (done.returncode, done.stderr) == (0, "")
        outputs: list[dict[str, Any]] = json.loads(done.stdout)["outputs"]
        return outputs

    def mistake(self, *arguments: str | Path) -> str:
        """What is said, in one line."""
        done = self.infer(*arguments)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith("headrace: ")
        assert done.stderr.count("\n") == 1
        return done.stderr.removeprefix("headrace: ").strip()


def repository(folder: Path) -> list[str]:
    names = [zoo.identity(folder, datatype) for datatype in NUMPY]
    zoo.add(folder)
    zoo.put(folder, "text", zoo.graph("Identity", {"said": ("n", 1)}, {"heard": ("n", 1)}, "BYTES"))
    zoo.put(folder, "digits", zoo.graph("Softmax", {"image": ("n", 64)}, {"scores": ("n", 64)}))
    zoo.put(folder, "colours", zoo.graph("Identity", {"image": ("n", 3, 2, 4)}, {"seen": ("n", 3, 2, 4)}))
    zoo.put(folder, "bytes", zoo.graph("Identity", {"image": ("n", 2, 4, 1)}, {"seen": ("n", 2, 4, 1)}, "UINT8"))
    return [*names, "add", "text", "digits", "colours", "bytes"]


@contextlib.asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[Door]:
    names, issuer, authority = repository(folder / "models"), Issuer(), Authority()
    (folder / "ca.pem").write_bytes(authority.pem)
    for name, pem in zip(("server.pem", "server.key"), authority.issue("127.0.0.1"), strict=True):
        (folder / name).write_bytes(pem)
    listen = {"address": "127.0.0.1:0", "admin": None, "notice": "1ms"}
    tls = {"tls": {"certificate": "server.pem", "key": "server.key"}}
    async with contextlib.AsyncExitStack() as stack:
        worker = await stack.enter_async_context(worker_serving(Options(folder / "models", "127.0.0.1:0")))
        addresses = [
            await stack.enter_async_context(
                serving(load(in_front_of(worker, folder, issuer, *names, listen=listen | more), {}))
            )
            for more in ({}, tls)
        ]
        yield Door(addresses[0].grpc, addresses[1].grpc, folder, issuer)


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    with beside(opened(tmp_path_factory.mktemp("infer"))) as lived:
        yield lived.value


def values(datatype: str) -> list[list[Any]]:
    return [[True, False], [False, True]] if datatype == "BOOL" else [[1, 2], [3, 100]]


# ---- what is sent ----


@pytest.mark.parametrize("datatype", NUMPY)
def test_an_array_of_every_datatype_goes_there_and_back(door: Door, datatype: str, tmp_path: Path) -> None:
    array = np.array(values(datatype)).astype(NUMPY[datatype])
    np.save(tmp_path / "x.npy", array)
    (output,) = door.told(datatype.lower(), tmp_path / "x.npy", "--save", tmp_path / "y.npy")
    assert output == {
        "name": "y",
        "datatype": datatype,
        "shape": [2, 2],
        "data": np.array(values(datatype)).ravel().tolist(),
    }
    assert (tmp_path / "y.npy").read_bytes() == (tmp_path / "x.npy").read_bytes()


@pytest.mark.parametrize("datatype", NUMPY)
def test_so_do_nested_lists(door: Door, datatype: str, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(json.dumps(values(datatype)))
    (output,) = door.told(datatype.lower(), tmp_path / "x.json")
    assert output["data"] == np.array(values(datatype)).ravel().tolist()


AB = {"a": [[1.5, 2]], "b": [[1, 1]]}
BY_REST = {
    "id": "7",
    "inputs": [
        {"name": "a", "datatype": "FP32", "shape": [1, 2], "data": [1.5, 2]},
        {"name": "b", "datatype": "FP32", "shape": [1, 2], "data": [[1, 1]]},
    ],
}
AS_GRPCURL = {
    "model_name": "add",
    "inputs": [
        {"name": "a", "datatype": "FP32", "shape": ["1", "2"], "contents": {"fp32_contents": [1.5, 2]}},
        {"name": "b", "datatype": "FP32", "shape": ["1", "2"], "contents": {"fp32Contents": [1, 1]}},
    ],
}


@pytest.mark.parametrize("said", [AB, BY_REST, AS_GRPCURL], ids=["by name", "as over REST", "as grpcurl"])
def test_json_may_name_the_inputs(
    door: Door, said: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "request.json").write_text(json.dumps(said))
    summed = {"name": "c", "datatype": "FP32", "shape": [1, 2], "data": [2.5, 3.0]}
    assert door.told("add", tmp_path / "request.json") == [summed]
    monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps(said)))
    assert door.told("add", "-") == [summed]


def test_files_are_for_the_inputs_that_are_named_or_left(door: Door, tmp_path: Path) -> None:
    np.save(tmp_path / "one.npy", np.array([1, 2], np.float32))  # a batch of one is made of it
    (tmp_path / "two.json").write_text("[[10, 20]]")
    np.savez(tmp_path / "both.npz", a=np.ones((1, 2), np.float32), b=np.ones((1, 2), np.float32))
    for files in (("a=one.npy", "b=two.json"), ("two.json", "b=one.npy")):
        (output,) = door.told(
            "add", *(file.replace("=", f"={tmp_path}/") if "=" in file else tmp_path / file for file in files)
        )
        assert output["data"] == [11, 22]
    assert door.told("add", tmp_path / "both.npz")[0]["data"] == [2, 2]


def test_a_text_is_one_element(door: Door, tmp_path: Path) -> None:
    (tmp_path / "said.txt").write_text("good day ü\n")
    heard = {"name": "heard", "datatype": "BYTES", "shape": [1, 1]}
    assert door.told("text", "--text", "a=b") == [heard | {"data": ["a=b"]}]
    assert door.told("text", tmp_path / "said.txt") == [heard | {"data": ["good day ü\n"]}]
    (tmp_path / "said.json").write_text('[["one"], ["two"]]')
    assert door.told("text", tmp_path / "said.json", "--save", tmp_path / "heard.npz")[0]["data"] == ["one", "two"]
    assert np.load(tmp_path / "heard.npz")["heard"].tolist() == [[b"one"], [b"two"]]
    np.save(tmp_path / "said.npy", np.array([["three"]]))
    assert door.told("text", tmp_path / "said.npy")[0]["data"] == ["three"]


def test_pictures_are_seen_as_the_model_sees_them(door: Door, tmp_path: Path) -> None:
    picture = Image.new("RGB", (4, 2), (WHITE, 0, 0))
    picture.putpixel((3, 1), (0, WHITE, 0))
    picture.save(tmp_path / "red.png")
    red, green, blue = np.reshape(door.told("colours", tmp_path / "red.png")[0]["data"], (3, 2, 4))
    assert (red.tolist(), green.tolist()) == ([[1, 1, 1, 1], [1, 1, 1, 0]], [[0, 0, 0, 0], [0, 0, 0, 1]])
    assert not blue.any()
    Image.new("L", (40, 20), WHITE).save(tmp_path / "white.jpg")
    assert door.told("bytes", tmp_path / "white.jpg")[0]["data"] == [WHITE] * 8


# ---- what is shown ----


def test_people_see_a_table(door: Door, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(json.dumps([[number / 3, 0.5] for number in range(4)]))
    done = door.infer("fp32", tmp_path / "x.json")
    assert done.stderr == ""
    who, head, row = done.stdout.splitlines()
    assert who.startswith("fp32 version 1 (")
    assert head.split() == ["output", "datatype", "shape", "values"]
    assert " ".join(row.split()) == "y FP32 [4, 2] 0, 0.5, 0.3333, 0.5, 0.6667, 0.5, 1 ..."


def test_of_a_classifier_they_see_the_likeliest(door: Door, tmp_path: Path) -> None:
    np.save(tmp_path / "image.npy", np.eye(64, dtype=np.float32)[7] * 9)
    who, _, row, *bars = door.infer("digits", tmp_path / "image.npy").stdout.splitlines()
    assert who.startswith("7, says digits version 1 (")
    assert row.startswith("scores  FP32")
    assert bars[0].split()[0] == "7"
    assert len(bars) == 5


def test_what_a_worker_says_moves_no_cursor(door: Door) -> None:
    done = door.infer("text", "--text", "\x1b[2Jgone")
    assert "\x1b" not in done.stdout


def test_numbers_that_are_none_are_null_in_json(door: Door, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.array([[np.nan, np.inf]], np.float32))
    assert door.told("fp32", tmp_path / "x.npy")[0]["data"] == [None, None]


# ---- how it is called ----


def test_by_tls_with_a_token_from_a_file(door: Door, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(door.issuer.token() + "\n")
    by_tls = ("infer", "text", "--text", "x", "--address", door.secure, "--token-file", str(tmp_path / "token"))
    assert headrace(*by_tls, "--ca", str(door.folder / "ca.pem")).returncode == 0
    done = headrace(*by_tls, "--deadline", "2s")
    assert done.returncode == 1
    assert "whether it takes TLS (--ca)" in done.stderr


def test_a_version_may_be_named(door: Door) -> None:
    assert door.infer("text", "--text", "x", "--version", "stable").returncode == 0
    assert "NOT_FOUND VERSION_UNKNOWN" in door.mistake("text", "--text", "x", "--version", "9")


# ---- mistakes ----


def test_what_fits_no_input_is_told_with_what_would(door: Door, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((1, 2)))
    np.save(tmp_path / "long.npy", np.zeros((1, 3), np.float32))
    np.save(tmp_path / "o.npy", np.array([{}], np.object_), allow_pickle=True)
    here = tmp_path / "x.npy"
    assert (
        door.mistake("fp32", here) == f"{here} holds float64, but x (FP32 [-1, 2]) takes numpy's float32: use .astype()"
    )
    long = tmp_path / "long.npy"
    assert door.mistake("fp32", long) == f"{long} has the shape [1, 3], which does not fit x (FP32 [-1, 2])"
    assert "without pickle" in door.mistake("fp32", tmp_path / "o.npy")
    assert door.mistake("add", here).endswith("add takes a (FP32 [-1, 2]), b (FP32 [-1, 2]): write NAME=FILE")
    assert door.mistake("fp32", f"y={here}") == f"y={here}: fp32 has no input y; it takes x (FP32 [-1, 2])"
    assert door.mistake("fp32", "--text", "x").startswith("for which input is the text?")
    assert door.mistake("fp32", "nowhere.json") == "nowhere.json cannot be read: No such file or directory"
    assert (
        "given twice" in door.mistake("add", f"a={long}".replace("long", "good"), f"a={long}") if _good(tmp_path) else 0
    )


def _good(folder: Path) -> bool:
    np.save(folder / "good.npy", np.zeros((1, 2), np.float32))
    np.save(folder / "long.npy", np.zeros((1, 2), np.float32))
    return True


@pytest.mark.parametrize(
    ("model", "text", "said"),
    [
        ("int8", "[[1, 128]]", "x.json holds numbers that are not from -128 to 127, for x (INT8 [-1, 2])"),
        ("int8", "[[1, 1.5]]", "x.json holds numbers with fractions, which is nothing for x (INT8 [-1, 2])"),
        ("int8", "[[1, true]]", "x.json holds true or false, which is nothing for x (INT8 [-1, 2])"),
        ("bool", "[[1, 0]]", "x.json holds numbers, which is nothing for x (BOOL [-1, 2])"),
        ("fp32", '[["a", null]]', "x.json holds null, texts, which is nothing for x (FP32 [-1, 2])"),
        ("fp16", "[[1, 1e9]]", "x.json holds numbers that are too large for x (FP16 [-1, 2])"),
        (
            "fp32",
            "[[1, 2], [3]]",
            "x.json: lists that are beside each other must be of one length, for x (FP32 [-1, 2])",
        ),
        ("text", "[[1]]", "x.json holds numbers, which is nothing for said (BYTES [-1, 1])"),
        ("fp32", "[[1,", "x.json is no JSON: Expecting value: line 1 column 5 (char 4)"),
        ("fp32", '{"z": [[1, 2]]}', "x.json: fp32 has no input z; it takes x (FP32 [-1, 2])"),
        (
            "fp32",
            '{"inputs": [{"name": "x", "datatype": "FP64", "shape": [1, 2], "data": [1, 2]}]}',
            "x in x.json is FP64, but the model takes x (FP32 [-1, 2])",
        ),
        (
            "fp32",
            '{"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1]}]}',
            "x in x.json has 1 elements, which do not fill its shape [1, 2]",
        ),
        ("fp32", '{"inputs": [{"name": "x", "shap": 1}]}', "x.json is no request: "),
    ],
)
def test_json_that_does_not_fit(door: Door, model: str, text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(text)
    with contextlib.chdir(tmp_path):
        assert door.mistake(model, "x.json").startswith(said)


def test_who_is_not_let_in_is_told_what_to_do(door: Door) -> None:
    done = headrace("infer", "text", "--text", "x", "--address", door.plain)
    assert done.returncode == 1
    assert "UNAUTHENTICATED TOKEN_MISSING" in done.stderr
    assert done.stderr.endswith("; give a good token with --token or --token-file\n")
    nobody = headrace("infer", "text", "--text", "x", "--address", unused_address())
    assert "check that it runs" in nobody.stderr
