"""Every call has its span, in the caller's trace."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path

import grpc
import numpy as np
import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from protos import grpc_service_pb2 as pb
from protos import tracing
from protos.spans import Spans
from tests.kept import Kept
from tests.lines import kept
from tests.workers import zoo
from tests.workers.calling import refused, request
from tests.workers.conftest import until
from workers.spans import CallSpan

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
CONTEXT = ("traceparent", f"00-{TRACE}-{PARENT}-01")
ONES = {"a": np.ones((2, 2)), "b": np.ones((2, 2))}


async def ended(spans: InMemorySpanExporter) -> ReadableSpan:
    """The call's; that of its execution is told just before."""
    await until(lambda: of_calls(spans))
    (span,) = of_calls(spans)
    spans.clear()
    return span


def of_calls(spans: InMemorySpanExporter) -> list[ReadableSpan]:
    return [span for span in spans.get_finished_spans() if span.kind is SpanKind.SERVER]


def of_executions(spans: InMemorySpanExporter) -> list[ReadableSpan]:
    return [span for span in spans.get_finished_spans() if span.kind is SpanKind.INTERNAL]


async def test_a_call_is_a_server_span_under_the_callers(repository: Path, start, spans: InMemorySpanExporter) -> None:
    zoo.add(repository)
    world = await start()
    metadata = (CONTEXT, (tracing.REQUEST_ID_KEY, "of-the-gateway"))
    await world.stub.ModelInfer(request("add", "1", id="of-the-caller", **ONES), metadata=metadata)
    span = await ended(spans)
    assert (span.name, span.kind) == ("inference.GRPCInferenceService/ModelInfer", SpanKind.SERVER)
    assert f"{span.context.trace_id:032x}" == TRACE
    assert f"{span.parent.span_id:016x}" == PARENT
    queued = span.attributes[tracing.QUEUE_TIME]
    computed = span.attributes[tracing.COMPUTE_TIME]
    assert 0 <= queued < 5
    assert 0 < computed < 5
    assert dict(span.attributes) == {
        tracing.RPC_SYSTEM: "grpc",
        tracing.RPC_METHOD: "inference.GRPCInferenceService/ModelInfer",
        tracing.RPC_STATUS: "OK",
        tracing.MODEL: "add",
        tracing.VERSION_ASKED: "1",
        tracing.VERSION_SERVED: "1",
        tracing.REQUEST_ID: "of-the-gateway",
        tracing.BATCH_SIZE: 2,
        tracing.QUEUE_TIME: queued,
        tracing.COMPUTE_TIME: computed,
    }


async def test_without_a_context_a_trace_begins_here(repository: Path, start, spans: InMemorySpanExporter) -> None:
    zoo.add(repository)
    world = await start()
    await world.stub.ModelInfer(request("add", id="of-the-caller", **ONES))
    span = await ended(spans)
    assert span.parent is None
    assert span.attributes[tracing.REQUEST_ID] == "of-the-caller"


async def test_a_refusal_is_on_its_span(repository: Path, start, spans: InMemorySpanExporter) -> None:
    zoo.add(repository)
    world = await start()
    await refused(world.stub.ModelInfer(request("nope"), metadata=(CONTEXT,)))
    span = await ended(spans)
    assert span.status.status_code is StatusCode.ERROR
    assert span.attributes[tracing.RPC_STATUS] == span.attributes[tracing.ERROR_TYPE] == "NOT_FOUND"
    assert span.attributes[tracing.REASON] == "MODEL_UNKNOWN"


async def test_a_call_that_is_given_up_has_a_span_too(repository: Path, start, spans: InMemorySpanExporter) -> None:
    gate = zoo.gated(repository)
    world = await start()
    gate.shut()
    call = world.stub.ModelInfer(request("gated", x=np.ones(1, np.float32)))
    await until(gate.ran)
    call.cancel()
    assert (await ended(spans)).attributes[tracing.RPC_STATUS] == "CANCELLED"
    gate.open()


BATCHED = zoo.ONE_IN_ONE_OUT + "max_batch_size: 4 dynamic_batching { max_queue_delay_microseconds: 200000 }"


async def test_an_execution_is_linked_with_every_call_in_it(
    repository: Path, start, spans: InMemorySpanExporter
) -> None:
    zoo.gated(repository, BATCHED, "batched")
    world = await start()
    contexts = [f"00-{digit * 32}-{digit * 16}-0{int(digit != '3')}" for digit in "1234"]
    calls = [
        world.stub.ModelInfer(request("batched", x=np.ones((1, 1), np.float32)), metadata=(("traceparent", context),))
        for context in contexts
    ]
    await asyncio.gather(*calls)
    await until(lambda: len(of_calls(spans)) == 3)  # that which is not sampled has none
    (ran,), called = of_executions(spans), of_calls(spans)
    assert ran.name == "execute batched"
    assert (ran.attributes[tracing.BATCH_SIZE], ran.attributes[tracing.BATCH_CALLS]) == (4, 4)
    assert ran.attributes[tracing.PROVIDER] == "python"
    assert ran.parent.span_id in {span.context.span_id for span in called}
    assert {f"{link.context.trace_id:032x}" for link in ran.links} == {digit * 32 for digit in "1234"}
    assert {span.context.span_id for span in called} < {link.context.span_id for link in ran.links}
    assert {link.context.span_id for span in called for link in span.links} == {ran.context.span_id}
    assert ran.end_time > ran.start_time


