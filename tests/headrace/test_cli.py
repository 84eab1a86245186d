from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import typer

from headrace import cli
from headrace.commands import gateway as gateway_command
from headrace.demo import repository
from headrace.demo.digits import Trained
from mesh.local import binary
from mesh.local.failure import MeshError

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _no_demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=60, check=False)


def test_the_version_is_the_projects() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    done = python("-m", "headrace", "--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"headrace {declared}\n", "")


def test_help_lists_the_commands_and_loads_nothing_heavy() -> None:
    code = (
        "import sys; from headrace.cli import run; code = run(['--help']);"
        "heavy = {'grpc', 'sklearn', 'onnxruntime', 'tritonclient', 'numpy', 'PIL', 'opentelemetry', 'aiohttp'};"
        "sys.exit(str(heavy & set(sys.modules)) if heavy & set(sys.modules) else code)"
    )
    done = python("-c", code)
    assert (done.returncode, done.stderr) == (0, "")
    for command in ("demo", "gateway", "worker", "triton", "token", "infer", "config", "doctor"):
        assert f" {command} " in done.stdout


@pytest.mark.parametrize("command", [[], ["demo"], ["triton"], ["infer"], ["config"], ["config", "check"]])
def test_help_shows_no_type_for_a_flag(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run([*command, "--help"]) == 0
    out = capsys.readouterr().out
    assert "--help" in out
    assert "<bool>" not in out


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        (["bogus"], "headrace"),
        (["infer"], "headrace infer"),
        (["token", "--ttl", "5"], "headrace token"),
        (["config", "check"], "headrace config check"),
    ],
)
def test_a_usage_error_names_the_commands_own_help(
    arguments: list[str], command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(arguments) == 2
    assert capsys.readouterr().err.endswith(f" ({command} --help tells more)\n")


def test_no_command_at_all_shows_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run([]) == 0
    assert "Usage: headrace" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["bogus"], "No such command 'bogus'"),
        (["config"], "Missing command"),
        (["token", "--bogus"], "No such option"),
        (["token", "keys"], "Missing argument 'NAME'"),
        (["token", "--ttl", "5"], "'5' needs a unit"),
        (["token", "--ttl", "0s"], "more than nothing"),
        (["token", "--ttl", "25h"], "at most 24h"),
        (["gateway"], "Missing option '--config'"),
        (["gateway", "--config", "/nowhere"], "does not exist"),
        (["worker", "--repository", "/nowhere"], "does not exist"),
        (["worker", "--repository", "/", "--listen", "here"], "'here' is not HOST:PORT"),
        (["worker", "--repository", "/", "--drain", "long"], "'long' needs a unit"),
        (["triton", "--repository", "/nowhere"], "does not exist"),
        (["triton", "--repository", "/", "--metrics", "here"], "'here' is not HOST:PORT"),
        (["triton", "--repository", "/", "--server", "/nowhere"], "does not exist"),
        (["infer"], "Missing argument 'MODEL'"),
        (["infer", "digits"], "give a FILE, or --text"),
        (["infer", "digits", "--text", "x", "--ca", "/nowhere"], "does not exist"),
        (["infer", "digits", "--text", "x", "--deadline", "5"], "'5' needs a unit"),
        (["infer", "digits", "--text", "x", "--token", "a", "--token-file", __file__], "the token itself or its file"),
        (["infer", "digits", __file__, "-o", "xml"], "'xml' is not one of"),
        (["demo", "--twice"], "No such option"),
    ],
)
def test_usage_errors(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert said in err
    assert err.startswith("headrace: ")
    assert err.count("\n") == 1


@pytest.mark.parametrize("arguments", [["token"], ["infer", "digits", __file__]])
def test_without_a_demo_what_needs_one_says_so(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(arguments) == 1
    assert capsys.readouterr().err == "headrace: no demo is running; start one with: headrace demo --stay\n"


CONFIG = """\
issuers:
- {issuer: "https://id.example/", audiences: [headrace], algorithms: [ES256]}
models:
- {name: digits, host: "digits:8001", versions: {"1": {version: v1}}}
upstream: {endpoints: {digits: {"1": "127.0.0.1:8001"}}}
"""


def test_a_good_configuration_is_called_good(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "headrace.yaml"
    file.write_text(CONFIG)
    assert cli.run(["config", "check", str(file)]) == 0
    assert capsys.readouterr() == (f"{file} is good: 1 issuer, 0 grants, 1 model\n", "")


@pytest.mark.parametrize("command", [["config", "check"], ["gateway", "--config"]])
def test_every_mistake_is_told_with_its_line(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "headrace.yaml"
    file.write_text(CONFIG.replace("ES256", "HS256").replace('"digits:8001"', "digits"))
    assert cli.run([*command, str(file)]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert f"{file}:2: " in err
    assert f"{file}:4: " in err
    assert "Traceback" not in err


def test_the_environment_lies_over_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "headrace.yaml"
    file.write_text(CONFIG)
    monkeypatch.setenv("HEADRACE_LISTEN__ADDRESS", "nowhere")
    assert cli.run(["config", "check", str(file)]) == 1
    assert "HEADRACE_LISTEN__ADDRESS" in capsys.readouterr().err


def test_a_worker_without_a_usable_model_says_why(tmp_path: Path) -> None:
    broken = tmp_path / "models" / "broken" / "1"
    broken.mkdir(parents=True)
    (broken / "model.onnx").write_bytes(b"no model")
    done = python("-m", "headrace", "worker", "--repository", str(tmp_path / "models"), "--listen", "127.0.0.1:0")
    assert done.returncode == 1
    assert "headrace: " in done.stderr
    assert "broken" in done.stderr
    assert "Traceback" not in done.stderr
    assert "ready" not in done.stdout


def without(package: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`headrace ARGUMENTS` where the package is not installed."""
    return python(
        "-c", f"import sys; sys.modules[{package!r}] = None; from headrace.cli import main; main()", *arguments
    )


@pytest.mark.parametrize(("package", "named"), [("sklearn", "scikit-learn"), ("skl2onnx", "skl2onnx")])
def test_a_missing_package_is_named_with_its_extra(package: str, named: str) -> None:
    done = without(package, "demo", "--once")
    sentence = f"headrace: demo needs the package {named}: run pip install 'headrace[demo]'\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", sentence)


def test_a_worker_without_onnx_runtime_names_the_extra(tmp_path: Path, modest: Trained) -> None:
    models = repository.write(tmp_path / "models", modest)
    done = without("onnxruntime", "worker", "--repository", str(models), "--listen", "127.0.0.1:0")
    assert (done.returncode, done.stdout) == (1, "")
    assert "pip install 'headrace[worker]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_defect_is_a_sentence_too(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def broken() -> None:
        raise ZeroDivisionError("by nothing")

    app = typer.Typer()
    app.command("broken")(broken)
    app.command("gateway")(gateway_command.gateway)
    monkeypatch.setattr(cli, "app", app)
    assert cli.run(["broken"]) == 1
    assert capsys.readouterr().err == (
        "headrace: this is a defect of headrace, please report it: ZeroDivisionError: by nothing\n"
    )


def test_a_command_cut_short_has_failed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    app = typer.Typer()
    app.command("interrupted")(interrupted)
    app.command("gateway")(gateway_command.gateway)
    monkeypatch.setattr(cli, "app", app)
    assert cli.run(["interrupted"]) == 1
    assert capsys.readouterr().err.strip() == "headrace: stopped"


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, "localhost,127.0.0.1"),
        ({"no_proxy": "corp"}, "corp,localhost,127.0.0.1"),
        ({"no_grpc_proxy": "mine", "no_proxy": "corp"}, "mine,localhost,127.0.0.1"),
    ],
)
def test_a_proxy_is_not_asked_for_this_machine(environ: dict[str, str], expected: str) -> None:
    assert cli.spared(environ) == expected


def test_a_reader_that_leaves_is_no_error() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as pipe:
        done = subprocess.run(
            [sys.executable, "-u", "-m", "headrace", "--version"],
            stdout=pipe,
            stderr=subprocess.PIPE,
            timeout=60,
            check=False,
        )
    assert (done.returncode, done.stderr) == (1, b"")


@pytest.mark.skipif(sys.platform != "linux", reason="Envoy's processes are Linux's")
@pytest.mark.parametrize(
    ("listen", "needs"), [("express: on", "listen.express is on"), ("processes: 2", "listen.processes is above 1")]
)
def test_what_needs_an_envoy_does_not_start_without_one(
    listen: str, needs: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def none(_path: Path | None) -> Path:
        raise MeshError("there is no Envoy")

    monkeypatch.setattr(binary, "find", none)
    file = tmp_path / "headrace.yaml"
    file.write_text(f"{CONFIG}listen: {{{listen}}}\n")
    assert cli.run(["gateway", "--config", str(file)]) == 1
    assert needs in capsys.readouterr().err
