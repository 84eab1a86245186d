"""Whose work it is follows the work, and not what outlives it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from opentelemetry.trace import INVALID_SPAN_CONTEXT, SpanContext

from protos import of_call


@dataclass
class Call:
    request_id: str
    span_context: SpanContext = INVALID_SPAN_CONTEXT


def whose() -> str | None:
    call = of_call.now()
    return call.request_id if call else None


async def test_each_call_is_its_own() -> None:
    async def handle(name: str) -> tuple[str | None, ...]:
        of_call.begin(Call(name))
        await asyncio.sleep(0)
        return whose(), await asyncio.to_thread(whose), await asyncio.create_task(asked())

    async def asked() -> str | None:
        return whose()

    assert await asyncio.gather(*map(handle, "ab")) == [("a",) * 3, ("b",) * 3]
    assert whose() is None


async def test_what_outlives_a_call_is_nobodys() -> None:
    async def asked() -> str | None:
        return whose()

    async def handle() -> tuple[str | None, str | None]:
        of_call.begin(Call("a"))
        return await asyncio.create_task(asked(), context=of_call.nobodys()), whose()

    assert await asyncio.create_task(handle()) == (None, "a")
