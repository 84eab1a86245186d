"""The channels to the workers: what is asked of gRPC, and that gRPC does it."""

from __future__ import annotations

import asyncio
import json
import socket
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from gateway.choose import Route
from gateway.direct import Direct, mistakes, service_config, target_uri
from gateway.rpcs import RPCS
from gateway.upstream import Endpoints
from mesh.catalog import Catalog, Model
from protos.contract import SERVICE

Context = grpc.aio.ServicerContext[Any, Any]


def _model(name: str = "digits", *versions: str, **changes: object) -> Model:
    labels: dict[str, dict[str, str]] = {version: {} for version in versions or ("1",)}
    traffic = {next(iter(labels)): 100} if len(labels) > 1 else {}
    good = {"name": name, "host": "digits.svc:8001", "versions": labels, "traffic": traffic}
    return Model.model_validate({**good, **changes})


def _catalog(*models: Model) -> Catalog:
    return {model.name: model for model in models}


def _route(model: Model, version: str = "1") -> Route:
    return Route(model, version, pinned=True, body=b"")


# ---- names ----


@pytest.mark.parametrize(
    ("addresses", "uri"),
    [
        (("127.0.0.1:8101",), "ipv4:127.0.0.1:8101"),
        (("127.0.0.1:8101", "10.0.0.2:8102"), "ipv4:127.0.0.1:8101,10.0.0.2:8102"),
        (("[::1]:8101",), "ipv6:[::1]:8101"),
        (("[::1]:8101", "[fd00::2]:8102"), "ipv6:[::1]:8101,[fd00::2]:8102"),
        (("digits.models.svc.cluster.local:8001",), "dns:///digits.models.svc.cluster.local:8001"),
        (("localhost:8001",), "dns:///localhost:8001"),
    ],
)
def test_target_uri(addresses: tuple[str, ...], uri: str) -> None:
    assert target_uri(addresses) == uri


# ---- the service config ----


def test_service_config_as_it_is_by_default() -> None:
    config = service_config(_model())
    (method,) = config["methodConfig"]  # type: ignore[misc]  # the value of a JSON object
    assert {name: value for name, value in config.items() if name != "methodConfig"} == {
        "loadBalancingConfig": [{"round_robin": {}}],
        "healthCheckConfig": {"serviceName": ""},
        "retryThrottling": {"maxTokens": 100, "tokenRatio": 0.2},
    }
    assert method["retryPolicy"] == {
        "maxAttempts": 3,
        "initialBackoff": "0.025s",
        "maxBackoff": "0.25s",
        "backoffMultiplier": 2,
        "retryableStatusCodes": ["UNAVAILABLE"],
    }
    assert json.loads(json.dumps(config)) == config


def test_what_changes_something_is_never_retried() -> None:
    (method,) = service_config(_model())["methodConfig"]  # type: ignore[misc]  # the value of a JSON object
    assert {name["service"] for name in method["name"]} == {SERVICE}
    named = {name["method"] for name in method["name"]}
    assert {"ModelInfer", "ModelReady", "ModelMetadata", "ModelConfig", "RepositoryIndex"} <= named
    assert named <= {rpc.name for rpc in RPCS.values()}
    assert not named & {"ModelStreamInfer", "RepositoryModelLoad", "RepositoryModelUnload", "TraceSetting"}
    assert not any("SharedMemory" in name or "Settings" in name for name in named)


def test_retries_without_a_budget() -> None:
    config = service_config(_model("digits", "1", retries={"budget": None}))
    assert "methodConfig" in config
    assert "retryThrottling" not in config


def test_a_ring_for_sequences() -> None:
    def points(copies: int) -> object:
        (balancing,) = service_config(_model(sequence=True), copies)["loadBalancingConfig"]  # type: ignore[misc]
        ring = balancing["ring_hash_experimental"]
        assert ring["requestHashHeader"] == "x-sequence-id"
        return ring["minRingSize"]

    assert [points(copies) for copies in (2, 3, 100)] == [256, 384, 4096]
    assert points(1) == 4096  # a name that may stand for many
    assert "methodConfig" not in service_config(_model(sequence=True))


@pytest.mark.parametrize("retries", [{"retries": {"attempts": 0}}, {"retries": {"on": ()}}])
def test_no_retries(retries: dict[str, object]) -> None:
    config = service_config(_model("digits", "1", **retries))
    assert "methodConfig" not in config
    assert "retryThrottling" not in config
    assert config["loadBalancingConfig"] == [{"round_robin": {}}]


