"""The channels to the sidecar: whom a call is for, and that nothing is added to what the mesh does."""

from __future__ import annotations

import grpc
import pytest

from gateway.choose import Route
from gateway.sidecar import Sidecar, connections
from mesh.catalog import Breaker
from tests.gateway.test_by_host import CATALOG, ONE, TWO, model, route
from tests.gateway.world import INFER, Worker, running


def test_a_host_has_as_many_connections_as_its_breakers_allow_calls() -> None:
    """An Envoy takes 1024 calls of each."""
    one, two = (model("digits", f"{host}:8001", v1=ONE, v2=TWO) for host in ("digits.svc", "wide.svc"))
    wide = two.model_copy(update={"breaker": Breaker(requests=2**31 - 1), "name": "wide"})
    beside = one.model_copy(update={"breaker": Breaker(requests=200), "name": "beside"})
    small = model("small", "small.svc:8001", v1=ONE).model_copy(update={"breaker": Breaker(requests=1)})
    catalog = {each.name: each for each in (one, beside, wide, small)}
    assert connections(catalog) == {"digits.svc:8001": 4, "wide.svc:8001": 16, "small.svc:8001": 1}


async def test_calls_go_to_the_sidecar_by_channels_for_each_host() -> None:
    async with running(Worker()) as sidecar:
        upstream = Sidecar(CATALOG, sidecar.address)
        try:
            hosts = {name: {upstream.channel_of(route(name)) for _ in range(20)} for name in ("a", "digits")}
            assert {name: len(channels) for name, channels in hosts.items()} == {"a": 6, "digits": 3}
            assert not hosts["a"] & hosts["digits"]
            for model in ("a", "digits"):
                await upstream.channel_of(route(model)).unary_unary(INFER)(b"", timeout=10)
        finally:
            await upstream.close()
    assert len(sidecar.calls) == 2


async def test_without_a_sidecars_address_the_host_itself_is_called() -> None:
    async with running(Worker()) as worker:
        worker_model = model("digits", worker.address.replace("127.0.0.1", "localhost"), v1=ONE)
        upstream = Sidecar({"digits": worker_model}, None)
        try:
            channel = upstream.channel_of(Route(worker_model, "1", pinned=True, body=b""))
            await channel.unary_unary(INFER)(b"", timeout=10)
        finally:
            await upstream.close()
    assert len(worker.calls) == 1


async def test_a_failed_call_is_not_tried_again() -> None:
    """Whether to try again is the mesh's to decide."""

    async def fail(_message: bytes, context: grpc.aio.ServicerContext) -> bytes:
        return await context.abort(grpc.StatusCode.UNAVAILABLE, "no")

    async with running(Worker({INFER: fail})) as sidecar:
        upstream = Sidecar(CATALOG, sidecar.address)
        try:
            with pytest.raises(grpc.aio.AioRpcError):
                await upstream.channel_of(route("a")).unary_unary(INFER)(b"", timeout=10)
        finally:
            await upstream.close()
    assert len(sidecar.calls) == 1
