"""The gateway without a sidecar: gRPC's xDS client shares, retries, pins and proves who calls, as resources say."""

from __future__ import annotations

import contextlib
import math
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from cryptography import x509

from gateway.settings import load as settings_of
from headrace.rendering import source_of
from mesh.ads.server import Ads
from mesh.ads.stream import Verdict
from mesh.render.files import render
from protos import grpc_service_pb2 as pb
from tests.gateway.tokens import Issuer
from tests.gateway.world import INFER, Refusal, Worker, echo, failing, refusal
from tests.gateway.xds_world import (
    HOST,
    IDENTITY,
    SERVICE,
    STRICT,
    SUBSETS,
    Gateway,
    Guarded,
    Identity,
    authority,
    calls,
    control_plane,
    copy,
    gateway,
    guarded,
    load,
    publish,
    reaches,
    routes,
    settings,
    worker_certificate,
)

LOAD = "inference.GRPCInferenceService/RepositoryModelLoad"
OFF = "{attempts: 0}"
PLAIN = SUBSETS.replace("  trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}\n", "")


@dataclass
class World:
    """Two workers of one model, a version each, and the gateway in front of them."""

    ads: Ads
    heard: list[Verdict]
    gateway: Gateway
    identity: Identity
    one: Guarded
    two: Guarded

    def publish(self, *resources: str, rule: str = SUBSETS, strict: str = STRICT) -> None:
        workers = copy("one", "v1", self.one.address), copy("two", "v2", self.two.address)
        publish(self.ads, SERVICE, *workers, rule, *resources, *([strict] if strict else []))


@contextlib.asynccontextmanager
async def world(folder: Path, *accounts: str | None, **options: int) -> AsyncIterator[World]:
    """Everything with certificates of one authority.

    `accounts`: whose the two workers' certificates are (None: it has none, and speaks plain text); `options` of their
    servers.
    """
    ours = authority()
    identity = Identity(folder, ours)
    async with contextlib.AsyncExitStack() as stack:
        workers = Guarded(), Guarded()
        for worker, account in zip(workers, accounts or ("digits", "digits"), strict=True):
            shown = worker_certificate(ours, account) if account else None
            await stack.enter_async_context(guarded(worker, shown, ours.roots, **options))
        ads, heard = await stack.enter_async_context(control_plane())
        door = await stack.enter_async_context(gateway(folder, ads.address, identity.files))
        yield World(ads, heard, door, identity, *workers)


async def refused(mesh: World, version: str, **more: Any) -> Refusal:
    """What a call for a version is refused with."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await mesh.gateway.infer(version, **more)
    return refusal(caught.value)


async def test_calls_are_shared_by_weight(tmp_path: Path) -> None:
    async with world(tmp_path) as mesh:
        mesh.publish(routes(one=90, two=10))
        number = 2000
        await calls(mesh.gateway.infer, number)
        share = len(mesh.two.infers()) / number
    assert len(mesh.one.infers()) + len(mesh.two.infers()) == number
    assert abs(share - 0.1) < 3.29 * math.sqrt(0.1 * 0.9 / number)  # 99.9 %


async def test_a_shift_is_live_and_loses_no_call(tmp_path: Path) -> None:
    async with world(tmp_path) as mesh:
        mesh.publish(routes(one=100, two=0))
        async with load(mesh.gateway.infer):
            await reaches(mesh.one, 100)
            for weight, to, off in ((0, mesh.two, mesh.one), (100, mesh.one, mesh.two), (0, mesh.two, mesh.one)):
                mesh.publish(routes(one=weight, two=100 - weight))
                await reaches(to, 100)
                before = len(off.infers())
                await reaches(to, 100)
                assert len(off.infers()) == before
    assert [verdict.error for verdict in mesh.heard if verdict.error] == []


async def test_a_version_that_goes_loses_no_call(tmp_path: Path) -> None:
    """Its cluster and its route go in one step, while calls are on their way to it."""
    async with world(tmp_path) as mesh:
        mesh.publish(routes(one=50, two=50))
        async with load(mesh.gateway.infer):
            await reaches(mesh.one, 100)
            one = copy("one", "v1", mesh.one.address)
            rule = SUBSETS.replace(", {name: v2, labels: {version: v2}}", "")
            route = routes(one=50, two=50).replace(
                f"    - {{destination: {{host: {HOST}, subset: v2}}, weight: 50}}\n", ""
            )
            publish(mesh.ads, SERVICE, STRICT, one, rule, route)
            await reaches(mesh.one, 300)
            before = len(mesh.two.infers())
            await reaches(mesh.one, 100)
            assert len(mesh.two.infers()) == before


async def test_a_version_in_a_header_is_pinned(tmp_path: Path) -> None:
    async with world(tmp_path) as mesh:
        mesh.publish(routes(one=100, two=0, pins=OFF))
        for version in ("2", "1", "2", ""):
            await mesh.gateway.infer(version)
        assert (len(mesh.one.infers()), len(mesh.two.infers())) == (2, 2)
        mesh.publish(routes(one=100, two=0))  # without routes for it, weights decide of all calls
        async with load(lambda: mesh.gateway.infer("2")):
            await reaches(mesh.one, 10)
        before = len(mesh.two.infers())
        await calls(lambda: mesh.gateway.infer("2"), 10)
        assert len(mesh.two.infers()) == before


async def test_a_worker_sees_who_the_gateway_is_and_the_gateway_wants_a_token(tmp_path: Path) -> None:
    async with world(tmp_path) as mesh:
        mesh.publish(routes(one=100, two=0))
        await mesh.gateway.infer()
        assert [who for who, _ in mesh.one.peers] == [IDENTITY]
        said = await refused(mesh, "", metadata=[])
    assert said.status is grpc.StatusCode.UNAUTHENTICATED
    assert len(mesh.one.infers()) == 1


async def test_what_is_retried(tmp_path: Path) -> None:
    """Two times for UNAVAILABLE, also of a large call, for no other status, and not at all where retries are off."""
    async with world(tmp_path) as mesh:
        mesh.one.behaviour[INFER] = failing(grpc.StatusCode.UNAVAILABLE)
        mesh.two.behaviour[INFER] = failing(grpc.StatusCode.INVALID_ARGUMENT)
        mesh.publish(routes(one=100, two=0, retries=OFF, pins="{attempts: 2, retryOn: unavailable}"))
        tried = []
        for version, size in (("1", 0), ("1", 2**20), ("2", 0), ("", 0)):
            before = len(mesh.one.infers()), len(mesh.two.infers())
            said = await refused(mesh, version, size=size)
            tried.append((said.status.name, len(mesh.one.infers()) - before[0], len(mesh.two.infers()) - before[1]))
    assert tried == [("UNAVAILABLE", 3, 0), ("UNAVAILABLE", 3, 0), ("INVALID_ARGUMENT", 0, 1), ("UNAVAILABLE", 1, 0)]


async def test_who_is_not_whom_the_mesh_names_is_not_called(tmp_path: Path) -> None:
    """A worker with another's identity, and one that shows none."""
    async with world(tmp_path, "other", None) as mesh:
        mesh.publish(routes(one=100, two=0, pins=OFF))
        for version in ("1", "2"):
            assert (await refused(mesh, version)).reason == "MODEL_NOT_READY"
        assert (mesh.one.infers(), mesh.two.infers()) == ([], [])


