"""`headrace triton`, with the real one: how it starts, what it serves, how it ends."""

from __future__ import annotations

import contextlib
import queue
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
import tritonclient.grpc as client
from tritonclient.utils import InferenceServerException

from headrace.cli import run
from tests import triton as tritons
from tests.triton import QUICKLY, Noted, Triton, floats, launched, needs_triton, tensor, until
from tests.workers import zoo

pytestmark = needs_triton


def called(address: str) -> client.InferenceServerClient:
    return client.InferenceServerClient(address)


def doubled(triton: client.InferenceServerClient, model: str, value: float) -> float:
    return float(triton.infer(model, [tensor(client, "x", "FP32", floats(value)[None])]).as_numpy("y")[0, 0])


# ---- what is served ----


@pytest.mark.parametrize(
    ("datatype", "values"),
    [
        ("FP16", np.array([[1, 2]], np.float16)),
        ("BF16", [[1.5, -2]]),
        ("BYTES", np.array([[b"a", b"\xc3\xbc"]], object)),
    ],
)
def test_a_graph_is_run_in_every_datatype(triton: Triton, datatype: str, values: object) -> None:
    with called(triton.address) as each:
        answer = each.infer(datatype.lower(), [tensor(client, "x", datatype, values)]).as_numpy("y")
    assert answer.tolist() == np.asarray(values).tolist()


def test_requests_that_wait_are_run_together(triton: Triton) -> None:
    with called(triton.address) as each:
        before = each.get_inference_statistics("add", as_json=True)["model_stats"][0]
        inputs = [tensor(client, name, "FP32", floats(1, 2, 3)[None]) for name in ("a", "b")]
        answers: list[float] = []
        for _ in range(40):
            each.async_infer("add", inputs, lambda result, error: answers.append(error or result.as_numpy("c")[0, 2]))
        until(lambda: len(answers) == 40)
        after = each.get_inference_statistics("add", as_json=True)["model_stats"][0]
    assert answers == [6.0] * 40
    assert int(after["inference_count"]) - int(before.get("inference_count", 0)) == 40
    assert int(after["execution_count"]) - int(before.get("execution_count", 0)) < 40


def test_no_request_gets_what_is_another_s(triton: Triton) -> None:
    """A model that answers for fewer requests than it was given answers for none."""
    came: queue.Queue[object] = queue.Queue()
    with called(triton.address) as caller:
        for value in (1, 2):
            inputs = [tensor(client, "x", "FP32", floats(value)[None])]
            caller.async_infer("crooked", inputs, lambda result, error: came.put(str(error)))
        assert [came.get(timeout=20) for _ in range(2)] == ["[StatusCode.INTERNAL] model 'crooked' failed"] * 2


def test_versions_and_their_policy_survive(triton: Triton) -> None:
    inputs = [tensor(client, name, "FP32", floats(3, 2)[None]) for name in ("a", "b")]
    with called(triton.address) as each:
        answers = [each.infer("versions", inputs, version).as_numpy("c").tolist() for version in ("1", "2")]
    assert answers == [[[6, 4]], [[0, 0]]]


def test_the_repository_is_as_it_was(triton: Triton) -> None:
    with called(triton.address) as each:
        doubled(each, "slow", 1)
    assert not list(triton.repository.rglob("__pycache__"))


def test_labels_survive(triton: Triton) -> None:
    inputs = [tensor(client, name, "FP32", floats(1, 3, 2)[None]) for name in ("a", "b")]
    wanted = [client.InferRequestedOutput("c", class_count=2)]
    with called(triton.address) as each:
        answer = each.infer("add", inputs, outputs=wanted).as_numpy("c")
    assert answer.tolist() == [[b"6.000000:1:bee", b"4.000000:2:cow"]]


def test_a_sequence_keeps_its_state(triton: Triton) -> None:
    def sum_of(each: client.InferenceServerClient, sequence: int | str, value: float, **flags: bool) -> float:
        given = [tensor(client, "x", "FP32", floats(value)[None])]
        answer = each.infer("sum", given, sequence_id=sequence, **flags)
        return float(answer.as_numpy("y")[0, 0])

    with called(triton.address) as each:
        assert sum_of(each, 1, 1, sequence_start=True) == 1
        assert sum_of(each, "two", 10, sequence_start=True) == 10
        assert sum_of(each, 1, 2) == 3
        assert sum_of(each, "two", 20) == 30
        assert sum_of(each, 1, 3, sequence_end=True) == 6
        assert sum_of(each, 1, 7, sequence_start=True, sequence_end=True) == 7


