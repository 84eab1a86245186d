"""Whether calls may come, and who is woken when that ends."""

from __future__ import annotations

import asyncio

import grpc
import pytest

from gateway.readiness import Readiness
from protos.errors import HeadraceError, Reason


async def test_ready_is_as_verification_is() -> None:
    verifiable = False
    readiness = Readiness(lambda: verifiable)
    assert not readiness.ready
    verifiable = True
    assert readiness.ready
    verifiable = False
    assert not readiness.ready
    assert not readiness.closing


async def test_not_ready_while_calls_cannot_be_audited() -> None:
    failing = True
    readiness = Readiness(lambda: True, lambda: failing)
    assert not readiness.ready
    with pytest.raises(HeadraceError) as caught:
        readiness.account()
    assert (caught.value.status, caught.value.reason) == (grpc.StatusCode.UNAVAILABLE, Reason.AUDIT_UNAVAILABLE)
    failing = False
    assert readiness.ready
    readiness.account()


async def test_draining_and_closing() -> None:
    readiness = Readiness(lambda: True)
    assert (readiness.ready, readiness.closing) == (True, False)
    readiness.drain()
    assert (readiness.ready, readiness.closing) == (False, False)
    readiness.close()
    assert (readiness.ready, readiness.closing) == (False, True)


async def test_those_who_wait_are_woken_by_draining_and_then_by_closing() -> None:
    readiness = Readiness(lambda: True)
    async with asyncio.timeout(5):
        waiters = [asyncio.create_task(readiness.changes(60)) for _ in range(3)]
        await asyncio.sleep(0)
        assert not any(waiter.done() for waiter in waiters)
        readiness.drain()
        await asyncio.gather(*waiters)
        waiter = asyncio.create_task(readiness.changes(60))
        done, _ = await asyncio.wait({waiter}, timeout=0.05)  # time enough to return, were it woken by draining
        assert not done
        readiness.close()
        await waiter
        await readiness.changes(60)  # once closed, nobody waits


async def test_nobody_waits_for_longer_than_asked() -> None:
    readiness = Readiness(lambda: True)
    async with asyncio.timeout(5):
        await readiness.changes(0.01)
    assert readiness.ready


async def test_a_turn_that_has_come_since_is_not_missed() -> None:
    readiness = Readiness(lambda: True)
    turn = readiness.turn()
    readiness.drain()
    async with asyncio.timeout(5):
        await readiness.changes(60, turn)
