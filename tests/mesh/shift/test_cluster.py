"""Which cluster is meant, and what is said where there is none. A real one: tests/interop/test_kubernetes.py."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from kubernetes import config
from kubernetes.config import incluster_config

from mesh.shift import cluster
from mesh.shift.cluster import Access, reach
from mesh.shift.plan import ShiftError
from tests.gateway.certificates import Authority

WANTED = {"1": 100}


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No kubeconfig file of whoever runs the tests, and no pod."""
    monkeypatch.setattr(config, "KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "none"))
    monkeypatch.delenv(incluster_config.SERVICE_HOST_ENV_NAME, raising=False)


def kubeconfig(file: Path, server: str = "https://127.0.0.1:1") -> Path:
    contexts = {"own": {"cluster": "c", "user": "u", "namespace": "models"}, "bare": {"cluster": "c", "user": "u"}}
    written = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "own",
        "clusters": [{"name": "c", "cluster": {"server": server}}],
        "users": [{"name": "u", "user": {"token": "t"}}],
        "contexts": [{"name": name, "context": context} for name, context in contexts.items()],
    }
    file.write_text(yaml.safe_dump(written))
    return file


def test_context_and_namespace_are_found_as_kubectl_finds_them(tmp_path: Path) -> None:
    file = kubeconfig(tmp_path / "config")
    assert reach(Access(kubeconfig=file))[0].host == "https://127.0.0.1:1"
    assert reach(Access(kubeconfig=file))[1] == "models"
    assert reach(Access(kubeconfig=file, context="bare"))[1] == "default"
    assert reach(Access(kubeconfig=file, context="bare", namespace="other"))[1] == "other"


def test_a_kubeconfig_file_needs_no_naming_where_kubectl_has_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = f"{tmp_path / 'none'}:{kubeconfig(tmp_path / 'config')}"
    monkeypatch.setattr(config, "KUBE_CONFIG_DEFAULT_LOCATION", files)
    assert reach(Access())[1] == "models"


def test_in_a_pod_it_is_the_pods_own_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "token").write_text("secret")
    (tmp_path / "ca.crt").write_bytes(Authority().pem)
    (tmp_path / "namespace").write_text("models\n")
    monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(tmp_path / "token"))
    monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", str(tmp_path / "ca.crt"))
    monkeypatch.setattr(cluster, "_POD", tmp_path)
    monkeypatch.setenv(incluster_config.SERVICE_HOST_ENV_NAME, "127.0.0.1")
    monkeypatch.setenv(incluster_config.SERVICE_PORT_ENV_NAME, "443")
    found, namespace = reach(Access())
    assert (found.host, namespace) == ("https://127.0.0.1:443", "models")
    assert found.get_api_key_with_prefix("BearerToken") == "bearer secret"


@pytest.mark.parametrize("access", [Access(), Access(context="own"), Access(kubeconfig=Path("/nowhere"))])
def test_no_cluster_is_said(access: Access) -> None:
    with pytest.raises(ShiftError, match=r"^no cluster is known: .*[^.]; name one with --kubeconfig or --context$"):
        cluster.shift(access, "digits", WANTED)


@pytest.mark.parametrize("text", ["[]", "text", "clusters: 5", "{", "a: b\n---\nc: d"])
def test_what_is_no_kubeconfig_is_said(tmp_path: Path, text: str) -> None:
    (tmp_path / "config").write_text(text)
    with pytest.raises(ShiftError, match=r"no cluster is known: .*/config is no kubeconfig file"):
        reach(Access(kubeconfig=tmp_path / "config"))


def test_a_context_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(ShiftError, match=r"no cluster is known: .* zz "):
        cluster.shift(Access("zz", kubeconfig(tmp_path / "config")), "digits", WANTED)


def test_a_cluster_that_does_not_answer_is_said(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    access = Access(kubeconfig=kubeconfig(tmp_path / "config", f"https://127.0.0.1:{port}"))
    with pytest.raises(ShiftError, match=f"the cluster at https://127.0.0.1:{port} does not answer"):
        cluster.shift(access, "digits", WANTED)


def test_a_cluster_that_shows_a_foreign_certificate_is_said(tmp_path: Path) -> None:
    with _stranger(tmp_path) as port:
        access = Access(kubeconfig=kubeconfig(tmp_path / "config", f"https://127.0.0.1:{port}"))
        with pytest.raises(ShiftError, match="shows a certificate that the context does not trust"):
            cluster.shift(access, "digits", WANTED)


@contextlib.contextmanager
def _stranger(folder: Path) -> Iterator[int]:
    """A server with a certificate that no one trusts."""
    for name, pem in zip(("crt", "key"), Authority().issue("127.0.0.1"), strict=True):
        (folder / name).write_bytes(pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "crt", folder / "key")
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(30)

        def refuse() -> None:
            with contextlib.suppress(OSError), server.accept()[0] as accepted:
                context.wrap_socket(accepted, server_side=True)

        thread = threading.Thread(target=refuse)
        thread.start()
        yield server.getsockname()[1]
        thread.join(30)
