"""Lines of a gateway that stands alone; tests/headrace/test_access_log.py has those of both lanes."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
import pytest_asyncio
from grpc_health.v1 import health_pb2

from gateway.errors import StartError
from gateway.exchange import address_of
from protos import grpc_service_pb2 as pb
from tests.gateway import world as worlds
from tests.gateway.world import INFER, SERVICE, STREAM, World, hanging

MESSAGE = pb.ModelInferRequest(model_name="digits", model_version="canary", id="7").SerializeToString()


@pytest_asyncio.fixture
async def logged(tmp_path: Path) -> AsyncIterator[World]:
    async with worlds.world(tmp_path, lambda config: config["telemetry"].update(access_log="access.log")) as made:
        yield made


async def lines(world: World, count: int) -> list[dict[str, Any]]:
    """All lines, once there are so many."""
    async with asyncio.timeout(10):
        while (text := (world.folder / "access.log").read_text()).count("\n") < count:
            await asyncio.sleep(0.01)
    return [json.loads(line) for line in text.splitlines()]


async def test_a_line_says_who_asked_for_what_and_was_told_what(logged: World) -> None:
    metadata = [logged.bearer(), ("x-headrace-peer", "6.6.6.6"), ("x-request-id", "6" * 32)]
    answer = await logged.channel.unary_unary(INFER)(MESSAGE, metadata=metadata, timeout=10)
    (line,) = await lines(logged, 1)
    assert line.pop("headrace.request.id") == dict(logged.two.metadata[-1])["x-request-id"] != "6" * 32
    assert set(line.pop("time")) <= set("0123456789-:.TZ")
    assert 0 <= line.pop("duration_ms") < 10_000
    assert line == {
        "headrace.caller": "tester@https://id.example/",
        "headrace.grant": "scope=all",
        "headrace.lane": "python",
        "headrace.model.name": "digits",
        "headrace.model.version.asked": "canary",
        "http.request.body.size": len(MESSAGE) + 5,
        "http.response.body.size": len(answer) + 5,
        "network.peer.address": "127.0.0.1",
        "rpc.method": "inference.GRPCInferenceService/ModelInfer",
        "rpc.response.status_code": "OK",
    }


async def test_however_a_call_ends_it_has_one_line(logged: World) -> None:
    reached = asyncio.Event()
    channel, bearer = logged.channel, [logged.bearer()]
    said = []

    async def ends(call: Any, *words: str) -> None:
        with contextlib.suppress(grpc.aio.AioRpcError, asyncio.CancelledError):
            await call
        said.append(words)

    await ends(channel.unary_unary(SERVICE + "ServerMetadata")(b"", metadata=bearer), "ServerMetadata", "OK")
    await ends(channel.unary_unary(INFER)(MESSAGE), "ModelInfer", "UNAUTHENTICATED", "TOKEN_MISSING")
    await ends(logged.infer("secret"), "ModelInfer", "PERMISSION_DENIED", "NOT_GRANTED")
    await ends(logged.infer("dead"), "ModelInfer", "UNAVAILABLE", "MODEL_NOT_READY")
    await ends(
        channel.unary_unary(SERVICE + "ModelStatistics")(
            pb.ModelStatisticsRequest(name="digits").SerializeToString(), metadata=bearer
        ),
        "ModelStatistics",
        "INTERNAL",  # the worker says what is no answer
        "INTERNAL",
    )
    logged.one.behaviour[INFER] = hanging(reached)
    await ends(logged.infer(timeout=0.2), "ModelInfer", "DEADLINE_EXCEEDED")
    await ends(logged.infer("slow"), "ModelInfer", "DEADLINE_EXCEEDED", "DEADLINE")
    reached.clear()
    task = asyncio.ensure_future(logged.infer())
    await reached.wait()
    task.cancel()
    await ends(task, "ModelInfer", "CANCELLED")
    stream = channel.stream_stream(STREAM)(metadata=bearer)
    await stream.write(MESSAGE)
    await stream.read()
    stream.cancel()
    await ends(stream.code(), "ModelStreamInfer", "CANCELLED")
    await channel.unary_unary("/grpc.health.v1.Health/Check")(health_pb2.HealthCheckRequest().SerializeToString())
    found = await lines(logged, len(said))
    assert [
        tuple(
            word
            for word in (
                line["rpc.method"].rpartition("/")[2],
                line["rpc.response.status_code"],
                line.get("headrace.reason"),
            )
            if word
        )
        for line in found
    ] == said
    assert len({line["headrace.request.id"] for line in found}) == len(said)


async def test_a_file_that_cannot_be_opened_is_told_at_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_args: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("gateway.access_log.os.open", refuse)
    with pytest.raises(StartError, match=r"the access log .*/access.log cannot be opened: Permission denied"):
        async with worlds.world(tmp_path, lambda config: config["telemetry"].update(access_log="access.log")):
            pass


@pytest.mark.parametrize(
    ("peer", "address"),
    [
        ("ipv4:10.0.0.1:4242", "10.0.0.1"),
        ("ipv6:%5B::1%5D:80", "::1"),
        ("ipv6:[2001:db8::1]:80", "2001:db8::1"),
        ("ipv6:%5B::ffff:10.0.0.1%5D:80", "10.0.0.1"),
        ("unix:/tmp/python.sock", ""),
        ("unix:", ""),
        ("", ""),
    ],
)
def test_addresses_of_peers(peer: str, address: str) -> None:
    assert address_of(peer) == address
