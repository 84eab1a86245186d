"""What callers keep to themselves, no span tells: tokens, their claims, baggage and tensors, by whichever lane."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import numpy as np
import pytest
from opentelemetry.proto.trace.v1 import trace_pb2

from gateway.server import serving
from gateway.settings import load
from loadtest import http2
from loadtest.payload import answer, prefixed
from mesh.local import process
from protos import grpc_service_pb2 as pb
from tests.envoy import needs_envoy
from tests.gateway import world as worlds
from tests.gateway.test_traces import CALLER, Sink, attributes, sink
from tests.gateway.tokens import Issuer
from tests.gateway.world import INFER, failing
from tests.headrace.test_express import by_the_lane, infer
from tests.workers import zoo
from tests.workers.calling import request
from workers.server import Options
from workers.server import serving as worker_serving

BAGGAGE = "b4ggage-of-the-caller"
TENSOR = b"t3nsor-of-the-caller"
CLAIMS = {"email": "ada@cl4im.example", "groups": ["cl4im-list"], "nested": {"a": "cl4im-map"}, "tenant": "acme"}
OURS = (BAGGAGE.encode(), TENSOR, b"cl4im")
MORE = (("baggage", f"user={BAGGAGE}"), ("cookie", "c00kie"), ("x-own", "0wn-header"), ("own-bin", b"b1nary"))
PEM = "-----BEGIN PRIVATE KEY-----\nMIIBp3m\n-----END PRIVATE KEY-----"
INVENTED = "13nvented"
SERVING = b"\0\0\0\0\x02\x08\x01"  # grpc.health.v1.HealthCheckResponse
TOLD = (b"c00kie", b"0wn-header", b"b1nary")


def exported(traces: Sink) -> bytes:
    return b"".join(span.SerializeToString() for _, span in traces.spans)


def found(traces: Sink, *words: bytes | str) -> list[bytes]:
    """Which of the secrets were exported, and the parts of tokens."""
    told = exported(traces)
    parts = [part.encode() if isinstance(part, str) else part for part in words]
    return [part for part in (*OURS, *TOLD, *parts) if part in told]


def parts_of(bearer: tuple[str, str]) -> Sequence[str]:
    header, payload, signature = bearer[1].removeprefix("Bearer ").split(".")
    return header[:30], payload[:30], payload[-30:], signature[:30]


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "_FLUSH", (process._FLUSH[0], "20"))


@needs_envoy
@pytest.mark.parametrize("sample", [1.0, 0.0])
async def test_by_both_lanes_whether_sampled_or_kept_late(tmp_path: Path, sample: float) -> None:
    message = pb.ModelInferRequest(model_name="digits", raw_input_contents=[TENSOR]).SerializeToString()

    def change(config: dict[str, Any]) -> None:
        config["telemetry"] = {"otlp": traces.url, "sample": sample, "claims": ["tenant"]}

    async with sink() as traces, worlds.world(tmp_path, change, express=True, drains=True) as world:
        bearer = world.bearer(**CLAIMS)
        metadata = [bearer, *MORE]
        method = world.channel.unary_unary(INFER)
        await method(message, metadata=metadata, timeout=10)
        await by_the_lane(world, lambda: infer(world, message, [("baggage", BAGGAGE)]))
        assert "baggage" not in dict(world.one.metadata[-1])
        world.one.behaviour[INFER] = failing(grpc.StatusCode.INTERNAL, "broken")
        for more in (metadata, [("authorization", f"Bearer {bearer[1][7:]}x"), *MORE], [*MORE]):
            with suppress(grpc.aio.AioRpcError):
                await method(message, metadata=more, timeout=10)
        with suppress(grpc.aio.AioRpcError):
            await by_the_lane(world, lambda: _quietly(infer(world, message, [("baggage", BAGGAGE)])))
        stranger = Issuer("https://cl4im.example/").token(**CLAIMS)
        with suppress(grpc.aio.AioRpcError):
            await method(message, metadata=[("authorization", f"Bearer {stranger}")], timeout=10)
        parts = parts_of(bearer)
        async with asyncio.timeout(10):
            while {"python", "express"} - {attributes(span).get("headrace.lane") for _, span in traces.spans}:
                await asyncio.sleep(0.02)
    assert found(traces, *parts) == []
    assert b"acme" in exported(traces)  # as the configuration has it


def says(status: grpc.StatusCode, words: str, *, begun: bool) -> worlds.Behaviour:
    """A worker's failure with these words, in trailers or in the headers alone; it says one of our keys as well."""

    async def fail(_message: bytes, context: grpc.aio.ServicerContext) -> bytes:
        if begun:
            await context.send_initial_metadata((("x-headrace-message", "f0rged"),))
        return await context.abort(status, words, (("x-headrace-message", "f0rged"),))

    return fail