@pytest.mark.parametrize(
    ("on", "codes"),
    [
        (("unavailable",), ["UNAVAILABLE"]),
        (("reset", "refused-stream", "connect-failure"), ["UNAVAILABLE"]),
        (("unavailable", "resource-exhausted"), ["RESOURCE_EXHAUSTED", "UNAVAILABLE"]),
        (("cancelled", "unavailable"), ["CANCELLED", "UNAVAILABLE"]),
    ],
)
def test_codes(on: tuple[str, ...], codes: list[str]) -> None:
    (method,) = service_config(_model(retries={"on": on}))["methodConfig"]  # type: ignore[misc]  # JSON
    assert method["retryPolicy"]["retryableStatusCodes"] == codes


# ---- mistakes ----


def _told(catalog: Catalog, endpoints: Endpoints) -> list[tuple[tuple[str, ...], str]]:
    return list(mistakes(catalog, endpoints))


@pytest.mark.parametrize(
    "addresses",
    [
        ("127.0.0.1:1",),
        ("127.0.0.1:1", "10.0.0.1:1"),
        ("[::1]:1", "[::1]:2"),
        ("worker:1",),
    ],
)
def test_endpoints_that_fit(addresses: tuple[str, ...]) -> None:
    assert _told(_catalog(_model()), {"digits": {"1": addresses}}) == []


@pytest.mark.parametrize(
    "addresses",
    [
        ("127.0.0.1:1", "[::1]:1"),
        ("worker-a:1", "worker-b:1"),
        ("127.0.0.1:1", "worker:1"),
        ("worker:1", "127.0.0.1:1"),
    ],
)
def test_copies_that_no_one_name_can_hold(addresses: tuple[str, ...]) -> None:
    ((place, what),) = _told(_catalog(_model()), {"digits": {"1": addresses}})
    assert place == ("digits", "1")
    assert "one family" in what


@pytest.mark.parametrize("endpoints", [{}, {"digits": {}}, {"digits": {"1": ()}}])
def test_no_endpoints(endpoints: Endpoints) -> None:
    assert _told(_catalog(_model()), endpoints) == [(("digits",), "model digits has no endpoints for version 1")]


# ---- who is where ----


async def test_models_beside() -> None:
    one, two = _model("one", "1", "2"), _model("two")
    endpoints = {
        "one": {"1": ("127.0.0.1:1",), "2": ("127.0.0.1:2", "127.0.0.1:3")},
        "two": {"1": ("127.0.0.1:3",)},
        "three": {"1": ("127.0.0.1:1",)},
    }
    upstream = Direct(endpoints)
    assert upstream.models_beside(_route(one, "1")) == {"one", "three"}
    assert upstream.models_beside(_route(one, "2")) == {"one", "two"}
    assert upstream.models_beside(_route(two)) == {"one", "two"}


async def addresses(*endpoints: str) -> list[str]:
    upstream = Direct({"digits": {"1": endpoints}})
    return [copy.address for copy in await upstream.copies(_route(_model()))]


async def test_each_endpoint_is_a_copy_and_so_is_what_a_name_stands_for(monkeypatch: pytest.MonkeyPatch) -> None:
    families = {"10.0.0.1": socket.AF_INET, "10.0.0.2": socket.AF_INET, "fd00::1": socket.AF_INET6}

    async def getaddrinfo(host: str, port: int, **_: object) -> list[tuple[object, ...]]:
        found = {"both.svc": list(families), "six.svc": ["fd00::1"]}
        return [(families[at], 1, 6, "", (at, port)) for at in found.get(host, ())] or _no_such_name()

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
    assert await addresses("127.0.0.1:2", "127.0.0.1:3") == ["127.0.0.1:2", "127.0.0.1:3"]
    assert await addresses("both.svc:8001") == ["10.0.0.1:8001", "10.0.0.2:8001"]  # each once, not by each family
    assert await addresses("six.svc:8001") == ["[fd00::1]:8001"]
    assert await addresses("localhost:8001") == ["localhost:8001"]  # one machine's, whichever family it listens with
    assert await addresses("gone.svc:8001") == ["gone.svc:8001"]  # and gRPC will say so


def _no_such_name() -> list[tuple[object, ...]]:
    raise OSError("no such name")


@pytest.mark.parametrize(
    ("endpoints", "local"),
    [
        ({"1": ("127.0.0.1:1", "[::1]:2")}, True),
        ({"1": ("localhost:1",)}, True),
        ({"1": ("127.0.0.1:1",), "2": ("10.0.0.1:1",)}, False),
        ({"1": ("127.0.0.1:1", "10.0.0.1:1")}, False),
        ({"1": ("worker:1",)}, False),
        ({"1": ("localhost.example:1",)}, False),
    ],
)
def test_a_model_is_local_if_all_its_copies_can_only_be(endpoints: dict[str, tuple[str, ...]], local: bool) -> None:
    assert Direct({"digits": endpoints}).local == ({"digits"} if local else set())


