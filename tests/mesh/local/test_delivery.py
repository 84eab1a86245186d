from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from mesh.envoy.proto import Json
from mesh.local import delivery
from mesh.local.config import Config
from mesh.local.delivery import Delivery, NotTakenError
from mesh.local.failure import PassingError
from mesh.local.files import CLUSTERS, LISTENERS, ROUTES, File, files
from mesh.local.sidecar import Sidecar
from tests.envoy import needs_envoy
from tests.mesh.local.scene import ALL, envoys_at, fleet, free_places, in_force, only, page, planned

pytestmark = needs_envoy

KEY = ("infer", "gateway")


@pytest.fixture
def told() -> list[str]:
    """What is told of the sidecar."""
    return []


@pytest.fixture
async def sidecar(tmp_path: Path, told: list[str]) -> AsyncIterator[Sidecar]:
    """The gateway's, with an Envoy."""
    plan = planned(ALL, places=free_places())
    async with fleet(tmp_path, told) as sidecars:
        await sidecars.carry_out(only(plan, KEY))
        yield sidecars._sidecars[plan.workloads[KEY].proxy.ip]


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Which files are written."""
    names: list[str] = []
    put = Delivery.put

    def noted(self: Delivery, name: str, file: File) -> None:
        names.append(name)
        put(self, name, file)

    monkeypatch.setattr(Delivery, "put", noted)
    return names


def cluster(config: Config, **changes: Any) -> Config:
    """With one more cluster, like the first, but for the changes."""
    return replace(config, clusters=(*config.clusters, {**config.clusters[0], **changes}))


def host(**changes: Any) -> Json:
    return {"name": "more", "domains": ["more:1"], "routes": [], **changes}


def routed(config: Config, *hosts: Json) -> Config:
    """With more virtual hosts."""
    there = config.routes["virtual_hosts"]
    assert isinstance(there, list)
    return replace(config, routes={**config.routes, "virtual_hosts": [*there, *hosts]})


def listened(config: Config, **changes: Any) -> Config:
    """With another outbound listener."""
    return replace(config, listeners=({**config.listeners[0], **changes}, *config.listeners[1:]))


async def test_what_is_new_comes_first_and_what_is_gone_goes_last(sidecar: Sidecar, written: list[str]) -> None:
    before = sidecar.config
    new = listened(routed(cluster(before, name="new", alt_stat_name="new;"), host()), stat_prefix="x")
    after = replace(new, clusters=new.clusters[1:])
    seen: list[set[str]] = []

    async def watched(self: Delivery, name: str, file: File) -> None:
        await replaced(self, name, file)
        seen.append({key for key in await in_force(sidecar.workload.proxy.ip) if key.partition(" ")[0] != "listener"})

    replaced = Delivery._replace
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Delivery, "_replace", watched)
        await sidecar.apply(after)
    assert written == [CLUSTERS, ROUTES, LISTENERS, CLUSTERS]
    old = str(before.clusters[0]["name"])
    assert [("new" in names, old in names) for names in seen] == [(True, True)] * 3 + [(True, False)]


async def test_only_what_changes_is_written(sidecar: Sidecar, written: list[str]) -> None:
    await sidecar.apply(routed(sidecar.config, host()))
    assert written == [ROUTES]
    await sidecar.apply(sidecar.config)
    assert written == [ROUTES]


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        ("clusters", "cluster provided LB specified but cluster 'bad' did not provide one"),
        ("routes", "Only a single wildcard domain is permitted"),
        ("listeners", "cannot bind"),
        ("fields", "has unknown fields"),
    ],
)
async def test_what_envoy_refuses_is_told_in_its_words_and_all_is_as_before(
    what: str, reason: str, sidecar: Sidecar
) -> None:
    address, config = sidecar.workload.proxy.ip, sidecar.config
    before = await in_force(address)
    # Good parts come with the bad one: some of them are taken before that is refused.
    good = routed(cluster(config, name="new", alt_stat_name="new;"), host())
    there: Json = {"socket_address": {"address": "192.0.2.77", "port_value": 7}}
    bad = {
        "clusters": lambda: cluster(good, name="bad", alt_stat_name="bad;", lb_policy="CLUSTER_PROVIDED"),
        "routes": lambda: routed(good, host(name="bad", domains=["*"])),
        "listeners": lambda: listened(good, additional_addresses=[{"address": there}]),
        "fields": lambda: cluster(good, name="bad", no_such_field=1),
    }[what]()
    with pytest.raises(NotTakenError, match=rf"gateway\.infer: Envoy refuses it: .*{reason}"):
        await sidecar.apply(bad)
    assert await in_force(address) == before
    told = await page(address, "stats", filter="version_text")
    for file in of(config, sidecar):  # each was taken once more, and that was waited for
        assert f'{file.stat}: "{file.version}-' in told
    assert sidecar.config == config
    await sidecar.apply(good)
    assert (await in_force(address)).keys() == {*before, "new"}


def of(config: Config, sidecar: Sidecar) -> list[File]:
    found = files(config, sidecar.delivery.folder)
    return [found.clusters, found.routes, found.listeners]


async def test_an_envoy_that_takes_nothing_is_not_waited_for_for_ever(
    sidecar: Sidecar, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "_TAKEN", 0.1)
    (envoy,) = envoys_at(sidecar.workload.proxy.ip)
    wanted = routed(sidecar.config, host())
    envoy.send_signal(signal.SIGSTOP)
    try:
        with pytest.raises(NotTakenError, match=r"gateway\.infer: Envoy has not taken it within 0.1 s"):
            await sidecar.apply(wanted)
    finally:
        envoy.send_signal(signal.SIGCONT)
    monkeypatch.undo()
    await sidecar.apply(wanted)
    assert "more" in str((await in_force(sidecar.workload.proxy.ip))["routes outbound"])


async def test_what_could_not_be_taken_back_is_with_the_next_change(
    sidecar: Sidecar, told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "_TAKEN", 0.1)
    address, config = sidecar.workload.proxy.ip, sidecar.config
    before = await in_force(address)
    (envoy,) = envoys_at(address)
    put = Delivery.put

    def hung_by_then(self: Delivery, name: str, file: File) -> None:
        put(self, name, file)
        envoy.send_signal(signal.SIGSTOP)

    monkeypatch.setattr(Delivery, "put", hung_by_then)
    try:
        with pytest.raises(PassingError):
            await sidecar.apply(cluster(config, name="new", alt_stat_name="new;"))
    finally:
        envoy.send_signal(signal.SIGCONT)
    monkeypatch.undo()
    assert told == ["gateway.infer: what was before may not be in force: Envoy has not taken it within 0.1 s"]
    async with asyncio.timeout(20):
        while "new" not in await in_force(address):
            await asyncio.sleep(0.01)
    await sidecar.apply(config)
    assert await in_force(address) == before
    told_by_envoy = await page(address, "stats", filter="cds.version_text")
    await sidecar.apply(config)  # which is what is in force
    assert await page(address, "stats", filter="cds.version_text") == told_by_envoy


async def test_a_change_goes_in_even_if_its_envoy_is_killed_on_the_way(sidecar: Sidecar, told: list[str]) -> None:
    (envoy,) = envoys_at(sidecar.workload.proxy.ip)
    envoy.send_signal(signal.SIGSTOP)
    up = asyncio.create_task(sidecar.delivery.taken())
    change = asyncio.create_task(sidecar.apply(routed(sidecar.config, host())))
    psutil.Process(envoy.pid).kill()
    await change
    assert "more" in str((await in_force(sidecar.workload.proxy.ip))["routes outbound"])
    async with asyncio.timeout(20):
        await up  # whoever waited for what was there before would wait for ever
    assert told == ["the Envoy beside gateway.infer was killed by signal 9\n  another is started"]