@needs_envoy
@pytest.mark.parametrize("sample", [1.0, 0.0])
async def test_what_a_worker_repeats_of_them_callers_are_told_and_no_span(tmp_path: Path, sample: float) -> None:
    async with sink() as traces:
        telemetry = {"otlp": traces.url, "sample": sample}
        change = lambda config: config.update(telemetry=telemetry)  # noqa: E731 - short
        async with worlds.world(tmp_path, change, express=True, drains=True) as world:
            bearer = world.bearer()
            words = f"no good: {bearer[1]}, 100%, \u20ac: {PEM}"
            await by_the_lane(world, lambda: infer(world))
            for begun in (False, True):
                for status, text, told in (
                    (grpc.StatusCode.INVALID_ARGUMENT, words, words),
                    (grpc.StatusCode.INVALID_ARGUMENT, "", ""),
                    (grpc.StatusCode.INTERNAL, words, None),
                ):
                    world.one.behaviour[INFER] = says(status, text, begun=begun)
                    error = await by_the_lane(world, lambda: _failure(infer(world)))
                    assert error.code() == status
                    assert error.details() == told or (told is None and words not in str(error))
                    assert "x-headrace-message" not in {
                        *dict(error.initial_metadata()),
                        *dict(error.trailing_metadata()),
                    }
            async with asyncio.timeout(10):
                while len(_failed_by_the_lane(traces)) < 6:
                    await asyncio.sleep(0.02)
    assert found(traces, "MIIBp3m", "f0rged", *parts_of(bearer)) == []


class Inventor(http2.Connection):
    """A worker whose every status is a secret, once it is `inventing`; every other one comes in trailers."""

    def __init__(self, inventing: asyncio.Event) -> None:
        super().__init__(client=False)
        self._inventing = inventing
        self._sizes: Counter[int] = Counter()

    def on_data(self, stream: int, payload: memoryview) -> None:
        self._sizes[stream] += len(payload)

    def on_end(self, stream: int, *, reset: bool) -> None:
        begun, end = http2.literal([(":status", "200"), ("content-type", "application/grpc")]), http2.END_HEADERS
        said = http2.literal([("grpc-status", INVENTED)])
        if self._sizes.pop(stream, 0) < 20:  # it is asked for its health
            self.send(stream, http2.frame(http2.HEADERS, end, stream, begun), SERVING, tail=b"")
        elif not self._inventing.is_set():
            well = http2.frame(http2.HEADERS, end | http2.END_STREAM, stream, http2.literal([("grpc-status", "0")]))
            self.send(stream, http2.frame(http2.HEADERS, end, stream, begun), prefixed(answer()), tail=well)
        elif stream % 4 == 1:
            self.send_frame(http2.frame(http2.HEADERS, end | http2.END_STREAM, stream, begun + said))
        else:
            self.send_frame(http2.frame(http2.HEADERS, end, stream, begun))
            self.send_frame(http2.frame(http2.HEADERS, end | http2.END_STREAM, stream, said))


@needs_envoy
async def test_a_status_that_a_worker_has_made_up_is_told_to_nobody(tmp_path: Path) -> None:
    inventing = asyncio.Event()
    server = await asyncio.get_running_loop().create_server(lambda: Inventor(inventing), "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()

    def change(config: dict[str, Any]) -> None:
        config["telemetry"] = {"otlp": traces.url, "sample": 1.0}
        config["upstream"]["endpoints"]["digits"]["1"] = [f"{host}:{port}"]

    async with server, sink() as traces, worlds.world(tmp_path, change, express=True, drains=True) as world:
        await by_the_lane(world, lambda: infer(world))
        inventing.set()
        for _ in range(4):
            error = await by_the_lane(world, lambda: _failure(infer(world)))
            assert error.code() == grpc.StatusCode.INTERNAL
        async with asyncio.timeout(10):
            while len(_failed_by_the_lane(traces)) < 4:
                await asyncio.sleep(0.02)
    assert {attributes(span)["grpc.status_code"] for span in _failed_by_the_lane(traces)} == {"2"}
    assert found(traces, INVENTED) == []


@asynccontextmanager
async def behind(tmp_path: Path, traces: Sink, issuer: Issuer) -> AsyncIterator[grpc.aio.Channel]:
    repository = tmp_path / "models"
    repository.mkdir()
    zoo.add(repository)
    async with worker_serving(Options(repository, "127.0.0.1:0", traces.url)) as worker:
        telemetry = {"otlp": traces.url, "sample": 1.0}
        config = worlds.in_front_of(worker, tmp_path, issuer, "add", telemetry=telemetry)
        async with serving(load(config, {})) as addresses, grpc.aio.insecure_channel(addresses.grpc) as channel:
            yield channel


async def test_from_the_gateway_to_the_worker(tmp_path: Path) -> None:
    issuer = Issuer()
    bearer = ("authorization", f"Bearer {issuer.token(**CLAIMS)}")
    secret = np.frombuffer(TENSOR[:16], np.float32).reshape(2, 2)
    async with sink() as traces:
        async with behind(tmp_path, traces, issuer) as channel:
            method = channel.unary_unary(INFER)
            metadata = [bearer, ("traceparent", CALLER), *MORE]
            await method(request("add", a=secret, b=secret).SerializeToString(), metadata=metadata)
            for wrong in (request("add", a=secret), request("add", a=secret, c=secret)):
                with suppress(grpc.aio.AioRpcError):
                    await method(wrong.SerializeToString(), metadata=metadata)
        spans = await traces.wait(7)
    assert {service for service, _ in spans} == {"headrace-gateway", "headrace-worker"}
    assert found(traces, TENSOR[:16], *parts_of(bearer)) == []


async def _quietly(call: Any) -> None:
    with suppress(grpc.aio.AioRpcError):
        await call


def _failed_by_the_lane(traces: Sink) -> list[trace_pb2.Span]:
    """The spans of carried calls of which that of the call to the worker is here, too."""
    spans = [span for _, span in traces.spans]
    parents = {span.parent_span_id for span in spans}
    said = [(span, attributes(span)) for span in spans if span.span_id in parents]
    return [
        span
        for span, told in said
        if told.get("headrace.lane") == "express" and told.get("rpc.response.status_code") != "OK"
    ]


async def _failure(call: Any) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value