@pytest.mark.parametrize(("model", "wanted"), [("count", 5), ("workers", 3)])
def test_a_model_answers_as_often_as_it_likes(triton: Triton, model: str, wanted: int) -> None:
    got: list[object] = []
    with called(triton.address) as each:
        each.start_stream(lambda result, error: got.append(error or float(result.as_numpy("y")[0])))
        each.async_stream_infer(model, [tensor(client, "x", "FP32", floats(5))])
        until(lambda: len(got) == wanted)
        each.stop_stream()
    assert got == list(range(wanted))


def test_what_does_not_fit_is_refused_in_the_model_s_words(triton: Triton) -> None:
    with called(triton.address) as each:
        with pytest.raises(InferenceServerException, match="x must not be negative"):
            doubled(each, "slow", -1)
        with pytest.raises(InferenceServerException, match="no UTF-8") as refused:
            each.infer("bytes", [tensor(client, "x", "BYTES", np.array([[b"\xff", b""]], object))])
    assert refused.value.status() == "StatusCode.INVALID_ARGUMENT"


def test_a_staged_model_does_not_run_what_a_departed_caller_asked(triton: Triton) -> None:
    """It has no queue policy: the host looks."""
    noted = triton.noted("gated")

    def begun(each: client.InferenceServerClient, value: float, came: list[object]) -> object:
        given = [tensor(client, "x", "FP32", floats(value))]
        return each.async_infer("gated", given, lambda result, error: came.append(error or result.as_numpy("y")[0]))

    came: list[object] = []
    with called(triton.address) as each, triton.leaving(each) as left:
        with noted.held():
            begun(each, 1, came)
            until(noted.ran)
            gone = begun(each, 2, [])
            until(lambda: triton.waiting("gated") == 1)
            gone.cancel()
            until(left)
        until(lambda: came)
        begun(each, 3, came)
        until(lambda: len(came) == 2)
    assert came == [2.0, 6.0]
    assert noted.ran() == [1, 3]


def test_models_come_and_go_and_changes_are_seen(triton: Triton) -> None:
    with called(triton.address) as each:
        zoo.add(triton.repository, "fresh", dims=("n", 1))

        def loaded() -> bool:
            try:
                each.load_model("fresh")
            except InferenceServerException:
                return False
            return True

        until(loaded)
        assert each.get_model_config("fresh").config.input[0].dims == [1]
        each.unload_model("fresh")
        until(lambda: not each.is_model_ready("fresh"))
        zoo.add(triton.repository, "fresh", dims=("n", 7))

        def renewed() -> bool:
            return loaded() and each.get_model_config("fresh").config.input[0].dims == [7]

        until(renewed)
        each.unload_model("fresh")


def test_a_trace_is_carried_on(triton: Triton) -> None:
    trace, parent = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    with called(triton.address) as each:
        inputs = [tensor(client, name, "FP32", floats(1, 2, 3)[None]) for name in ("a", "b")]
        each.infer("add", inputs)  # nobody's trace
        each.infer("add", inputs, headers={"traceparent": f"00-{trace}-{parent}-01"})
    until(lambda: len([span for span in triton.collector.spans if span["traceId"] == trace]) == 3)
    spans = {span["name"]: span for span in triton.collector.spans if span["traceId"] == trace}
    assert set(spans) == {"InferRequest", "add", "compute"}
    assert spans["InferRequest"]["parentSpanId"] == parent
    assert {"key": "service.name", "value": {"stringValue": "tests-triton"}} in spans["add"]["service"]
    assert {span["traceId"] for span in triton.collector.spans} == {trace}


