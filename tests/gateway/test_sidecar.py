"""The channels to the sidecar: whom a call is for, and that nothing is added to what the mesh does."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import grpc
import grpc.aio
import pytest

from gateway.choose import Route
from gateway.server import serving
from gateway.settings import load
from gateway.sidecar import Sidecar, connections
from gateway.upstream import CHANNEL
from mesh.catalog import Breaker
from protos import grpc_service_pb2 as pb
from tests.gateway.test_by_host import CATALOG, ONE, TWO, model, route
from tests.gateway.tokens import Issuer
from tests.gateway.world import CLIENT, INFER, Worker, in_front_of, running, unused_address


def test_a_host_has_as_many_connections_as_its_breakers_allow_calls() -> None:
    """An Envoy takes 1024 calls of each."""
    one, two = (model("digits", f"{host}:8001", v1=ONE, v2=TWO) for host in ("digits.svc", "wide.svc"))
    wide = two.model_copy(update={"breaker": Breaker(requests=2**31 - 1), "name": "wide"})
    beside = one.model_copy(update={"breaker": Breaker(requests=200), "name": "beside"})
    small = model("small", "small.svc:8001", v1=ONE).model_copy(update={"breaker": Breaker(requests=1)})
    catalog = {each.name: each for each in (one, beside, wide, small)}
    assert connections(catalog) == {"digits.svc:8001": 3, "wide.svc:8001": 16, "small.svc:8001": 1}


async def test_calls_go_to_the_sidecar_by_channels_for_each_host() -> None:
    async with running(Worker()) as sidecar:
        upstream = Sidecar(CATALOG, sidecar.address, {})
        try:
            assert upstream.line(route("a")) is upstream.line(route("a")) is not upstream.line(route("digits"))
            for model in ("a", "digits"):
                await upstream.line(route(model)).channel.unary_unary(INFER)(b"", timeout=10)
        finally:
            await upstream.close()
    assert len(sidecar.calls) == 2


async def test_without_a_sidecars_address_the_host_itself_is_called() -> None:
    async with running(Worker()) as worker:
        worker_model = model("digits", worker.address.replace("127.0.0.1", "localhost"), v1=ONE)
        upstream = Sidecar({"digits": worker_model}, None, {})
        try:
            channel = upstream.line(Route(worker_model, "1", pinned=True, body=b"")).channel
            await channel.unary_unary(INFER)(b"", timeout=10)
        finally:
            await upstream.close()
    assert len(worker.calls) == 1


async def test_a_failed_call_is_not_tried_again() -> None:
    """Whether to try again is the mesh's to decide."""

    async def fail(_message: bytes, context: grpc.aio.ServicerContext) -> bytes:
        return await context.abort(grpc.StatusCode.UNAVAILABLE, "no")

    async with running(Worker({INFER: fail})) as sidecar:
        upstream = Sidecar(CATALOG, sidecar.address, {})
        try:
            with pytest.raises(grpc.aio.AioRpcError):
                await upstream.line(route("a")).channel.unary_unary(INFER)(b"", timeout=10)
        finally:
            await upstream.close()
    assert len(sidecar.calls) == 1


@pytest.mark.parametrize("back", [True, False])
async def test_who_was_away_for_long_is_there_again_soon(
    back: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """gRPC itself would come back to it ever more seldom, up to two minutes; here it is shown with one at once."""
    if not back:
        slow = {f"grpc.{which}_reconnect_backoff_ms": 60_000 for which in ("initial", "min", "max")}
        monkeypatch.setattr("gateway.sidecar.CHANNEL", [(key, slow.get(key, value)) for key, value in CHANNEL])
    worker, issuer = Worker(address=unused_address()), Issuer()
    upstream = {"mode": "mesh", "proxy": worker.address}
    settings = load(in_front_of(worker.address, tmp_path, issuer, "digits", upstream=upstream), {})
    message = pb.ModelInferRequest(model_name="digits").SerializeToString()
    metadata = [("authorization", f"Bearer {issuer.token()}")]
    async with serving(settings) as at, grpc.aio.insecure_channel(at.grpc, options=CLIENT) as channel:
        infer = channel.unary_unary(INFER)
        for _ in range(10):
            with pytest.raises(grpc.aio.AioRpcError):
                await infer(message, metadata=metadata)
            await asyncio.sleep(0.1)
        async with running(worker):
            with contextlib.nullcontext() if back else pytest.raises(TimeoutError):
                async with asyncio.timeout(10 if back else 1):
                    while not worker.calls:
                        with contextlib.suppress(grpc.aio.AioRpcError):
                            await infer(message, metadata=metadata)
                        await asyncio.sleep(0.02)
