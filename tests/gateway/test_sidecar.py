"""The channels to the sidecar: for whom a call is, and who may be met there."""

from __future__ import annotations

import grpc
import pytest

from gateway.choose import Route
from gateway.sidecar import Sidecar
from mesh.catalog import Catalog, Model
from tests.gateway.world import INFER, Worker, running


def _model(name: str, host: str, **versions: dict[str, str]) -> Model:
    labels = {name.removeprefix("v"): labels for name, labels in versions.items()}
    traffic = {version: 100 if version == "1" else 0 for version in labels}
    return Model.model_validate({"name": name, "host": host, "versions": labels, "traffic": traffic})


ONE, TWO = {"version": "v1"}, {"version": "v2"}
CATALOG: Catalog = {
    model.name: model
    for model in (
        _model("digits", "digits.svc:8001", v1=ONE, v2=TWO),
        _model("a", "triton.svc:8001", v1={"pool": "a100"}, v2={}),
        _model("b", "triton.svc:8001", v1={"pool": "l4"}),
        _model("c", "triton.svc:8001", v1={"gpu": "yes"}),
    )
}


def _route(model: str, version: str = "1") -> Route:
    return Route(CATALOG[model], version, pinned=True, body=b"body")


@pytest.mark.parametrize(
    ("model", "version", "beside"),
    [
        ("digits", "1", {"digits"}),
        ("a", "1", {"a", "c"}),  # a copy may have both labels
        ("a", "2", {"a", "b", "c"}),
        ("b", "1", {"a", "b", "c"}),  # a's second version is on every copy
        ("c", "1", {"a", "b", "c"}),
    ],
)
async def test_models_beside(model: str, version: str, beside: set[str]) -> None:
    assert Sidecar(CATALOG, None).models_beside(_route(model, version)) == beside


async def test_services_are_told_apart_by_host_and_labels() -> None:
    upstream = Sidecar(CATALOG, None)
    services = {upstream.service_of(_route(*way)) for way in (("digits", "1"), ("digits", "2"), ("a", "1"), ("b", "1"))}
    assert len(services) == 4
    other = _model("d", "triton.svc:8001", v1={})
    shared = Sidecar({**CATALOG, "d": other}, None)
    assert shared.service_of(_route("a", "2")) == shared.service_of(Route(other, "1", pinned=True, body=b""))


async def test_calls_go_to_the_sidecar_by_a_channel_for_each_host() -> None:
    async with running(Worker()) as sidecar:
        upstream = Sidecar(CATALOG, sidecar.address)
        try:
            first, second = (upstream.channel_of(_route("a", version)) for version in ("1", "2"))
            assert first is second
            assert upstream.channel_of(_route("digits")) is not first
            for model in ("a", "digits"):
                await upstream.channel_of(_route(model)).unary_unary(INFER)(b"", timeout=10)
        finally:
            await upstream.close()
    assert len(sidecar.calls) == 2


async def test_without_a_sidecars_address_the_host_itself_is_called() -> None:
    async with running(Worker()) as worker:
        model = _model("digits", worker.address.replace("127.0.0.1", "localhost"), v1=ONE)
        upstream = Sidecar({"digits": model}, None)
        try:
            channel = upstream.channel_of(Route(model, "1", pinned=True, body=b""))
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
                await upstream.channel_of(_route("a")).unary_unary(INFER)(b"", timeout=10)
        finally:
            await upstream.close()
    assert len(sidecar.calls) == 1
