from __future__ import annotations

import json
import os
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from mesh.local.authority import Authority
from mesh.local.bootstrap import bootstrap
from mesh.local.files import CERTIFICATE, ROUTES, File, Files, certificate_file, files, put
from mesh.local.plan import Plan
from tests.envoy import needs_envoy
from tests.mesh.local.scene import ALL, fleet, page, planned

KEY = ("infer", "gateway")
AUTHORITY = Authority("cluster.local", datetime.now(UTC))


def made(folder: Path, *, weight: int = 90) -> Files:
    text = ALL.replace("weight: 90", f"weight: {weight}").replace("weight: 10", f"weight: {100 - weight}")
    return files(planned(text).configs[KEY], folder)


def certificate(folder: Path) -> File:
    secret = AUTHORITY.issue("spiffe://cluster.local/ns/infer/sa/gateway", datetime.now(UTC), timedelta(hours=1)).secret
    return certificate_file(secret, folder)


def sources(part: object) -> list[Any]:
    """Every ConfigSource: where something of a resource is to be had."""
    if isinstance(part, dict):
        own = [value for key, value in part.items() if key in ("config_source", "sds_config", "eds_config")]
        return [*own, *(found for value in part.values() for found in sources(value))]
    return [found for value in part for found in sources(value)] if isinstance(part, list) else []


def test_every_source_is_a_file_of_the_folder(tmp_path: Path) -> None:
    found = made(tmp_path)
    named = [source for file in (found.clusters, found.routes, found.listeners) for source in sources(of(file))]
    assert {source["path_config_source"]["path"] for source in named} == {
        str(tmp_path / ROUTES),
        str(tmp_path / CERTIFICATE),
    }
    text = found.clusters.text + found.routes.text + found.listeners.text
    assert not [own for own in ('"ads"', "sds-grpc", "api_config_source", '"eds_config"') if own in text]


def of(file: File) -> list[Any]:
    """The resources of a response, read back."""
    response = json.loads(file.text)
    assert response["version_info"] == file.version
    resources: list[Any] = response["resources"]
    return resources


def test_the_roots_are_in_the_bootstrap_under_the_name_that_is_asked_for(tmp_path: Path) -> None:
    begun: dict[str, Any] = bootstrap(planned(ALL).workloads[KEY], tmp_path, AUTHORITY.secret)
    (secret,) = begun["static_resources"]["secrets"]
    assert secret["validation_context"]["trusted_ca"]["inline_string"] == AUTHORITY.roots
    assert f'"validation_context_sds_secret_config": {{"name": "{secret["name"]}"}}' in made(tmp_path).clusters.text


def test_admin_pages_are_on_the_loopback(tmp_path: Path) -> None:
    workload = planned(ALL).workloads[KEY]
    begun: dict[str, Any] = bootstrap(workload, tmp_path, AUTHORITY.secret)
    assert begun["admin"]["address"]["socket_address"]["address"] == workload.proxy.ip
    assert workload.proxy.ip.startswith("127.")


def test_a_version_tells_a_content(tmp_path: Path) -> None:
    first, same, other = made(tmp_path), made(tmp_path), made(tmp_path, weight=80)
    assert first == same
    assert first.routes.version != other.routes.version
    assert (first.clusters, first.listeners) == (other.clusters, other.listeners)


def test_the_same_again_has_another_version_and_the_same_content(tmp_path: Path) -> None:
    first = made(tmp_path).routes
    again = first.again("x")
    assert again.version != first.version
    assert of(again) == of(first)


@needs_envoy
async def test_envoy_tells_each_version_in_the_statistic_that_is_said(tmp_path: Path) -> None:
    plan = planned(ALL)
    one = {KEY: plan.workloads[KEY]}
    async with fleet(tmp_path) as sidecars:
        await sidecars.carry_out(Plan("cluster.local", one, {KEY: plan.configs[KEY]}, None))
        address = one[KEY].proxy.ip
        folder = tmp_path / f"gateway.infer@{address}"
        told = dict(line.split(": ", 1) for line in (await page(address, "stats")).splitlines())
        found = files(sidecars._sidecars[address].config, folder)
        for file in (found.clusters, found.routes, found.listeners):
            assert told[file.stat] == f'"{file.version}"'
            assert file.stat.removesuffix("version_text") + "update_rejected" in told
        shown = certificate(folder)
        assert told[shown.stat] == f'"{json.loads((folder / CERTIFICATE).read_text())["version_info"]}"'


def test_a_file_is_replaced_in_one_step_and_is_ours_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    before = os.umask(0)
    try:
        put(path, "first")
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with path.open() as reader:
        put(path, "second")
        assert reader.read() == "first"  # not a byte of the second
    assert path.read_text() == "second"
    assert [each.name for each in tmp_path.iterdir()] == ["a.json"]