async def test_one_channel_for_each_set_of_copies() -> None:
    model = _model("digits", "1", "2", "3")
    twin, stubborn = _model("twin"), _model("stubborn", retries={"attempts": 0})
    same, other = ("127.0.0.1:1",), ("127.0.0.1:2",)
    upstream = Direct(
        {"digits": {"1": same, "2": same, "3": other}, "twin": {"1": same}, "stubborn": {"1": same}},
    )
    try:
        first = upstream.line(_route(model, "1")).channel
        assert upstream.line(_route(model, "2")).channel is first
        assert upstream.line(_route(twin)).channel is first
        assert upstream.line(_route(model, "3")).channel is not first
        assert upstream.line(_route(stubborn)).channel is not first
    finally:
        await upstream.close()


# ---- gRPC does what it is asked ----


class Copy(grpc.GenericRpcHandler):
    """One worker that counts calls by RPC and fails the first `failures` of them."""

    def __init__(self, failures: int = 0, code: grpc.StatusCode = grpc.StatusCode.UNAVAILABLE) -> None:
        self.failures = failures
        self.code = code
        self.calls: Counter[str] = Counter()
        self.health = health.aio.HealthServicer()

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        name = handler_call_details.method.rpartition("/")[2]
        if SERVICE not in handler_call_details.method:
            return None

        async def answer(_: bytes, context: Context) -> bytes:
            self.calls[name] += 1
            if self.calls[name] <= self.failures:
                await context.abort(self.code, "not now")
            return b"done"

        return grpc.unary_unary_rpc_method_handler(answer)


@asynccontextmanager
async def _serving(*copies: Copy, retries: dict[str, object] | None = None) -> AsyncIterator[grpc.aio.Channel]:
    async with AsyncExitStack() as stack:
        addresses: list[str] = []
        for copy in copies:
            server = grpc.aio.server()
            server.add_generic_rpc_handlers((copy,))
            health_pb2_grpc.add_HealthServicer_to_server(copy.health, server)
            addresses.append(f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}")
            await server.start()
            stack.push_async_callback(server.stop, None)
        model = _model(retries=retries or {})
        upstream = Direct({"digits": {"1": tuple(addresses)}})
        stack.push_async_callback(upstream.close)
        yield upstream.line(_route(model)).channel


async def _outcome(channel: grpc.aio.Channel, method: str) -> object:
    try:
        return await channel.unary_unary(f"/{SERVICE}/{method}")(b"", timeout=10, wait_for_ready=True)
    except grpc.aio.AioRpcError as error:
        return error.code()


@pytest.mark.parametrize(
    ("method", "retries", "failures", "calls"),
    [
        ("ModelInfer", {}, 2, 3),
        ("ModelReady", {}, 1, 2),
        ("ModelInfer", {"attempts": 1}, 1, 2),
        ("ModelInfer", {}, 3, 3),
        ("ModelInfer", {"attempts": 0}, 1, 1),
        ("ModelInfer", {"on": ["resource-exhausted"]}, 1, 1),
        ("RepositoryModelLoad", {}, 1, 1),
    ],
)
async def test_retries(method: str, retries: dict[str, object], failures: int, calls: int) -> None:
    copy = Copy(failures)
    async with _serving(copy, retries=retries) as channel:
        outcome = await _outcome(channel, method)
    assert copy.calls[method] == calls
    assert outcome == (b"done" if calls > failures else grpc.StatusCode.UNAVAILABLE)


async def test_what_is_about_the_request_is_not_retried() -> None:
    copy = Copy(1, grpc.StatusCode.INVALID_ARGUMENT)
    async with _serving(copy) as channel:
        assert await _outcome(channel, "ModelInfer") is grpc.StatusCode.INVALID_ARGUMENT
    assert copy.calls["ModelInfer"] == 1


async def test_copies_take_turns() -> None:
    copies = [Copy(), Copy()]
    async with _serving(*copies) as channel:
        await _until(channel, lambda: all(copy.calls["ModelInfer"] for copy in copies))
        before = [copy.calls["ModelInfer"] for copy in copies]
        for _ in range(10):
            assert await _outcome(channel, "ModelInfer") == b"done"
    assert [copy.calls["ModelInfer"] - count for copy, count in zip(copies, before, strict=True)] == [5, 5]


async def test_a_copy_that_is_not_serving_gets_no_calls() -> None:
    well, ill = Copy(), Copy()
    await ill.health.set("", health_pb2.HealthCheckResponse.NOT_SERVING)
    async with _serving(ill, well) as channel:
        for _ in range(10):
            assert await _outcome(channel, "ModelInfer") == b"done"
        assert ill.calls["ModelInfer"] == 0
        await ill.health.set("", health_pb2.HealthCheckResponse.SERVING)
        await _until(channel, lambda: ill.calls["ModelInfer"] > 0)


async def _until(channel: grpc.aio.Channel, condition: Callable[[], bool]) -> None:
    """Call until the condition holds; a deadline bounds it."""
    for _ in range(2000):
        if condition():
            return
        await _outcome(channel, "ModelInfer")
    pytest.fail("it never came to be")
