"""The demo's parts, by both lanes and on a mesh, traced into the real Jaeger; and what its query API says of it."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import io
import json
import re
import shutil
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import pytest_asyncio
from rich.console import Console

from headrace.client import Client
from headrace.demo import digits, stage, tour
from headrace.demo.digits import MODEL
from headrace.demo.issuer import Issuer
from headrace.traces.collector import Collector, collecting
from headrace.traces.spans import Span
from headrace.traces.store import Store
from protos import tracing
from tests.envoy import ENVOY, needs_envoy
from tests.headrace.called import headrace
from tests.interop.jaeger_server import Jaeger, jaeger, tee

pytestmark = [pytest.mark.interop, pytest.mark.timeout(300), pytest.mark.asyncio(loop_scope="module")]

REFUSED = {
    ("UNAUTHENTICATED", "TOKEN_MISSING"),
    ("UNAUTHENTICATED", "TOKEN_EXPIRED"),
    ("UNAUTHENTICATED", "TOKEN_INVALID"),
    ("PERMISSION_DENIED", "NOT_GRANTED"),
}
CALLED = {"headrace-demo", "headrace-gateway", "worker-2"}
CALLS = 8
WAIT = 30  # seconds

Spans = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Told:
    """What Jaeger was told, as our own collector was: the traces of calls, and what must be in none of them."""

    jaeger: Jaeger
    collector: Collector
    calls: Sequence[str]
    secrets: Sequence[str]

    def spans(self, trace_id: str) -> Spans:
        """Of one trace, by id."""
        (trace,) = self.jaeger.asked(f"/api/traces/{trace_id}")
        return {
            span["spanID"]: {**span, "service": trace["processes"][span["processID"]]["serviceName"]}
            for span in trace["spans"]
        }


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["direct", pytest.param("mesh", marks=needs_envoy)])
async def told(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Told]:
    """Eight calls that asked for a version, the first of which Python decides; and four that are refused."""
    folder, console = tmp_path_factory.mktemp("told"), Console(file=io.StringIO())
    async with contextlib.AsyncExitStack() as stack:
        real = stack.enter_context(jaeger(folder))
        ours = await stack.enter_async_context(collecting(Store()))
        otlp = await stack.enter_async_context(tee(ours.url, real.otlp))
        issuer = await stack.enter_async_context(Issuer().serving())
        held, versions = await stage.train(console)
        at = stage.Surroundings(folder, issuer.url, otlp)
        copies = await stage.workers(console, stack, at, versions, 1)
        behind = await stage.mesh(console, stack, at, copies) if request.param == "mesh" else None
        gateway = await stage.gateway(console, stack, at, copies, behind)
        client = await stack.enter_async_context(Client(gateway.address))
        token = issuer.token()
        signature = await client.signature(MODEL, token=token)
        async with stage.tracer(otlp) as tracer:
            caller = tour.Caller(client, token, held, signature)
            calls = [await caller.traced(tracer, ("canary", "2")[at > 0]) for at in range(CALLS)]
            await tour.rejections(client, issuer, held.pixels[0], signature)
        found = Told(real, ours, calls, [*token.split(".")[:3], *as_texts(held.pixels[0])])
        await until_equal(found)
        yield found


def as_texts(pixels: digits.Labels) -> list[str]:
    """A picture in the ways in which someone might write it."""
    raw = np.asarray(pixels, "<f4").tobytes()[16:64]
    listed = ", ".join(str(value) for value in pixels[4:16].tolist())
    return [raw.hex(), base64.b64encode(raw).decode()[4:40], listed, listed.replace(" ", "")]


async def until_equal(told: Told) -> None:
    """Until all spans have come, each with its parent: each program, and each sidecar, sends its own when it will."""
    deadline = time.monotonic() + WAIT

    def all_here() -> bool:
        refused = [
            one for spans in told.collector.store.traces() for one in spans if one.attributes.get(tracing.REASON)
        ]
        return (
            all(is_whole(told.collector.store.trace(call)) for call in told.calls)
            and len(refused) >= len(REFUSED)
            and all(
                told.spans(spans[0].trace).keys() == {span.id for span in spans}
                for spans in told.collector.store.traces()
            )
        )

    while not await asyncio.to_thread(all_here):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.2)


def is_whole(trace: Sequence[Span]) -> bool:
    """Whether all of ours have told of the call, and each parent is there that a span names."""
    parents = {span.parent for span in trace if span.parent}
    return {span.service for span in trace} >= CALLED and parents <= {span.id for span in trace}


def tags(span: Mapping[str, Any]) -> dict[str, Any]:
    return {tag["key"]: tag["value"] for tag in span["tags"]}


def above(spans: Spans, span: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The span and its parents, up to the root."""
    found = [span]
    while parents := [one["spanID"] for one in found[-1]["references"] if one["refType"] == "CHILD_OF"]:
        found.append(spans[parents[0]])
    return found


