"""Management across real copies: several workers of our own, each with a repository of its own."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import pytest_asyncio
import tritonclient.grpc.aio as triton
from tritonclient.utils import InferenceServerException

from gateway.direct import Direct
from gateway.server import serving
from gateway.settings import load
from tests.gateway.tokens import Issuer
from tests.gateway.world import in_front_of
from tests.workers import zoo
from workers.server import Options
from workers.server import serving as worker_serving

pytestmark = pytest.mark.asyncio(loop_scope="module")


@dataclass
class Copies:
    """Three copies of `add`, and tritonclient in front of them all and of each."""

    folders: list[Path]
    client: triton.InferenceServerClient
    each: list[triton.InferenceServerClient]
    headers: dict[str, str]

    async def ready(self) -> list[bool]:
        return [await client.is_model_ready("add") for client in self.each]

    async def index(self) -> list[tuple[str, str, str]]:
        index = await self.client.get_model_repository_index(headers=self.headers)
        return [(row.version, row.state, row.reason) for row in index.models]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def made(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Copies]:
    issuer, folders = Issuer(), [tmp_path_factory.mktemp(f"copy{number}") for number in range(3)]
    async with contextlib.AsyncExitStack() as stack:
        addresses = []
        for folder in folders:
            zoo.add(folder)
            addresses.append(await stack.enter_async_context(worker_serving(Options(folder, "127.0.0.1:0"))))
        upstream = {"endpoints": {"add": {"1": addresses}}}
        config = in_front_of(addresses[0], tmp_path_factory.mktemp("gateway"), issuer, "add", upstream=upstream)
        door = await stack.enter_async_context(serving(load(config, {})))
        client, *each = [
            await stack.enter_async_context(triton.InferenceServerClient(at)) for at in (door.grpc, *addresses)
        ]
        yield Copies(folders, client, each, {"authorization": f"Bearer {issuer.token()}"})


@pytest.fixture
def copies(made: Copies) -> Copies:
    return made


@pytest.fixture
def one_hears(monkeypatch: pytest.MonkeyPatch) -> None:
    """The defence away: a call goes to the first copy alone."""
    every = Direct.copies

    async def first(self: Direct, route: object) -> object:
        return (await every(self, route))[:1]  # type: ignore[arg-type]

    monkeypatch.setattr(Direct, "copies", first)


async def test_load_and_unload_reach_every_copy(copies: Copies) -> None:
    await copies.client.unload_model("add", headers=copies.headers)
    assert await copies.ready() == [False, False, False]
    assert await copies.index() == [("1", "UNAVAILABLE", "unloaded")]
    await copies.client.load_model("add", headers=copies.headers)
    assert await copies.ready() == [True, True, True]
    assert await copies.index() == [("1", "READY", "")]


@pytest.mark.usefixtures("one_hears")
async def test_otherwise_one_would_hear_it(copies: Copies) -> None:
    await copies.client.unload_model("add", headers=copies.headers)
    assert await copies.ready() == [False, True, True]
    await copies.client.load_model("add", headers=copies.headers)


async def test_a_copy_that_cannot_load_is_named_and_seen_in_the_index(copies: Copies) -> None:
    model = copies.folders[1] / "add" / "1" / "model.onnx"
    whole = model.read_bytes()
    try:
        model.write_bytes(b"broken")
        await copies.client.unload_model("add", headers=copies.headers)
        with pytest.raises(InferenceServerException) as refused:
            await copies.client.load_model("add", headers=copies.headers)
        assert "1 of 3 copies failed: add 1, copy 2: " in str(refused.value)
        assert await copies.ready() == [True, False, True]
        ((version, state, reason),) = await copies.index()
        assert (version, state) == ("1", "UNAVAILABLE")
        assert reason.startswith("of 3 copies: READY on 2, UNAVAILABLE on 1; ")
    finally:
        model.write_bytes(whole)
    await copies.client.load_model("add", headers=copies.headers)
    assert await copies.index() == [("1", "READY", "")]


async def test_statistics_are_those_of_all_copies(copies: Copies) -> None:
    async def counted(client: triton.InferenceServerClient, headers: dict[str, str] | None = None) -> int:
        (row,) = (await client.get_inference_statistics("add", headers=headers)).model_stats
        assert row.inference_stats.success.count == sum(batch.compute_infer.count for batch in row.batch_stats)
        return int(row.inference_count)

    before = await counted(copies.client, copies.headers)
    tensors = [triton.InferInput(name, [1, 2], "FP32") for name in "ab"]
    for tensor in tensors:
        tensor.set_data_from_numpy(np.ones((1, 2), np.float32))
    for _ in range(12):
        await copies.client.infer("add", tensors, headers=copies.headers)
    each = [await counted(client) for client in copies.each]
    assert all(count < before + 12 for count in each)
    assert await counted(copies.client, copies.headers) == sum(each) == before + 12
