"""Direct mode: what gRPC's own client does where there is no mesh."""

import asyncio
import contextlib
from collections import Counter
from pathlib import Path

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2

from protos import grpc_service_pb2 as pb
from tests.gateway import world as worlds
from tests.gateway.test_service import refused
from tests.gateway.world import INFER, Worker, World, echo, running

Code = grpc.StatusCode


@contextlib.asynccontextmanager
async def copies(folder: Path, *workers: Worker, retries: dict | None = None):
    """A world in which version 1 of `digits` has these copies."""
    async with contextlib.AsyncExitStack() as stack:
        for worker in workers:
            await stack.enter_async_context(running(worker))

        def change(config: dict) -> None:
            config["upstream"]["endpoints"]["digits"]["1"] = [worker.address for worker in workers]
            if retries is not None:
                config["models"][0]["retries"] = retries

        yield await stack.enter_async_context(worlds.world(folder, change))


def failing_first(times: int, status: grpc.StatusCode) -> worlds.Behaviour:
    left = times

    async def answer(message: bytes, context: grpc.aio.ServicerContext) -> bytes:
        nonlocal left
        if left:
            left -= 1
            await context.abort(status, "not now")
        return await echo(message, context)

    return answer


async def until_spread(world: World, *workers: Worker) -> None:
    """Call until every copy has been reached."""
    async with asyncio.timeout(10):
        while not all(worker.calls for worker in workers):
            await world.infer()


async def test_calls_go_round_the_copies(tmp_path: Path) -> None:
    first, second = Worker(), Worker()
    async with copies(tmp_path, first, second) as world:
        await until_spread(world, first, second)
        before = Counter({"first": len(first.calls), "second": len(second.calls)})
        for _ in range(20):
            await world.infer()
        assert len(first.calls) - before["first"] == len(second.calls) - before["second"] == 10


async def test_a_copy_that_is_not_serving_gets_no_calls(tmp_path: Path) -> None:
    sick, well = Worker(), Worker()
    async with copies(tmp_path, sick, well) as world:
        await until_spread(world, sick, well)
        sick.health = health_pb2.HealthCheckResponse.NOT_SERVING
        async with asyncio.timeout(10):
            while True:  # until the channel has heard of it
                before = len(sick.calls)
                for _ in range(6):
                    await world.infer()
                if len(sick.calls) == before:
                    break
        sick.health = health_pb2.HealthCheckResponse.SERVING
        before = len(sick.calls)
        async with asyncio.timeout(10):
            while len(sick.calls) == before:
                await world.infer()


async def test_unavailable_is_tried_again_as_the_model_says(tmp_path: Path) -> None:
    worker = Worker({INFER: failing_first(2, Code.UNAVAILABLE)})
    async with copies(tmp_path, worker, retries={"attempts": 2}) as world:
        assert (await world.infer()).id == "7"
        assert len(worker.calls) == 3


async def test_a_large_call_is_tried_again_too(tmp_path: Path) -> None:
    """Left alone, gRPC holds no more than 256 KiB to send again."""
    worker = Worker({INFER: failing_first(1, Code.UNAVAILABLE)})
    request = pb.ModelInferRequest(model_name="digits", raw_input_contents=[bytes(4 * 1024**2)])
    async with copies(tmp_path, worker, retries={"attempts": 1}) as world:
        await world.call("ModelInfer", request.SerializeToString())
    assert len(worker.calls) == 2


async def test_without_attempts_nothing_is_tried_again(tmp_path: Path) -> None:
    worker = Worker({INFER: failing_first(1, Code.UNAVAILABLE)})
    async with copies(tmp_path, worker, retries={"attempts": 0}) as world:
        assert (await refused(world.infer())).reason == "MODEL_NOT_READY"
        assert len(worker.calls) == 1


async def test_shed_load_is_not_tried_again(tmp_path: Path) -> None:
    worker = Worker({INFER: failing_first(1, Code.RESOURCE_EXHAUSTED)})
    async with copies(tmp_path, worker) as world:
        assert (await refused(world.infer())).reason == "OVERLOADED"
        assert len(worker.calls) == 1


async def test_retries_stop_where_nothing_works(tmp_path: Path) -> None:
    """Retry throttling: an outage is not made worse by three times the calls."""
    worker = Worker({INFER: failing_first(10_000, Code.UNAVAILABLE)})
    async with copies(tmp_path, worker, retries={"attempts": 2}) as world:
        for _ in range(100):
            await refused(world.infer())
        before = len(worker.calls)
        for _ in range(20):
            await refused(world.infer())
        assert len(worker.calls) - before == 20


# ---- sequences ----