def test_its_metrics_have_the_names_that_the_guide_has(triton: Triton) -> None:
    guide = (Path(__file__).parents[3] / "docs" / "triton.md").read_text()
    named = set(re.findall(r"\bnv_\w+", guide)) - {"nv_gpu_"}
    there = set(re.findall(r"^# TYPE (\w+) ", triton.page(), re.MULTILINE))
    assert {name for name in named - there if not name.startswith("nv_gpu_")} == set()
    assert len(named - there) in (0, 3)  # those of GPUs


# ---- how it starts and ends ----


def light(repository: Path) -> Path:
    repository.mkdir()
    tritons.native(repository, "slow", tritons.NOTED, tritons.PORTS)
    return repository


@contextlib.contextmanager
def descendants(process: subprocess.Popen[str]) -> Iterator[list[psutil.Process]]:
    """Triton and its stubs; what is left of them in the end is ended."""
    found = psutil.Process(process.pid).children(recursive=True)
    assert len(found) >= 2
    try:
        yield found
    finally:
        for each in found:
            with contextlib.suppress(psutil.NoSuchProcess):
                each.kill()


def alive(processes: list[psutil.Process]) -> bool:
    for each in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            if each.is_running() and each.status() != psutil.STATUS_ZOMBIE:
                return True
    return False


def test_told_to_end_it_lets_calls_finish_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    repository = light(tmp_path / "models")
    noted = Noted(repository / "slow")
    answers: list[object] = []
    with (
        launched(repository, "--", QUICKLY) as started,
        descendants(started.process) as servers,
        called(started.address) as each,
    ):
        process = started.process
        (scratch,) = tmp_path.glob("headrace-triton-*")
        assert list(Path("/dev/shm").glob(f"{scratch.name}-*"))
        given = [tensor(client, "x", "FP32", floats(4)[None])]
        with noted.held():
            each.async_infer("slow", given, lambda result, error: answers.append(error or result.as_numpy("y")[0, 0]))
            until(noted.ran)
            process.send_signal(signal.SIGINT)
            until(lambda: any("draining" in line for line in started.said))
            assert process.poll() is None
        assert process.wait(30) == 0
        assert answers == [8.0]
        assert not alive(servers)
    assert not scratch.exists()
    assert not list(Path("/dev/shm").glob(f"{scratch.name}*"))


def test_killed_it_takes_triton_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with launched(light(tmp_path / "models"), "--", QUICKLY) as started, descendants(started.process) as servers:
        started.process.kill()
        started.process.wait(10)
        until(lambda: not alive(servers))
    (left,) = tmp_path.glob("headrace-triton-*")
    assert not list(Path("/dev/shm").glob(f"{left.name}*"))


def test_when_triton_dies_it_ends_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with launched(light(tmp_path / "models"), "--", QUICKLY) as started, descendants(started.process) as servers:
        (server,) = (each for each in servers if "tritonserver" in each.name())
        server.kill()
        assert started.process.wait(20) == 1
        until(lambda: any("Triton was killed by signal 9" in line for line in started.said))
        until(lambda: not alive(servers))
    assert not list(tmp_path.glob("headrace-triton-*"))


def failing(capfd: pytest.CaptureFixture[str], repository: Path, *options: str) -> str:
    assert run(["triton", "--repository", str(repository), "--listen", "127.0.0.1:0", *options]) == 1
    return capfd.readouterr().err


def test_a_model_that_cannot_be_loaded_keeps_it_from_starting(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    repository = light(tmp_path / "models")
    tritons.native(repository, "broken", "raise ValueError('no weights')", tritons.PORTS)
    said = failing(capfd, repository, "--", QUICKLY)
    assert "headrace: model 'broken' cannot be loaded: " in said
    assert "no weights" in said


def test_a_repository_without_models_is_told(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert f"{tmp_path} has no model: put one into {tmp_path}/NAME/1/" in failing(capfd, tmp_path)


def test_a_model_that_cannot_be_staged_is_told(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    zoo.put(tmp_path, "junk", b"junk")
    assert "headrace: model 'junk' version 1: ONNX Runtime cannot read model.onnx" in failing(capfd, tmp_path)


def test_a_port_that_is_taken_is_told(tmp_path: Path, triton: Triton, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["triton", "--repository", str(tmp_path), "--listen", triton.address]) == 1
    assert f"headrace: cannot listen on {triton.address}: Address already in use" in capfd.readouterr().err
