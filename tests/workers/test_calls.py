"""Every call has its span, in the caller's trace."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from protos import tracing
from tests.lines import kept
from tests.workers import zoo
from tests.workers.calling import refused, request
from tests.workers.conftest import until

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
CONTEXT = ("traceparent", f"00-{TRACE}-{PARENT}-01")
ONES = {"a": np.ones((2, 2)), "b": np.ones((2, 2))}


async def ended(spans: InMemorySpanExporter) -> ReadableSpan:
    await until(spans.get_finished_spans)
    (span,) = spans.get_finished_spans()
    spans.clear()
    return span


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
    assert 0 <= queued < 5
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
