"""`grpc.health.v1`: the worker, its service, its models."""

from __future__ import annotations

from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2
from grpc_health.v1.health_pb2_grpc import HealthStub
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from protos import grpc_service_pb2 as pb
from tests.workers import zoo
from tests.workers.calling import refused
from workers.health import Health
from workers.server import Options, serving

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
Request = health_pb2.HealthCheckRequest


async def test_the_whole_and_each_model(repository: Path, start) -> None:
    zoo.add(repository)
    world = await start()
    health = HealthStub(world.channel)
    for service in ("", "inference.GRPCInferenceService", "add"):
        assert (await health.Check(Request(service=service))).status == SERVING
    assert (await refused(health.Check(Request(service="nope")))).status is grpc.StatusCode.NOT_FOUND


async def test_every_watcher_is_told_of_every_change(repository: Path, start) -> None:
    zoo.add(repository)
    world = await start()
    health = HealthStub(world.channel)
    watches = [health.Watch(Request(service="add")) for _ in range(3)]
    later = health.Watch(Request(service="later"))
    for watch in watches:
        assert (await watch.read()).status == SERVING
    assert (await later.read()).status == UNKNOWN
    watches.pop().cancel()
    await world.stub.RepositoryModelUnload(pb.RepositoryModelUnloadRequest(model_name="add"))
    for watch in watches:
        assert (await watch.read()).status == NOT_SERVING
    assert (await health.Check(Request(service=""))).status == SERVING
    await world.stub.RepositoryModelLoad(pb.RepositoryModelLoadRequest(model_name="add"))
    for watch in watches:
        assert (await watch.read()).status == SERVING
    zoo.add(repository, "later")
    await world.stub.RepositoryModelLoad(pb.RepositoryModelLoadRequest(model_name="later"))
    assert (await later.read()).status == SERVING


async def test_draining_nothing_serves_and_no_watch_holds_up_the_end(repository: Path) -> None:
    zoo.add(repository)
    options = Options(repository, "127.0.0.1:0", drain=60.0)
    async with serving(options) as address:
        channel = grpc.aio.insecure_channel(address)
        watches = [HealthStub(channel).Watch(Request(service=service)) for service in ("", "add", "nope")]
        assert [(await watch.read()).status for watch in watches] == [SERVING, SERVING, UNKNOWN]
    assert [(await watch.read()).status for watch in watches[:2]] == [NOT_SERVING, NOT_SERVING]
    assert [await watch.read() for watch in watches] == [grpc.aio.EOF] * 3
    await channel.close()


async def test_a_watcher_that_is_being_told_when_it_drains_is_told_of_that_too() -> None:
    health = Health()
    health.open()
    told = health.watch(Request(service=""), None)
    assert (await anext(told)).status == SERVING
    health.drain()
    assert [answer.status async for answer in told] == [NOT_SERVING]


def test_reflection_shows_the_contract(tmp_path: Path) -> None:
    import asyncio

    def ask(address: str) -> list[str]:
        with grpc.insecure_channel(address) as channel:
            return list(ProtoReflectionDescriptorDatabase(channel).get_services())

    async def main() -> list[str]:
        async with serving(Options(tmp_path, "127.0.0.1:0")) as address:
            return await asyncio.to_thread(ask, address)

    assert {"inference.GRPCInferenceService", "grpc.health.v1.Health"} <= set(asyncio.run(main()))
