"""The lane's question is answered by a thread: while the loop is busy, and no longer once it hangs."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest

from gateway import asked
from gateway.lane import ASK_PATH, Generation


def told(socket: Path) -> tuple[float, str]:
    """When it was told, and what."""
    with grpc.insecure_channel(f"unix:{socket}", options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
        _, call = channel.unary_unary(ASK_PATH).with_call(b"", timeout=5)
        found = str(dict(call.initial_metadata())["x-headrace-generation"])
        return time.monotonic(), found


async def test_a_busy_loop_does_not_keep_it_from_an_answer(tmp_path: Path) -> None:
    async with asked.answering(Generation(lambda: 1), f"unix:{tmp_path / 's'}"):
        with ThreadPoolExecutor(1) as others:
            asking = others.submit(told, tmp_path / "s")
            time.sleep(1)  # noqa: ASYNC251 - the loop is busy
            over = time.monotonic()
            at, word = await asyncio.wrap_future(asking)
    assert at < over
    assert len(word) == 16


async def test_a_loop_that_hangs_tells_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asked, "_HANGS", 0.3)
    async with asked.answering(Generation(lambda: 1), f"unix:{tmp_path / 's'}"):
        await asyncio.sleep(0.15)
        with ThreadPoolExecutor(1) as others:
            time.sleep(0.5)  # noqa: ASYNC251 - it hangs
            asking = others.submit(told, tmp_path / "s")
            time.sleep(0.5)  # noqa: ASYNC251
            assert asking.result()[1] == "-"
            await asyncio.sleep(0.2)
            assert len((await asyncio.wrap_future(others.submit(told, tmp_path / "s")))[1]) == 16


async def test_where_there_shall_be_no_lessons_it_says_so(tmp_path: Path) -> None:
    async with asked.answering(Generation(lambda: None), f"unix:{tmp_path / 's'}"):
        assert (await asyncio.to_thread(told, tmp_path / "s"))[1] == "-"
