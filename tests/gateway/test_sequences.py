"""Sequences through the gateway to real workers, some of which die: no caller gets another copy's state."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
import pytest_asyncio

from gateway.server import serving
from gateway.settings import load
from headrace.rendering import source_of
from mesh.istio.mesh_config import MeshConfig
from mesh.local.plan import Gateway, Plan
from mesh.local.state import besides
from mesh.local.up import Options, Watcher
from mesh.local.up import running as up
from mesh.render import folder
from mesh.render.files import render
from protos import grpc_service_pb2 as pb
from protos.grpc_service_pb2_grpc import GRPCInferenceServiceStub
from tests.envoy import ENVOY, needs_envoy
from tests.gateway.test_service import refused
from tests.gateway.tokens import Issuer
from tests.gateway.world import CLIENT, INFER, STREAM, Refusal
from tests.workers import zoo
from tests.workers.calling import floats, fp32, in_sequence

Code = grpc.StatusCode
HOST = "sum.models.svc.cluster.local:8001"
SEQUENCES = range(1, 17)
PROGRAM = """
import sys
from pathlib import Path
from workers.server import Options, run
sys.exit(run(Options(Path(sys.argv[1]), sys.argv[2])))
"""


@dataclass
class Copy:
    """A worker, in a process of its own."""

    repository: Path
    address: str = "127.0.0.1:0"
    process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start it, at the address that it has had before."""
        self.process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", PROGRAM, str(self.repository), self.address), stdout=asyncio.subprocess.PIPE
        )
        async with asyncio.timeout(60):
            line = (await self.process.stdout.readline()).decode()
        self.address = line.split()[-1]

    async def kill(self) -> None:
        """As the kernel does when there is no memory."""
        if self.process is not None and self.process.returncode is None:
            self.process.kill()
            await self.process.wait()


