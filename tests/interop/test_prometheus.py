"""Prometheus over gateways, workers and sidecars: dashboards have data, and alerts fire and clear."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import grpc.aio
import pytest
import pytest_asyncio

from headrace.observability.dashboards import dashboards
from headrace.observability.panels import Query, filled
from headrace.observability.series import ANSWERED, DURATION, OF_GATEWAY, UNARY
from tests.envoy import needs_envoy
from tests.interop.watched_world import World, watched
from tests.interop.watching import TIMING, Watching, needs_prometheus, watching

pytestmark = [
    pytest.mark.interop,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.timeout(300),
    needs_prometheus,
    needs_envoy,
]

SHOWN = {
    f"{dashboard.uid}: {panel.title}, {query.legend}": query
    for dashboard in dashboards(TIMING)
    for panel in dashboard.panels
    for query in panel.queries
    if dashboard.uid != "headrace-gpus"
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    async with watched(tmp_path_factory.mktemp("watched")) as made, made.load():
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def heard(world: World, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Watching]:
    async with watching(tmp_path_factory.mktemp("watching"), world.targets) as made:
        yield made


@pytest.mark.parametrize("shown", SHOWN)
async def test_every_line_of_a_dashboard_has_data(heard: Watching, shown: str) -> None:
    query = SHOWN[shown]
    await heard.has(filled(query.expression, TIMING.rate))
    if query.exemplars:
        await leads_to_traces(heard, query)


async def leads_to_traces(heard: Watching, query: Query) -> None:
    deadline = time.monotonic() + 60
    expression = filled(query.expression, TIMING.rate)
    while not (found := await heard.prometheus.exemplars(expression, time.time() - 300, time.time() + 1)):
        assert time.monotonic() < deadline, "no exemplars"
        await asyncio.sleep(0.2)
    assert all(re.fullmatch(r"[0-9a-f]{32}", labels["trace_id"]) for labels, _ in found)


async def test_both_lanes_are_seen_together_and_apart(heard: Watching) -> None:
    of_lanes = "model_version_lane:headrace_calls:rate6s"
    found = await heard.has(f'{of_lanes}{{headrace_lane="express"}} and on (headrace_model_name) {of_lanes}')
    assert {labels["headrace_model_name"] for labels, _ in found} == {"digits"}  # of `letters`, calls are Python's
    await heard.has(f'{of_lanes}{{headrace_lane="python"}}')
    shares = await heard.has("sum by (headrace_model_name) (model_version:headrace_calls:share_rate6s)")
    assert [value for _, value in shares] == pytest.approx([1.0, 1.0])


async def test_native_histograms_say_what_the_classic_ones_say(world: World, heard: Watching, tmp_path: Path) -> None:
    """Of all calls so far: the bounds of classic buckets are up to 2.5 times as far as the one before."""
    labels = f"{{{OF_GATEWAY}, {ANSWERED}, {UNARY}}}"
    async with watching(tmp_path, world.targets, "native-histograms") as natively:
        ((_, native),) = await natively.has(f"histogram_quantile(0.5, sum ({DURATION}{labels}))")
    ((_, classic),) = await heard.has(f"histogram_quantile(0.5, sum by (le) ({DURATION}_bucket{labels}))")
    assert classic / 2.5 < native < classic * 2.5


async def test_a_version_whose_worker_stops_wakes_somebody_until_it_is_back(world: World, heard: Watching) -> None:
    since, worker = len(heard.posted), world.workers["2"]
    gone = {"headrace_model_name": "digits", "headrace_model_version_served": "2"}
    await worker.stop()
    severity, alert = await heard.hears("HeadraceNoReadyCopy", "firing", since, **gone)
    assert severity == "/critical"
    assert alert["annotations"]["summary"] == "digits 2: no copy is ready"
    await heard.hears("HeadraceWorkerDown", "firing", since, instance=worker.metrics)
    await worker.start(world.folder)
    await heard.hears("HeadraceNoReadyCopy", "resolved", since, **gone)
    await heard.hears("HeadraceWorkerDown", "resolved", since, instance=worker.metrics)


async def test_a_configuration_that_is_refused_is_told_until_it_is_mended(world: World, heard: Watching) -> None:
    since, gateway = len(heard.posted), world.gateways["direct"]
    before = gateway.configure("models: nonsense")
    severity, _ = await heard.hears("HeadraceConfigRefused", "firing", since, instance=gateway.admin)
    assert severity == "/warning"
    gateway.configure(before)
    await heard.hears("HeadraceConfigRefused", "resolved", since, instance=gateway.admin)


async def test_a_copy_that_hangs_is_ejected_and_told(world: World, heard: Watching) -> None:
    since, pid = len(heard.posted), world.workers["1"].pid
    os.kill(pid, signal.SIGSTOP)
    try:
        ejected = {"cluster_name": "outbound|8001|digits-v1|worker.models.svc.cluster.local"}
        await heard.hears("HeadraceCopiesEjected", "firing", since, **ejected)
    finally:
        os.kill(pid, signal.SIGCONT)
    await heard.hears("HeadraceCopiesEjected", "resolved", since, **ejected)


async def test_a_model_that_fails_wakes_somebody_until_it_is_not_called_any_more(world: World, heard: Watching) -> None:
    since = len(heard.posted)
    world.called.add("faulty")
    severity, _ = await heard.hears("HeadraceErrorBudgetBurnsFast", "firing", since, headrace_model_name="faulty")
    assert severity == "/critical"
    world.called.remove("faulty")
    await heard.hears("HeadraceErrorBudgetBurnsFast", "resolved", since, headrace_model_name="faulty")


async def test_a_certificate_that_ends_today_wakes_somebody(heard: Watching) -> None:
    severity, _ = await heard.hears("HeadraceCertificateExpiresNow", "firing", headrace_certificate="server")
    assert severity == "/critical"


async def test_spans_that_find_no_collector_are_told_until_it_is_there(world: World, heard: Watching) -> None:
    await heard.hears("HeadraceTelemetryDropped", "firing", headrace_signal="spans")
    async with collector(world.collector):
        await heard.hears("HeadraceTelemetryDropped", "resolved", headrace_signal="spans")


class Takes(grpc.GenericRpcHandler):
    """Whatever is exported."""

    def service(self, _details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        return grpc.unary_unary_rpc_method_handler(self._take)

    async def _take(self, _message: bytes, _context: grpc.aio.ServicerContext) -> bytes:
        return b""


@contextlib.asynccontextmanager
async def collector(address: str) -> AsyncIterator[None]:
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((Takes(),))
    server.add_insecure_port(address)
    await server.start()
    try:
        yield
    finally:
        await server.stop(None)


async def test_what_alerts_say_is_filled_in(heard: Watching) -> None:
    for _, alert in heard.posted:
        words = " ".join(alert["annotations"].values())
        assert "<error" not in words and "<no value>" not in words and "{{" not in words, alert
