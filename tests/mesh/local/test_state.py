from __future__ import annotations

import os
from pathlib import Path

import pytest

from mesh.local.failure import MeshError
from mesh.local.place import place_of, taken
from mesh.local.plan import Gateway
from mesh.local.state import Beside, find, publish, state_of
from tests.mesh.local.scene import ALL, COPIES, SERVICE, planned

PROXY = Gateway(("127.0.0.1", 7001))


def test_what_a_mesh_says_of_itself() -> None:
    plan = planned(ALL, gateway=PROXY)
    state = state_of(plan, Path("/istio"), Path("/place"), 7, PROXY)
    assert (state.pid, state.folder, state.trust_domain) == (7, "/istio", "cluster.local")
    assert (state.proxy, state.gateway) == ("127.0.0.1:7001", "infer/gateway")
    at = plan.workloads["models", "one"].proxy.ip
    own = Beside("models", "one", "digits", "127.0.0.1", at, (8101,), f"{at}:15001", f"{at}:15000")
    assert own in state.workloads
    assert [one.ports for one in state.workloads if one.name == "gateway"] == [()]


def test_without_a_gateway_there_is_no_proxy() -> None:
    state = state_of(planned(SERVICE, *COPIES, gateway=PROXY), Path("/istio"), Path("/place"), 7, PROXY)
    assert (state.proxy, state.gateway) == (None, None)


def test_it_is_found_while_the_mesh_runs_and_only_then(tmp_path: Path) -> None:
    folder, environ = tmp_path / "istio", {"XDG_RUNTIME_DIR": str(tmp_path)}
    folder.mkdir()
    place = place_of(folder, environ)
    state = state_of(planned(ALL), folder, place, os.getpid(), Gateway())
    with pytest.raises(MeshError, match=rf"no mesh runs for {folder} \({place.parent} has none\); start one with: "):
        find(folder, environ)
    with taken(place, folder):
        with pytest.raises(MeshError, match="is not up yet"):
            find(folder, environ)
        publish(state, place)
        assert find(folder, environ) == state
    with pytest.raises(MeshError, match="no mesh runs"):
        find(folder, environ)


def test_what_a_killed_mesh_has_left_is_not_believed(tmp_path: Path) -> None:
    folder, environ = tmp_path / "istio", {"XDG_RUNTIME_DIR": str(tmp_path)}
    place = place_of(folder, environ)
    for each in (place.parent, place):
        each.mkdir(0o700)
    publish(state_of(planned(ALL), folder, place, os.getpid(), Gateway()), place)
    with pytest.raises(MeshError, match="no mesh runs"):
        find(folder, environ)