class Wire:
    """The way to a copy, which can be cut while the copy lives."""

    def __init__(self, copy: Copy) -> None:
        self._copy = copy
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self.address = "127.0.0.1:0"

    async def join(self) -> None:
        host, _, port = self.address.rpartition(":")
        self._server = await asyncio.start_server(self._carry, host, int(port))
        self.address = f"{host}:{self._server.sockets[0].getsockname()[1]}"

    async def cut(self) -> None:
        if self._server is not None:
            self._server.close()
            for writer in self._writers:
                writer.transport.abort()
            await self._server.wait_closed()

    async def _carry(self, near: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        host, _, port = self._copy.address.rpartition(":")
        with contextlib.suppress(OSError):
            far, on = await asyncio.open_connection(host, int(port))
            self._writers |= {back, on}
            await asyncio.gather(_pipe(near, on), _pipe(far, back))
        back.close()


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    writer.close()


@dataclass
class World:
    """A gateway before two copies of `sum`, whose sequences add up what they are sent; to the first leads a wire."""

    copies: list[Copy]
    wire: Wire
    channel: grpc.aio.Channel
    issuer: Issuer
    repository: Path

    def bearer(self, caller: str = "alice") -> list[tuple[str, str]]:
        return [("authorization", f"Bearer {self.issuer.token(sub=caller)}")]

    async def add(
        self, sequence: int | str, x: float, *, caller: str = "alice", model: str = "sum", **flags: bool
    ) -> float:
        message = in_sequence(model, sequence, x=floats(x), **flags).SerializeToString()
        call = self.channel.unary_unary(INFER)(message, metadata=self.bearer(caller), timeout=10)
        return float(fp32(pb.ModelInferResponse.FromString(await call))[0])

    async def outcome(self, sequence: int, x: float, model: str = "sum", **flags: bool) -> float | Refusal:
        """What comes of it: the sum, or what was refused."""
        asked = asyncio.ensure_future(self.add(sequence, x, model=model, **flags))
        await asyncio.wait([asked])
        return asked.result() if asked.exception() is None else await refused(asked)

    async def outcomes(self, x: float, **flags: bool) -> dict[int, float | Refusal]:
        """Of all sequences at once."""
        outcomes = await asyncio.gather(*(self.outcome(sequence, x, **flags) for sequence in SEQUENCES))
        return dict(zip(SEQUENCES, outcomes, strict=True))


def configuration(issuer: Issuer, copies: list[str], upstream: dict[str, Any]) -> dict[str, Any]:
    return {
        "listen": {"address": "127.0.0.1:0", "admin": None, "notice": "1ms"},
        "issuers": [
            {"issuer": issuer.name, "audiences": ["headrace"], "jwks": "file:jwks.json", "algorithms": ["ES256"]}
        ],
        "grants": [{"to": {"issuer": issuer.name}, "models": ["*"], "actions": ["infer"]}],
        "models": [
            {"name": name, "host": HOST, "workload": {"app": "sum"}, "versions": {"1": {"v": "1"}}, "sequence": True}
            | {"ejection": {"errors": 3, "interval": "50ms", "time": "500ms"}}
            for name in ("sum", "slow")
        ],
        "upstream": {**upstream, "endpoints": {name: {"1": copies} for name in ("sum", "slow")}},
    }


@contextlib.asynccontextmanager
async def meshed(scratch: Path, config: dict[str, Any]) -> AsyncIterator[str]:
    """The mesh of the configuration among the real processes; gives where the gateway's sidecar takes its calls."""
    path = scratch / "headrace.yaml"
    path.write_text(json.dumps(config))
    resources = scratch / "istio"
    folder.apply(resources, folder.changes(render(source_of(load(path, {})), {}), {}))
    (envoys := scratch / "envoys").mkdir()
    plans: list[Plan] = []
    options = Options(resources, Path(ENVOY or ""), MeshConfig(), Gateway(), timedelta(days=1))
    async with up(options, envoys, Watcher(lambda _plan: None, plans.append, lambda _words: None)):
        (gateway,) = [one for one in besides(plans[-1]) if not one.ports]
        yield gateway.outbound


@pytest_asyncio.fixture(params=["direct", pytest.param("mesh", marks=needs_envoy)])
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    repository = tmp_path / "models"
    zoo.running_sum(repository)
    zoo.gated(repository, f"{zoo.ONE_IN_ONE_OUT} sequence_batching {{ }}", "slow")
    issuer = Issuer()
    (tmp_path / "jwks.json").write_bytes(issuer.jwks())
    async with contextlib.AsyncExitStack() as stack:
        copies = [Copy(repository), Copy(repository)]
        for copy in copies:
            stack.push_async_callback(copy.kill)
        await asyncio.gather(*(copy.start() for copy in copies))
        wire = Wire(copies[0])
        await wire.join()
        stack.push_async_callback(wire.cut)
        addresses = [wire.address, copies[1].address]
        upstream: dict[str, Any] = {"mode": "direct"}
        if request.param == "mesh":
            config = configuration(issuer, addresses, {"mode": "mesh"})
            upstream = {"mode": "mesh", "proxy": await stack.enter_async_context(meshed(tmp_path, config))}
        path = tmp_path / "headrace.yaml"
        path.write_text(json.dumps(configuration(issuer, addresses, upstream)))
        gateway = await stack.enter_async_context(serving(load(path, {}), environ={}))
        channel = await stack.enter_async_context(grpc.aio.insecure_channel(gateway.grpc, options=CLIENT))
        yield World(copies, wire, channel, issuer, repository)


def refusals(outcomes: dict[int, float | Refusal]) -> set[int]:
    """The sequences that were refused, each as one that is lost, and by its own name."""
    refused_ones = {sequence: outcome for sequence, outcome in outcomes.items() if isinstance(outcome, Refusal)}
    for sequence, outcome in refused_ones.items():
        assert outcome.reason == "SEQUENCE_LOST"
        assert outcome.status in (Code.INVALID_ARGUMENT, Code.ABORTED)  # by another copy, or none that answers
        assert f"sequence {sequence} " in outcome.text
    return set(refused_ones)


async def test_no_caller_gets_anothers_state(world: World) -> None:
    # Each copy's sequences are its own, whoever sends at once.
    assert set((await world.outcomes(1, start=True)).values()) == {1}
    assert set((await world.outcomes(10)).values()) == {11}

    # Callers with the same ids do not meet.
    assert (await refused(world.add(1, 1, caller="bob"))).reason == "SEQUENCE_LOST"
    assert await world.add(1, 7, caller="bob", start=True) == 7
    assert await world.add("1", 5, start=True) == 5
    assert set((await world.outcomes(100)).values()) == {111}
    assert await world.add(1, 7, caller="bob", end=True) == 14

    # A copy that is away for a moment: what is sent meanwhile is refused, and not in its state when it is back.
    await world.wire.cut()
    async with asyncio.timeout(20):
        while not (away := refusals(await world.outcomes(1000, start=False))):
            await asyncio.sleep(0.02)
    assert away < set(SEQUENCES)
    sums = dict.fromkeys(away, 111.0)
    await world.wire.join()
    async with asyncio.timeout(20):
        while sums:
            outcomes = {sequence: await world.outcome(sequence, 0) for sequence in sums}
            back = outcomes.keys() - refusals(outcomes)
            assert all(outcomes[sequence] == 111 for sequence in back)
            sums = {sequence: 111.0 for sequence in sums if sequence not in back}
            await asyncio.sleep(0.05)

    # A copy that dies takes its sequences along, and no others.
    await world.copies[0].kill()
    outcomes = await world.outcomes(0)
    assert refusals(outcomes) == away
    stays = {sequence: outcome for sequence, outcome in outcomes.items() if sequence not in away}
    assert set(stays.values()) != {111}  # they have gone on meanwhile
    one = min(away)
    async with asyncio.timeout(20):
        while await world.outcome(1000 + one, 1, start=True) != 1:  # under another id it begins anew
            await asyncio.sleep(0.05)
    assert refusals({one: await world.outcome(one, 1)}) == {one}

    # And the one that takes its place knows nothing of them.
    await world.copies[0].start()
    fresh = itertools.count(3000)
    async with asyncio.timeout(20):
        while not await has_served(world.copies[0]):
            await world.outcome(next(fresh), 0, start=True)
            outcomes = await world.outcomes(0)
            assert refusals(outcomes) == away
            assert stays == {sequence: outcomes[sequence] for sequence in stays}


async def has_served(copy: Copy) -> bool:
    """Whether a sequence has begun at the copy."""
    async with grpc.aio.insecure_channel(copy.address) as channel:
        asked = pb.ModelStatisticsRequest(name="sum")
        (row,) = (await GRPCInferenceServiceStub(channel).ModelStatistics(asked)).model_stats
    return row.inference_stats.success.count > 0


async def test_what_is_under_way_with_a_copy_that_dies_is_lost(world: World) -> None:
    def message(sequence: int, **flags: bool) -> bytes:
        return in_sequence("sum", sequence, id=str(sequence), x=floats(1), **flags).SerializeToString()

    async def exchange(call: grpc.aio.StreamStreamCall, sequence: int, **flags: bool) -> pb.ModelStreamInferResponse:
        await call.write(message(sequence, **flags))
        return pb.ModelStreamInferResponse.FromString(await call.read())

    def opened() -> grpc.aio.StreamStreamCall:
        return world.channel.stream_stream(STREAM)(metadata=world.bearer(), timeout=30)

    call = opened()
    for flags in ({"start": True}, {}):
        for sequence in SEQUENCES:
            answer = await exchange(call, sequence, **flags)
            assert fp32(answer.infer_response)[0] == (1 if flags else 2)
    unknown = await exchange(call, 99)
    assert "sequence 99 to model 'sum' must specify the START flag" in unknown.error_message

    await world.copies[0].kill()
    told = await refused(call.read())  # nobody could say which messages are lost
    assert (told.status, told.reason) == (Code.ABORTED, "SEQUENCE_LOST")
    call = opened()
    for sequence in SEQUENCES:
        answer = await exchange(call, sequence)
        if answer.error_message:
            assert f"sequence {sequence} to model 'sum' must specify the START flag" in answer.error_message
        else:
            assert fp32(answer.infer_response)[0] == 3
    call.cancel()

    gate = zoo.Gate(world.repository / "slow")
    async with asyncio.timeout(20):
        while await world.outcome(7, 1, model="slow", start=True) != 2:
            await asyncio.sleep(0.05)
    ran = gate.ran()
    gate.shut()
    under_way = asyncio.ensure_future(world.add(7, 2, model="slow"))
    async with asyncio.timeout(10):
        while "2" not in gate.ran():
            await asyncio.sleep(0.01)
    await world.copies[1].kill()
    told = await refused(under_way)
    assert (told.status, told.reason, told.retry_after) == (Code.ABORTED, "SEQUENCE_LOST", None)
    assert "sequence 7 " in told.text
    assert gate.ran() == [*ran, "2"]  # and is not sent again