async def test_the_tool_is_at_hand() -> None:
    assert shutil.which("jaeger-all-in-one")


async def test_jaeger_knows_the_services(told: Told) -> None:
    others = set(told.collector.store.services()) - CALLED - {"worker-1"}
    assert all(re.fullmatch(rf"gateway|{MODEL}-.+", one) for one in others)  # sidecars
    assert set(told.jaeger.asked("/api/services")) >= CALLED


async def test_each_call_is_one_trace_from_its_caller_to_the_worker(told: Told) -> None:
    lanes = []
    for call in told.calls:
        spans = told.spans(call)
        worker = next(
            span
            for span in spans.values()
            if (span["service"], served(span), tags(span)["span.kind"]) == ("worker-2", "2", "server")
        )
        way = [(span["service"], tags(span)["span.kind"]) for span in reversed(above(spans, worker))]
        ours = [hop for hop in way if hop[0] in CALLED]
        assert [*ours[:3], ours[-1]] == [
            ("headrace-demo", "client"),
            ("headrace-gateway", "server"),
            ("headrace-gateway", "client"),
            ("worker-2", "server"),
        ]
        roots = [span for span in spans.values() if not span["references"]]
        assert [span["service"] for span in roots] == ["headrace-demo"]
        lanes.append(next(tags(span)[tracing.LANE] for span in above(spans, worker) if tracing.LANE in tags(span)))
    assert lanes[0] == "python"
    assert lanes[-1] == ("express" if ENVOY else "python")


def served(span: Mapping[str, Any]) -> Any:
    return tags(span).get(tracing.VERSION_SERVED)


async def test_a_call_says_what_it_was(told: Told) -> None:
    for number, call in enumerate(told.calls):
        ours = [span for span in told.spans(call).values() if span["service"] == "headrace-gateway"]
        server = next(span for span in ours if tags(span)["span.kind"] == "server" and tracing.LANE in tags(span))
        said = tags(server)
        assert said[tracing.RPC_METHOD].endswith("GRPCInferenceService/ModelInfer")
        assert (said[tracing.RPC_STATUS], said[tracing.MODEL]) == ("OK", MODEL)
        assert said[tracing.VERSION_ASKED] == ("2" if number else "canary")
        assert said[tracing.CALLER].startswith("demo@http://127.0.0.1:")
        assert said[tracing.REQUEST_ID]
        assert "error" not in said


async def test_refused_calls_are_found_by_status_and_reason(told: Told) -> None:
    found = set()
    for status, reason in REFUSED:
        wanted = json.dumps({tracing.RPC_STATUS: status, tracing.REASON: reason, "error": "true"})
        for trace in told.jaeger.asked("/api/traces", service="headrace-gateway", tags=wanted):
            for said in map(tags, trace["spans"]):
                assert said["span.kind"] == "server"
                found.add((said[tracing.RPC_STATUS], said[tracing.REASON]))
    assert found == REFUSED


async def test_no_token_and_no_tensor_is_stored(told: Told) -> None:
    stored = json.dumps([told.jaeger.asked(f"/api/traces/{spans[0].trace}") for spans in told.collector.store.traces()])
    assert told.calls[0] in stored
    assert [secret for secret in told.secrets if secret in stored] == []
    for trace in json.loads(stored):
        for span in trace[0]["spans"]:
            pairs = [*span["tags"], *(field for log in span["logs"] for field in log["fields"])]
            assert all(len(str(pair["value"])) <= tracing.LONGEST for pair in pairs)
            assert "authorization" not in {pair["key"].lower() for pair in pairs}


@pytest.mark.parametrize("columns", ["80", "200"])
async def test_headrace_trace_shows_of_jaeger_what_it_shows_of_our_collector(told: Told, columns: str) -> None:
    def shown(url: str, *arguments: str) -> str:
        done = headrace("trace", *arguments, "--from", url, environ={"COLUMNS": columns})
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout.replace(url, "URL")

    refused = next(spans for spans in told.collector.store.traces() if any(span.error for span in spans))[0].trace
    filters = ([], ["--errors"], ["--model", MODEL], ["--slow", "1ms"])
    for arguments in (*([*each, "--limit", "1000"] for each in filters), *([one] for one in (*told.calls, refused))):
        by_jaeger = await asyncio.to_thread(shown, told.jaeger.url, *arguments)
        assert by_jaeger == await asyncio.to_thread(shown, told.collector.query, *arguments)
        assert len(by_jaeger.splitlines()) > 2
