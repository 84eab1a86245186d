from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from mesh.envoy.proto import Json
from mesh.local.config import Config
from mesh.local.failure import MeshError
from mesh.local.fleet import Fleet
from mesh.local.plan import Plan
from mesh.local.workloads import Key
from tests.envoy import needs_envoy
from tests.mesh.local.scene import ALL, envoys_at, fleet, free_places, in_force, names, only, planned

pytestmark = needs_envoy

GATEWAY, ONE, TWO = ("infer", "gateway"), ("models", "one"), ("models", "two")


def spoilt(plan: Plan, key: Key) -> Plan:
    """A plan of which one sidecar's Envoy will not have a part: made by hand, below the compiler."""
    bad: Json = {"name": "bad", "domains": ["*"], "routes": []}
    routes: dict[str, Any] = dict(plan.configs[key].routes)
    routes["virtual_hosts"] = [*routes["virtual_hosts"], bad]
    config: Config = replace(plan.configs[key], routes=routes)
    return replace(plan, configs={**plan.configs, key: config})


def addresses(plan: Plan) -> list[str]:
    return sorted(workload.proxy.ip for workload in plan.workloads.values())


async def all_in_force(at: Iterable[str]) -> list[dict[str, Any]]:
    return [await in_force(address) for address in at]


async def test_what_one_envoy_refuses_none_does(tmp_path: Path) -> None:
    places = free_places()
    first = only(planned(ALL, places=places), GATEWAY, ONE)
    second = planned(ALL.replace("timeout: 5s", "timeout: 6s"), places=places)
    bad, good = spoilt(second, GATEWAY), only(second, GATEWAY, ONE, TWO)
    (new,) = {*addresses(good)} - {*addresses(first)}
    async with fleet(tmp_path) as sidecars:
        await sidecars.carry_out(first)
        before = await all_in_force(addresses(first))
        for _ in range(2):
            with pytest.raises(MeshError, match=r"gateway\.infer: Envoy refuses it: .*single wildcard domain"):
                await sidecars.carry_out(only(bad, GATEWAY, ONE, TWO))
            assert await all_in_force(addresses(first)) == before
            assert not envoys_at(new)
            assert not [name for name in names(tmp_path) if new in name]
        await sidecars.carry_out(good)
        after = await all_in_force(addresses(good))
        assert "6s" in str(after)
        assert "6s" not in str(before)


async def test_a_sidecar_that_does_not_come_up_changes_nothing(tmp_path: Path) -> None:
    places = free_places()
    plan = planned(ALL, places=places)
    first, second = only(plan, GATEWAY), only(plan, GATEWAY, ONE)
    at = plan.workloads[ONE].proxy.ip
    async with fleet(tmp_path) as sidecars:
        await sidecars.carry_out(first)
        before = await all_in_force(addresses(first))
        async with await asyncio.start_server(lambda *_: None, at, 8101):
            with pytest.raises(MeshError, match="Address already in use"):
                await sidecars.carry_out(second)
        assert await all_in_force(addresses(first)) == before
        await sidecars.carry_out(second)
        assert len(envoys_at(at)) == 1


async def test_who_is_removed_ends_and_may_come_back(tmp_path: Path) -> None:
    plan = planned(ALL, places=free_places())
    at = plan.workloads[ONE].proxy.ip
    async with fleet(tmp_path) as sidecars:
        await sidecars.carry_out(only(plan, GATEWAY, ONE))
        await sidecars.carry_out(only(plan, GATEWAY))
        async with asyncio.timeout(20):
            while sidecars._leaving:
                await asyncio.sleep(0.01)
        assert not envoys_at(at)
        await sidecars.carry_out(only(plan, GATEWAY, ONE))
        assert len(envoys_at(at)) == 1


async def test_whoever_is_leaving_ends_with_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mesh.local.delivery.Delivery.calls_running", never_still)
    plan = planned(ALL, places=free_places())
    at = plan.workloads[ONE].proxy.ip
    async with fleet(tmp_path) as sidecars:
        await sidecars.carry_out(only(plan, GATEWAY, ONE))
        await sidecars.carry_out(only(plan, GATEWAY))
        assert len(envoys_at(at)) == 1
    assert not envoys_at(at)
    assert not names(tmp_path)


async def never_still(_: object) -> bool:
    return True


async def test_if_callers_cannot_connect_anew_it_is_told_and_all_else_is_in_force(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told, places = list[str](), free_places()
    first = only(planned(ALL, places=places), GATEWAY, ONE)
    second = only(planned(ALL.replace("sa/gateway", "sa/other"), places=places), GATEWAY, ONE)
    times, apply = count(1), Fleet._apply

    async def failing(self: Fleet, configs: Mapping[str, Config]) -> None:
        if next(times) == 2:
            raise MeshError("no answer")
        await apply(self, configs)

    async with fleet(tmp_path, told) as sidecars:
        await sidecars.carry_out(first)
        monkeypatch.setattr(Fleet, "_apply", failing)
        await sidecars.carry_out(second)
        assert told == ["callers may go on for a while under the policies that were before: no answer"]
        assert "sa/other" in str(await in_force(second.workloads[ONE].proxy.ip))
