"""What `mesh render` writes for a proxyless gateway, gRPC's own client can do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gateway.settings import load
from headrace.rendering import source_of
from mesh.envoy.proto import Json
from mesh.istio.document import RefusedError
from mesh.proxyless.generate import generate
from mesh.render.files import render
from mesh.render.source import Source
from tests.gateway.mesh_world import configuration
from tests.gateway.tokens import Issuer
from tests.mesh.envoy.istio_vectors import GATEWAY, world_alone


def source(folder: Path, mode: str, **model: Any) -> Source:
    issuer = Issuer()
    (folder / "jwks.json").write_bytes(issuer.jwks())
    config = configuration(issuer, **model)
    config["upstream"]["mode"] = mode
    (folder / "headrace.yaml").write_text(json.dumps(config))
    return source_of(load(folder / "headrace.yaml", {}))


def compiled(of: Source) -> dict[str, list[Json]]:
    return generate(world_alone("\n---\n".join(render(of, {}).values())), GATEWAY)


@pytest.mark.parametrize("model", [{}, {"sequence": True}, {"retries": {"attempts": 4, "on": ["cancelled"]}}])
def test_it_is_compiled_whole(tmp_path: Path, model: dict[str, Any]) -> None:
    found = compiled(source(tmp_path, "xds", **model))
    assert [len(found[part]) for part in ("listeners", "routes", "clusters", "endpoints")] == [1, 1, 3, 3]


def test_what_is_for_a_sidecar_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match="timeout"):
        compiled(source(tmp_path, "mesh"))
