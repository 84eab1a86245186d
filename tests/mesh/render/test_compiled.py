"""What the rendered files come to is what Istio's own control plane makes of them (tests/interop asks it afresh)."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from mesh.envoy.generate import generate
from tests.mesh.envoy.istio_vectors import COMPARE, differences, view
from tests.mesh.render.rendered import GATEWAY, LOCAL, WORKER, golden, port, proxies, world

EVERY = pytest.mark.parametrize("catalog", LOCAL, ids=lambda path: path.name)


def test_all_are_there() -> None:
    assert [folder.name for folder in LOCAL] == ["canary", "names", "sequence", "shadow", "shared", "tokens"]


@EVERY
@pytest.mark.parametrize("proxy", [GATEWAY, WORKER])
def test_nothing_that_decides_traffic_differs(catalog: Path, proxy: str) -> None:
    rendered = world(catalog)
    ours, number = generate(rendered, proxies(rendered)[proxy]), port(rendered)
    assert list(differences(view(golden(catalog, proxy), number), view(ours, number))) == []


@EVERY
def test_the_comparison_sees_clusters_routes_copies_and_who_is_let_in(catalog: Path) -> None:
    number = port(world(catalog))
    of_gateway, of_worker = view(golden(catalog, GATEWAY), number), view(golden(catalog, WORKER), number)
    assert all(of_gateway[part] for part in ("clusters", "routes", "endpoints"))
    assert of_worker["inbound"]["tls"]["client_certificate"]
    assert not of_worker["inbound"]["plaintext"]
    assert [one["name"].rpartition(".")[2] for one in of_worker["inbound"]["filters"]] == ["jwt_authn", "rbac"]


def _changed(config: dict[str, Any], part: str) -> dict[str, Any]:
    changed = copy.deepcopy(config)
    if part == "clusters":
        changed[part] = [one for one in changed[part] if "|v2|" not in one["name"]]
    else:
        changed[part] = []
    return changed


@pytest.mark.parametrize(
    ("proxy", "part"), [(GATEWAY, "clusters"), (GATEWAY, "routes"), (GATEWAY, "endpoints"), (WORKER, "listeners")]
)
def test_what_is_missing_is_found(proxy: str, part: str) -> None:
    config = golden(LOCAL[0], proxy)
    number = port(world(LOCAL[0]))
    assert list(differences(view(config, number), view(_changed(config, part), number))) != []


def test_versions_and_models_have_statistics_of_their_own() -> None:
    (shared,) = (one for one in LOCAL if one.name == "shared")
    names = COMPARE.clusters_view(golden(shared, GATEWAY)).keys()
    subsets = {name.split("|")[2] for name in names if "|8001|" in name}
    assert subsets == {"", "faces-v1", "faces-v2", "plates-v3", "plates-v4", "words-v1"}