@pytest.mark.parametrize(("model", "kept"), [("add", 0), ("nope", 1)])
async def test_of_calls_that_are_not_sampled_those_that_fail_are_kept(
    repository: Path, start, spans: InMemorySpanExporter, model: str, kept: int
) -> None:
    zoo.add(repository)
    world = await start()
    unsampled = (("traceparent", f"00-{TRACE}-{PARENT}-00"),)
    with suppress(grpc.aio.AioRpcError):
        await world.stub.ModelInfer(request(model, **ONES), metadata=unsampled)
    await world.stub.ServerLive(pb.ServerLiveRequest())  # sampled, for nobody says otherwise, and ends later
    await until(lambda: any(span.name.endswith("ServerLive") for span in of_calls(spans)))
    found = [span for span in of_calls(spans) if f"{span.context.trace_id:032x}" == TRACE]
    assert [f"{span.parent.span_id:016x}" for span in found] == [PARENT] * kept


async def test_a_slow_call_is_kept_with_its_execution(repository: Path, start, spans: InMemorySpanExporter) -> None:
    gate = zoo.gated(repository)
    world = await start(slow=0.01)
    gate.shut()
    call = asyncio.ensure_future(
        world.stub.ModelInfer(
            request("gated", x=np.ones(1, np.float32)), metadata=(("traceparent", f"00-{TRACE}-{PARENT}-00"),)
        )
    )
    await until(gate.ran)
    await asyncio.sleep(0.02)
    gate.open()
    await call
    await until(lambda: of_calls(spans))
    (ran,), (span,) = of_executions(spans), of_calls(spans)
    assert ran.parent.span_id == span.context.span_id


@pytest.mark.parametrize(
    ("metadata", "attempt", "copy"),
    [
        ([], None, None),
        ([("grpc-previous-rpc-attempts", "2")], 3, None),
        ([("x-envoy-attempt-count", "1")], None, None),
        ([("x-envoy-attempt-count", "2")], 2, None),
        ([("x-envoy-attempt-count", "9" * 30)], 1000, None),
        ([("x-envoy-attempt-count", "-2"), ("x-envoy-attempt-count", "two")], None, None),
        ([("x-envoy-attempt-count", "1"), ("x-forwarded-for", "10.0.0.1")], None, True),
        ([("x-forwarded-for", "10.0.0.1")], None, None),
    ],
)
def test_attempts_and_copies_are_told_apart(metadata: list, attempt: int | None, *, copy: bool | None) -> None:
    exporter = InMemorySpanExporter()
    span = CallSpan(Spans("test", Kept(exporter)), "method", metadata)
    span.close()
    (made,) = exporter.get_finished_spans()
    assert made.attributes.get(tracing.ATTEMPT) == attempt
    assert made.attributes.get(tracing.SHADOW) is copy


FAILS = """
class Model:
    def __init__(self, folder, config): ...
    def infer(self, inputs):
        raise (OSError if inputs["x"][0] else LookupError)("broken")
"""


async def test_a_broken_model_does_not_fill_the_log(repository: Path, start, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("fails", "too"):
        zoo.python(repository, name, FAILS, zoo.ONE_IN_ONE_OUT)
    world = await start()
    for at in range(50):
        for name in ("fails", "too"):
            seen = await refused(world.stub.ModelInfer(request(name, id=f"r{at}", x=np.array([at % 2]))))
            assert seen.reason == "INTERNAL"
    told = [record for record in caplog.records if record.exc_info]
    assert sorted(record.getMessage() for record in told) == [
        "model 'fails', request r0: LookupError: broken",
        "model 'fails', request r1: OSError: broken",
        "model 'too', request r0: LookupError: broken",
        "model 'too', request r1: OSError: broken",
    ]
    assert {record.name for record in told} == {"headrace.worker"}
    assert "broken" not in "".join(record.getMessage() for record in caplog.records if record not in told)


async def test_what_is_logged_in_a_call_has_its_ids(repository: Path, start) -> None:
    zoo.python(repository, "fails", FAILS, zoo.ONE_IN_ONE_OUT)
    world = await start()
    with kept() as lines:
        call = request("fails", id="its-own", x=np.array([0]))
        await refused(world.stub.ModelInfer(call, metadata=[CONTEXT]))
    [line] = [line for line in lines if "broken" in line.message]
    assert (line.request_id, line.fields["trace_id"]) == ("its-own", TRACE)
