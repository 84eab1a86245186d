"""What the gateway counts of calls that Python answers, and what it tells when it is asked."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import grpc
import grpc.aio
import pytest
import pytest_asyncio
from cryptography import x509
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2, metrics_service_pb2_grpc
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics

from gateway import counted, gauges
from gateway.metrics import AUDIT_FAILING, COPIES, COPIES_READY, EXPIRY, INSTRUMENTS, LIMIT, RUNNING
from gateway.settings import Tls
from protos import dropped
from protos import grpc_service_pb2 as pb
from protos.dropped import Signal
from protos.metrics.prometheus import OPENMETRICS, PROTOBUF, TEXT
from tests.gateway import world as worlds
from tests.gateway.certificates import Authority
from tests.gateway.streams import answers, message, opened
from tests.gateway.test_service import refused
from tests.gateway.test_traces import sink
from tests.gateway.world import SERVICE, World, failing, hanging
from tests.protos.metrics.test_prometheus import messages
from tests.scraped import page, scraped, until

pytestmark = pytest.mark.asyncio(loop_scope="module")

CALLS = "headrace_calls_total"
DURATION = "rpc_server_call_duration_seconds"
INFER = "inference.GRPCInferenceService/ModelInfer"
TRACE = "a1" * 16


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    async with sink() as traces:

        def limited(config: dict) -> None:
            config["models"][3]["admission"] = {"floor": 2, "ceiling": 4}
            config["telemetry"] = {"otlp": traces.url, "sample": 0, "slow": "60s", "logs": False}

        async with worlds.world(tmp_path_factory.mktemp("metrics"), limited) as made:
            yield made


async def test_calls_are_counted_by_what_they_were(world: World) -> None:
    before = await scraped(world.admin)
    for _ in range(3):
        await world.infer(version="1")
    await world.infer(version="canary")
    await refused(world.infer("secret"))
    await refused(world.infer(metadata=[]))
    world.one.behaviour[worlds.INFER] = failing(grpc.StatusCode.INVALID_ARGUMENT, "no")
    await refused(world.infer())
    world.one.behaviour.clear()
    await world.channel.unary_unary(SERVICE + "ServerLive")(b"", timeout=10)
    now = await scraped(world.admin)
    counted = {
        labels: number - before.all(CALLS).get(labels, 0)
        for labels, number in now.all(CALLS).items()
        if number != before.all(CALLS).get(labels, 0)
    }
    common = {"lane": "python", "method": INFER}
    digits = {"model_name": "digits", "grant": "scope=all"}
    expected = [
        (common | digits | {"model_version_asked": "1", "model_version_served": "1", "status": "OK"}, 3),
        (common | digits | {"model_version_asked": "canary", "model_version_served": "2", "status": "OK"}, 1),
        (common | {"model_name": "secret", "reason": "NOT_GRANTED", "status": "PERMISSION_DENIED"}, 1),
        (common | {"reason": "TOKEN_MISSING", "status": "UNAUTHENTICATED"}, 1),
        (common | digits | {"status": "INVALID_ARGUMENT"}, 1),
        ({"lane": "python", "method": "inference.GRPCInferenceService/ServerLive", "status": "OK"}, 1),
    ]
    assert counted == {tuple(sorted(labels.items())): number for labels, number in expected}
    assert now.sum(f"{DURATION}_count") == now.sum(CALLS) == now.sum("headrace_gateway_duration_seconds_count")
    assert 0 < now.sum("headrace_gateway_duration_seconds_sum") < now.sum(f"{DURATION}_sum")


async def test_callers_make_no_series(world: World) -> None:
    await world.infer()
    await refused(world.infer("nobody's", version="1"))
    await refused(world.infer(version="999"))
    with pytest.raises(grpc.aio.AioRpcError):
        await world.channel.unary_unary("/inference.GRPCInferenceService/Nothing")(b"", timeout=10)
    before = (await scraped(world.admin)).series
    for number in range(300):
        await refused(world.infer(f"ghost-{number}", version=str(number + 3)))
        await refused(world.infer(version=f"alias-{number}"))
        with pytest.raises(grpc.aio.AioRpcError):
            await world.channel.unary_unary(f"/inference.GRPCInferenceService/M{number}")(b"", timeout=10)
    # Which reasons and statuses there are is bounded by the code.
    labels = {label for _, labels in (await scraped(world.admin)).series - before for label in labels}
    assert {name for name, value in labels if "ghost" in value or "alias" in value or value.isdigit()} == set()
    assert len((await scraped(world.admin)).series - before) < 60  # one status more of each histogram


async def test_without_the_catalog_callers_would(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counted, "bounded", lambda _catalog, *names: names)
    await refused(world.infer("invented"))
    assert (await scraped(world.admin)).sum(CALLS, model_name="invented") == 1


async def test_nothing_in_it_names_a_caller_or_has_a_token(world: World) -> None:
    await world.infer(sub="somebody-unmistakable")
    _, text = await page(world.admin, OPENMETRICS)
    assert b"somebody" not in text
    assert not any(token.encode() in text for token in world.tokens.values())


async def test_streams_count_messages_and_one_call(world: World) -> None:
    before = await scraped(world.admin)
    call = opened(world)
    for model in ("digits", "digits", "secret"):
        await call.write(message(model))
    await call.done_writing()
    assert len(await answers(call)) == 3
    now = await until(world.admin, lambda now: now.sum(CALLS) > before.sum(CALLS))
    assert now.sum(CALLS, method="inference.GRPCInferenceService/ModelStreamInfer") == 1

    def more(**labels: str) -> float:
        return now.sum("headrace_stream_messages_total", **labels) - before.sum(
            "headrace_stream_messages_total", **labels
        )

    assert [more(model_name="digits", direction=way) for way in ("received", "sent")] == [2, 2]
    assert [more(model_name="", direction=way) for way in ("received", "sent")] == [1, 1]
    assert now.sum("headrace_gateway_duration_seconds_count") == before.sum("headrace_gateway_duration_seconds_count")


async def test_what_is_asked_for(world: World) -> None:
    before = await scraped(world.admin)
    reached = asyncio.Event()
    world.one.behaviour[worlds.INFER] = hanging(reached)
    call = asyncio.create_task(world.infer("small"))
    await asyncio.wait_for(reached.wait(), 10)
    now = await scraped(world.admin)
    assert now.sum("headrace_calls_active", lane="python") == 1
    assert now.sum("headrace_admission_running", model_name="small") == 1
    assert now.sum("headrace_admission_limit", model_name="small") == 2
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    world.one.behaviour.clear()
    await until(world.admin, lambda now: now.sum("headrace_admission_running") == 0)
    await world.infer(sub="new")
    await world.infer(sub="new")
    await refused(world.infer(metadata=[("authorization", "Bearer x.y.z")]))
    now = await scraped(world.admin)

    def tokens(result: str) -> float:
        return now.sum("headrace_tokens_total", result=result) - before.sum("headrace_tokens_total", result=result)

    assert (tokens("verified"), tokens("refused")) == (1, 1)
    assert tokens("cached") >= 1
    assert now.all("headrace_jwks_keys") == {(("issuer", world.issuer.name),): 1}
    assert 0 <= now.sum("headrace_jwks_age_seconds") < 60
    assert now.sum("headrace_ready") == 1
    assert now.sum("headrace_build_info") == 1
    assert now.sum("process_cpu_seconds_total") > 0
    assert now.sum("process_resident_memory_bytes") > 1e7
    assert now.sum("process_open_fds") > 10
    assert now.sum("process_thread_count") > 1
    dropped.add(Signal.SPANS)
    assert (await scraped(world.admin)).sum("headrace_telemetry_dropped_total", signal="spans") >= 1


async def test_a_configuration_that_is_taken_up_and_one_that_is_refused(world: World) -> None:
    before = (await scraped(world.admin)).sum("headrace_config_generation")
    good = (world.folder / "headrace.yaml").read_text()
    world.configure(lambda config: config["grants"][0].update(name="everyone"))
    await until(world.admin, lambda now: now.sum("headrace_config_generation") == before + 1)
    await world.infer()
    assert (await scraped(world.admin)).sum(CALLS, grant="everyone") == 1
    world.configure(lambda config: config["grants"][0].update(models=["nobody's"]))
    await until(world.admin, lambda now: now.sum("headrace_config_refused") == 1)
    world.configure(lambda config: config.update(json.loads(good)))
    now = await until(world.admin, lambda now: now.sum("headrace_config_refused") == 0)
    assert now.sum("headrace_config_generation") == before + 2


async def test_every_form_says_the_same(world: World) -> None:
    await world.infer("digits", metadata=[world.bearer(), ("traceparent", f"00-{TRACE}-{'b2' * 8}-01")])
    text = await scraped(world.admin)
    kind, openmetrics = await page(world.admin, OPENMETRICS)
    assert kind == OPENMETRICS
    families = list(read_openmetrics(openmetrics.decode()))
    assert {family.name for family in families} == {one.family for one in INSTRUMENTS} - {
        one.family for one in (AUDIT_FAILING, COPIES, COPIES_READY, EXPIRY)
    }
    exemplars = [one.exemplar for family in families for one in family.samples if one.exemplar is not None]
    assert TRACE in {one.labels["trace_id"] for one in exemplars}
    kind, binary = await page(world.admin, f"{PROTOBUF};q=0.9,{TEXT};q=0.1")
    assert kind == PROTOBUF
    found = messages(binary)
    assert sum(metric.counter.value for metric in found[CALLS].metric) == text.sum(CALLS)
    assert all(metric.histogram.positive_delta for metric in found[DURATION].metric)
    assert {one.name for one in (LIMIT, RUNNING)} <= {one.name for one in INSTRUMENTS}


async def told(channel: grpc.aio.Channel, text: bytes, bearer: tuple[str, str]) -> bytes:
    return await channel.unary_unary(worlds.INFER)(text, metadata=[bearer], timeout=10)


async def test_it_is_told_while_the_gateway_drains(tmp_path: Path) -> None:
    reached = asyncio.Event()
    async with worlds.world(tmp_path, drains=True) as made:
        over = asyncio.Event()

        async def until_over(message: bytes, context: grpc.aio.ServicerContext) -> bytes:
            reached.set()
            await over.wait()
            return await worlds.echo(message, context)

        made.one.behaviour[worlds.INFER] = until_over
        channel = grpc.aio.insecure_channel(made.address)  # which lasts
        text = pb.ModelInferRequest(model_name="digits").SerializeToString()
        call = asyncio.create_task(told(channel, text, made.bearer()))
        await asyncio.wait_for(reached.wait(), 10)

        async def look() -> None:
            now = await until(made.admin, lambda now: now.sum("headrace_ready") == 0)
            assert now.sum("headrace_calls_active") == 1
            over.set()

        looking = asyncio.create_task(look())
    await looking
    await call
    await channel.close()


async def test_nothing_is_counted_where_nothing_is_to_be(tmp_path: Path) -> None:
    async with worlds.world(tmp_path, lambda config: config["telemetry"].update(metrics=False)) as made:
        await made.infer()
        async with aiohttp.ClientSession() as http:
            assert (await http.get(f"http://{made.admin}/metrics")).status == 404


async def test_when_certificates_expire(tmp_path: Path) -> None:
    authority = Authority()
    certificate, _ = authority.issue("127.0.0.1")
    (tmp_path / "server.pem").write_bytes(certificate)
    (tmp_path / "ca.pem").write_bytes(authority.pem)
    tls = Tls.model_construct(certificate=tmp_path / "server.pem", key=tmp_path, client_ca=tmp_path / "ca.pem")
    expected = x509.load_pem_x509_certificate(certificate).not_valid_after_utc.timestamp()
    found = gauges.expiries(tls)
    assert set(found) == {("server",), ("client_ca",)}
    assert found["server",] == expected


class Collector(metrics_service_pb2_grpc.MetricsServiceServicer):
    """Keeps how many calls it has been told of last, by service."""

    def __init__(self) -> None:
        self.calls: dict[str, float] = {}

    async def Export(self, request, context):  # noqa: N802 - gRPC's name
        for resource in request.resource_metrics:
            service = next(one.value.string_value for one in resource.resource.attributes if one.key == "service.name")
            for metric in (metric for scope in resource.scope_metrics for metric in scope.metrics):
                if metric.name == "headrace.calls":
                    self.calls[service] = sum(point.as_double or point.as_int for point in metric.sum.data_points)
        return metrics_service_pb2.ExportMetricsServiceResponse()


async def test_what_was_counted_is_sent(tmp_path: Path) -> None:
    """At the end, at the latest."""
    server, collector = grpc.aio.server(), Collector()
    metrics_service_pb2_grpc.add_MetricsServiceServicer_to_server(collector, server)
    url = f"http://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    try:
        async with worlds.world(tmp_path, lambda config: config["telemetry"].update(otlp=url, sample=0)) as made:
            for _ in range(3):
                await made.infer()
        assert collector.calls == {"headrace-gateway": 3}
    finally:
        await server.stop(None)