def in_sequence(sequence: int, *, start: bool = False) -> bytes:
    request = pb.ModelInferRequest(model_name="digits", id=str(sequence))
    request.parameters["sequence_id"].int64_param = sequence
    request.parameters["sequence_start"].bool_param = start
    return request.SerializeToString()


async def copy_of_each(world: World, workers: dict[str, Worker], sequences: range) -> dict[int, set[str]]:
    """Which copies have got the calls of each sequence, of all at once, several of each."""
    for worker in workers.values():
        worker.calls.clear()
    await asyncio.gather(*(world.call("ModelInfer", in_sequence(number)) for number in sequences for _ in range(3)))
    seen: dict[int, set[str]] = {number: set() for number in sequences}
    for name, worker in workers.items():
        for message in worker.infers():
            seen[int(pb.ModelInferRequest.FromString(message).id)].add(name)
    return seen


async def test_a_sequence_stays_with_its_copy_and_few_move(tmp_path: Path) -> None:
    sequences = range(1, 61)
    async with contextlib.AsyncExitStack() as stack:
        workers = {name: await stack.enter_async_context(running(Worker())) for name in "abc"}

        def at(*names: str) -> dict:
            return {"1": [workers[name].address for name in names], "2": [workers["a"].address]}

        def change(config: dict) -> None:
            config["models"][0]["sequence"] = True
            config["upstream"]["endpoints"]["digits"] = at("a", "b")

        world = await stack.enter_async_context(worlds.world(tmp_path, change))
        before = await copy_of_each(world, workers, sequences)
        assert {len(copies) for copies in before.values()} == {1}
        assert set().union(*before.values()) == {"a", "b"}

        (again := tmp_path / "again").mkdir()
        other = await stack.enter_async_context(worlds.world(again, change))  # another gateway, with keys of its own
        assert await copy_of_each(other, workers, sequences) == before

        world.configure(lambda config: config["upstream"]["endpoints"].update(digits=at("a", "b", "c")))
        async with asyncio.timeout(10):
            after = before
            while after == before or {len(copies) for copies in after.values()} != {1}:  # until all is as it is now
                after = await copy_of_each(world, workers, sequences)
        moved = {number for number in sequences if after[number] != before[number]}
        assert moved == {number for number in sequences if after[number] == {"c"}}  # none between the two others
        assert 0 < len(moved) < 40


async def test_a_copy_that_is_not_serving_gives_up_its_sequences_alone(tmp_path: Path) -> None:
    workers = {"a": Worker(), "b": Worker()}

    def change(config: dict) -> None:
        config["models"][0]["sequence"] = True
        config["upstream"]["endpoints"]["digits"]["1"] = [worker.address for worker in workers.values()]

    async with contextlib.AsyncExitStack() as stack:
        for worker in workers.values():
            await stack.enter_async_context(running(worker))
        world = await stack.enter_async_context(worlds.world(tmp_path, change))
        before = await copy_of_each(world, workers, range(1, 21))
        assert set().union(*before.values()) == {"a", "b"}
        workers["a"].health = health_pb2.HealthCheckResponse.NOT_SERVING
        async with asyncio.timeout(10):
            while set().union(*(await copy_of_each(world, workers, range(1, 21))).values()) != {"b"}:
                await asyncio.sleep(0.05)
        workers["a"].health = health_pb2.HealthCheckResponse.SERVING
        async with asyncio.timeout(10):
            while await copy_of_each(world, workers, range(1, 21)) != before:
                await asyncio.sleep(0.05)


async def test_without_state_the_calls_of_a_sequence_go_anywhere(tmp_path: Path) -> None:
    workers = {"a": Worker(), "b": Worker()}
    async with copies(tmp_path, *workers.values()) as world:
        await until_spread(world, *workers.values())
        seen = await copy_of_each(world, workers, range(1, 10))
    assert {"a", "b"} in seen.values()


async def test_a_call_of_a_sequence_is_not_tried_again(tmp_path: Path) -> None:
    worker = Worker({INFER: failing_first(9, Code.UNAVAILABLE)})

    def change(config: dict) -> None:
        config["models"][0]["sequence"] = True
        config["upstream"]["endpoints"]["digits"]["1"] = [worker.address]

    async with running(worker), worlds.world(tmp_path, change) as world:
        told = await refused(world.call("ModelInfer", in_sequence(7)))
        assert (told.status, told.reason) == (Code.ABORTED, "SEQUENCE_LOST")
        begun = await refused(world.call("ModelInfer", in_sequence(7, start=True)))
        assert (begun.status, begun.reason) == (Code.UNAVAILABLE, "MODEL_NOT_READY")  # it may begin once more
        assert len(worker.calls) == 2
