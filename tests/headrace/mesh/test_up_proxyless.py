"""`headrace mesh up --xds`: a gateway without a sidecar calls workers that have one."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import grpc
import grpc.aio
import pytest

from tests.envoy import needs_envoy
from tests.gateway.tokens import Issuer
from tests.gateway.world import CLIENT
from tests.gateway.xds_world import Gateway, calls, load, settings, started
from tests.headrace.mesh.up_scene import Copies, Up, laid_out, listening_copies, replace, running, tried
from tests.mesh.local.scene import eventually, for_grpc, weighed

pytestmark = [needs_envoy, pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def copies() -> Iterator[Copies]:
    with listening_copies() as made:
        yield made


def proxyless(path: Path, copies: Copies) -> Path:
    """The resources of `laid_out`, for a gateway without a sidecar."""
    resources = laid_out(path, copies)
    replace(resources / "routes.yaml", for_grpc(weighed(100)))
    return resources


@contextlib.asynccontextmanager
async def gateway(up: Up, path: Path) -> AsyncIterator[Gateway]:
    """A gateway that is started as `mesh up` says."""
    bootstrap = up.says(r"^infer/gateway has no sidecar; run it with GRPC_XDS_BOOTSTRAP=(\S+)$")[1]
    issuer = Issuer()
    async with (
        started(settings(path, issuer), {"GRPC_XDS_BOOTSTRAP": bootstrap}) as address,
        grpc.aio.insecure_channel(address, options=CLIENT) as channel,
    ):
        yield Gateway(channel, issuer)


def answered(copies: Copies, name: str) -> int:
    return len(copies.workers[name].requests)


async def test_it_calls_by_mtls_and_follows_the_folder(copies: Copies, tmp_path: Path) -> None:
    """Workers take the gateway's identity alone, so that each answer proves it."""
    with running(proxyless(tmp_path / "istio", copies), at="--xds=127.0.0.1:0") as up:
        assert up.address.startswith("127.0.0.1:")
        assert len(up.envoys) == 3
        async with gateway(up, tmp_path) as door:
            await calls(door.infer, 20)
            assert answered(copies, "canary") == 0
            async with load(door.infer, at_once=4):
                replace(up.folder / "routes.yaml", for_grpc(weighed(0)))
                began = time.monotonic()
                while not answered(copies, "canary"):
                    assert time.monotonic() - began < 10
                    await asyncio.sleep(0.01)
            others = up.folder.joinpath("policies.yaml").read_text().replace("sa/gateway", "sa/someone")
            replace(up.folder / "policies.yaml", others)
            async with asyncio.timeout(20):
                while await succeeds(door):  # by the connection that it still has, once more
                    await asyncio.sleep(0.01)
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await door.infer()
            assert refused.value.code() is grpc.StatusCode.INTERNAL
        up.process.terminate()
        assert up.ends() == 0


async def test_the_gateway_outlives_the_mesh(copies: Copies, tmp_path: Path) -> None:
    """The next mesh has another authority, and the workers' sidecars other addresses."""
    resources = proxyless(tmp_path / "istio", copies)
    with contextlib.ExitStack() as stack:
        up = stack.enter_context(running(resources, at="--xds=127.0.0.1:0"))
        address = up.address
        async with gateway(up, tmp_path) as door:
            await door.infer()
            up.process.kill()
            await asyncio.to_thread(eventually, lambda: not up.envoys, "the end of its Envoys")
            again = stack.enter_context(running(resources, at=f"--xds={address}"))
            assert again.address == address
            async with asyncio.timeout(90):
                while not await succeeds(door):
                    await asyncio.sleep(0.1)


async def succeeds(door: Gateway) -> bool:
    try:
        await door.infer()
    except grpc.aio.AioRpcError:
        return False
    return True


def test_what_cannot_be_is_said(copies: Copies, tmp_path: Path) -> None:
    resources = laid_out(tmp_path / "istio", copies)
    done = tried(resources, "--xds", "127.0.0.1:0")
    assert done.returncode == 1
    assert "spec.http[0].timeout: gRPC" in done.stderr
    done = tried(resources, "--xds", "127.0.0.1:0", "--proxy", "127.0.0.1:0")
    assert done.returncode == 2
    assert "a gateway that has no sidecar has no --proxy" in done.stderr
    done = tried(resources, "--xds", "0.0.0.0:15010")
    assert "no IPv4 address of the loopback" in done.stderr
