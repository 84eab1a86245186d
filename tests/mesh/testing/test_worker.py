from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from mesh.testing.caller import Asked, Caller
from mesh.testing.worker import Worker
from tests.mesh.local.scene import eventually, listening

OK, UNAVAILABLE, INTERNAL = grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INTERNAL
STREAM = "/inference.GRPCInferenceService/ModelStreamInfer"


@pytest.fixture
def worker() -> Iterator[Worker]:
    with listening() as port:
        pass
    made = Worker("one.models", {"version": "v1"}, "127.0.0.1")
    made.listen([port])
    yield made
    made.stop()


@pytest.fixture
def caller(worker: Worker) -> Iterator[Caller]:
    (port,) = worker._ports
    made = Caller(f"127.0.0.1:{port}", "digits.models:8001", {worker.name: worker}.get)
    yield made
    made.close()


def statuses(caller: Caller, times: int, **asked: str) -> list[grpc.StatusCode]:
    return [call.status for call in caller.calls(Asked(**asked), times, 1).all]


def test_it_answers_every_rpc_and_says_who_it_is(worker: Worker, caller: Caller) -> None:
    for path in ("/any.Service/Method", "/grpc.health.v1.Health/Check", STREAM, "/grpc.health.v1.Health/Watch"):
        call = caller.call(Asked(path))
        assert (call.status, call.worker) == (OK, worker)
    assert [request.path for request in worker.requests][:2] == ["/any.Service/Method", "/grpc.health.v1.Health/Check"]


def test_it_notes_what_reaches_it(worker: Worker, caller: Caller) -> None:
    caller.call(Asked(headers={"x-model-name": "digits"}))
    (request,) = worker.requests
    assert request.path == "/inference.GRPCInferenceService/ModelInfer"
    assert request.headers["x-model-name"] == "digits"


@pytest.mark.parametrize("path", ["/a.B/C", STREAM])
def test_it_answers_as_it_is_told(path: str, worker: Worker, caller: Caller) -> None:
    worker.answers(UNAVAILABLE)
    call = caller.call(Asked(path))
    assert (call.status, call.details, call.worker) == (UNAVAILABLE, "told to answer UNAVAILABLE", worker)
    assert statuses(caller, 3, method=path) == [UNAVAILABLE] * 3
    worker.answers()
    assert statuses(caller, 2, method=path) == [OK] * 2


def test_so_often_and_then_well_again(worker: Worker, caller: Caller) -> None:
    worker.answers(INTERNAL, times=2)
    assert statuses(caller, 4) == [INTERNAL, INTERNAL, OK, OK]


def test_later(worker: Worker, caller: Caller) -> None:
    worker.answers(after=0.2, times=1)
    assert caller.call(Asked()).seconds >= 0.2
    worker.answers(after=30)
    assert caller.call(Asked(timeout=0.1)).status is grpc.StatusCode.DEADLINE_EXCEEDED


def test_stopped_it_is_gone_and_started_it_is_back(worker: Worker, caller: Caller) -> None:
    assert caller.call(Asked()).status is OK
    worker.stop()
    assert caller.call(Asked()).status is UNAVAILABLE
    worker.start()
    worker.start()  # again is no trouble
    eventually(lambda: caller.call(Asked()).status is OK, "that it is back")


def test_stopped_it_lets_no_call_wait(worker: Worker, caller: Caller) -> None:
    worker.answers(after=60)
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(caller.call, Asked(timeout=60))
        eventually(lambda: worker.requests, "that it is called")
        worker.stop()
        assert call.result(20).status is UNAVAILABLE


def test_nothing_of_it_is_left(worker: Worker) -> None:
    before = threading.active_count()
    for _ in range(3):
        worker.stop()
        worker.start()
    worker.stop()
    eventually(lambda: threading.active_count() <= before, "the end of its threads")


def test_a_port_that_is_taken_is_an_error() -> None:
    with listening() as port, pytest.raises(RuntimeError):
        Worker("one.models", {}, "127.0.0.1").listen([port])


def test_calls_go_on_from_before_to_after(worker: Worker, caller: Caller) -> None:
    with caller.calling(Asked(), 2) as calls:
        assert len(calls) >= 2
        inside = len(calls)
        deadline = time.monotonic() + 20
        while len(calls) < inside + 10:
            assert time.monotonic() < deadline
        worker.answers(after=0.2)
        before = len(worker.requests)
        eventually(lambda: len(worker.requests) >= before + 2, "that both callers wait")
        begun = len(worker.requests)
    assert len(worker.requests) >= begun + 2
    assert len(worker.requests) == len(calls)
    calls.assert_ok()


def test_as_many_at_once_as_asked(worker: Worker, caller: Caller) -> None:
    worker.answers(after=0.1)
    began = time.monotonic()
    assert len(caller.calls(Asked(), 16, 16)) == 16
    assert time.monotonic() - began >= 0.1
    assert len({id(call) for call in caller.calls(Asked(), 5, 2).all}) == 5
