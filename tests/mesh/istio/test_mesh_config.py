"""The mesh's own settings."""

from pathlib import Path

import pytest

from mesh.istio.document import RefusedError
from mesh.istio.load import load_mesh_config
from mesh.istio.mesh_config import MeshConfig


def test_what_is_not_written_is_istios_default(tmp_path: Path) -> None:
    (tmp_path / "mesh.yaml").write_text("enableTracing: false\ntrustDomain: td.example\n")
    config = load_mesh_config(tmp_path / "mesh.yaml")
    assert config == MeshConfig(trust_domain="td.example")
    assert (config.root_namespace, config.enable_auto_mtls) == ("istio-system", True)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("enableTracing: true", "enableTracing: not implemented: true"),
        ("enableTracing: 1", "enableTracing"),
        ("proxyHttpPort: 15001", "proxyHttpPort: unknown field"),
        ("extensionProviders: [{name: a, zipkin: {service: a, port: 1}}]", "zipkin: not implemented"),
        ("extensionProviders: [{name: a, opentelemetry: {service: a, port: 1, http: {}}}]", "http: not implemented"),
        ("extensionProviders: [{name: a, opentelemetry: {service: a/b/c, port: 1}}]", "service: "),
        ("extensionProviders: [{name: a}]", "opentelemetry: is missing|opentelemetry"),
        ("defaultProviders: {metrics: [a]}", "metrics: not implemented"),
    ],
)
def test_what_is_refused(tmp_path: Path, text: str, what: str) -> None:
    (tmp_path / "mesh.yaml").write_text(text)
    with pytest.raises(RefusedError, match=what):
        load_mesh_config(tmp_path / "mesh.yaml")
