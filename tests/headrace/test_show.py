from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest
from rich.console import Console

from headrace.demo import show
from headrace.demo.state import State

ISTIO = Path("/tmp/headrace-demo-x/istio")
STATE = State(
    1,
    "127.0.0.1:50051",
    "127.0.0.1:9090",
    "http://127.0.0.1:3",
    "s3cret",
    "/tmp/headrace-demo-x/samples",
    "http://127.0.0.1:4",
)


def test_a_command_on_the_path_is_called_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "headrace"
    script.touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert show.program_name(str(script)) == "headrace"
    monkeypatch.setenv("PATH", "/nowhere")
    assert show.program_name(str(script)) == str(script)
    assert show.program_name("/somewhere/headrace/__main__.py") == f"{sys.executable} -m headrace"


@pytest.mark.parametrize("width", [40, 80])
def test_commands_stand_on_one_line_each_to_be_copied(width: int) -> None:
    file = io.StringIO()
    show.next_steps(Console(file=file, width=width), STATE, "headrace", ISTIO, stay=True)
    lines = [line for line in file.getvalue().splitlines() if line.startswith("  ")]
    assert lines == [
        "  headrace token",
        "  headrace infer digits /tmp/headrace-demo-x/samples/digit-7.png",
        '  grpcurl -plaintext -H "authorization: Bearer $(headrace token)" -d @ 127.0.0.1:50051 '
        "inference.GRPCInferenceService/ModelInfer < /tmp/headrace-demo-x/samples/digit-7.json",
        "  curl http://127.0.0.1:9090/readyz",
        "  headrace trace",
        "  headrace top",
        "  headrace audit show /tmp/headrace-demo-x/audit.jsonl",
        "  headrace mesh status --dir /tmp/headrace-demo-x/istio --watch",
        "  headrace mesh shift digits 1=0 2=100 --dir /tmp/headrace-demo-x/istio",
        "  headrace mesh explain digits --version 2 --dir /tmp/headrace-demo-x/istio",
    ]
    assert "s3cret" not in file.getvalue()


def test_a_demo_that_ends_does_not_name_what_will_be_gone() -> None:
    file = io.StringIO()
    show.next_steps(Console(file=file, width=80), STATE, "headrace", ISTIO, stay=False)
    assert "headrace demo --stay" in file.getvalue()
    assert "its own SAMPLES, GATEWAY, ADMIN, AUDIT and ISTIO filled in" in file.getvalue()
    assert "127.0.0.1" not in file.getvalue()
    assert "/tmp/" not in file.getvalue()