async def test_plain_text_is_for_workers_that_take_it(tmp_path: Path) -> None:
    async with world(tmp_path, "digits", None) as mesh:
        mesh.publish(routes(one=100, two=0, pins=OFF), rule=PLAIN, strict="")
        assert (await refused(mesh, "1")).reason == "MODEL_NOT_READY"
        await mesh.gateway.infer("2")
        assert (mesh.one.infers(), len(mesh.two.infers()), mesh.two.peers) == ([], 1, [])


async def test_certificates_are_rotated_under_load(tmp_path: Path) -> None:
    """Connections are short-lived here, so that certificates are shown again and again."""
    async with world(tmp_path, max_connection_age_ms=200, max_connection_age_grace_ms=5000) as mesh:
        mesh.publish(routes(one=100, two=0))
        async with load(mesh.gateway.infer, at_once=4):
            await reaches(mesh.one, 10)
            for _ in range(3):
                seen = serials(mesh.one)
                mesh.identity.renew()
                while serials(mesh.one) == seen:
                    await reaches(mesh.one, 10)
    assert len(serials(mesh.one)) == 4
    assert {who for who, _ in mesh.one.peers} == {IDENTITY}


async def test_what_every_copy_must_get_each_gets(tmp_path: Path) -> None:
    """By the routes that `headrace mesh render` writes."""
    said = {"versions": {"1": {"version": "v1"}}, "traffic": {}, "copies": {"1": 3}}
    rendered = render(source_of(settings_of(settings(tmp_path, Issuer(), **said), {})), {})["digits.yaml"]
    ours = authority()
    workers = Guarded(), Guarded()
    async with contextlib.AsyncExitStack() as stack:
        for worker in workers:
            worker.behaviour["/" + LOAD] = echo
            await stack.enter_async_context(guarded(worker, worker_certificate(ours), ours.roots))
        ads, _ = await stack.enter_async_context(control_plane())
        door = await stack.enter_async_context(gateway(tmp_path, ads.address, Identity(tmp_path, ours).files, **said))
        copies = (copy(f"w{number}", "v1", worker.address, number) for number, worker in enumerate(workers))
        publish(ads, SERVICE, *copies, rendered)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await door.call(LOAD, pb.RepositoryModelLoadRequest(model_name="digits").SerializeToString())
        await door.infer()
    assert refusal(caught.value).text == "1 of 3 copies failed: digits 1, copy 3: it does not answer"
    assert [[path for path, _, _ in worker.calls].count("/" + LOAD) for worker in workers] == [1, 1]
    assert {worker.calls[0][2]["x-headrace-copy"] for worker in workers} == {"0", "1"}
    assert {who for worker in workers for who, _ in worker.peers} == {IDENTITY}


def serials(worker: Guarded) -> set[int]:
    """The certificates that the worker's callers have shown."""
    return {x509.load_pem_x509_certificate(shown).serial_number for shown in {pem for _, pem in worker.peers}}


async def test_calls_go_on_without_the_control_plane(tmp_path: Path) -> None:
    async with contextlib.AsyncExitStack() as stack:
        worker = await stack.enter_async_context(guarded(Worker(), None, ""))
        async with control_plane() as (ads, _):
            publish(ads, SERVICE, copy("one", "v1", worker.address))
            door = await stack.enter_async_context(gateway(tmp_path, ads.address, None))
            await door.infer()
        await calls(door.infer, 50)
        assert len(worker.infers()) == 51
