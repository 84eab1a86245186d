"""A real Kubernetes API server with Istio's kinds: `etcd` and `kube-apiserver` from PATH, no node, no Istio."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from kubernetes import config
from kubernetes.client import ApiClient, ApiException, Configuration, CustomObjectsApi
from urllib3.exceptions import HTTPError

from mesh.shift.cluster import Access

HERE = Path(__file__).parent
ADMIN, READER, STRANGER, UNKNOWN = "admin", "reader", "stranger", "unknown"
"""The cluster's administrator; who may list VirtualServices; who may do nothing; whom the cluster does not know."""

_KINDS = ("apiextensions.k8s.io", "v1", "customresourcedefinitions")
_RULES = ("rbac.authorization.k8s.io", "v1")


@dataclass(frozen=True)
class Kubernetes:
    """How users reach the API server, and its API in the administrator's hands."""

    kubeconfig: Path
    api: CustomObjectsApi

    def access(self, user: str = ADMIN, namespace: str | None = None) -> Access:
        return Access(user, self.kubeconfig, namespace)

    def create(self, resource: Mapping[str, Any]) -> None:
        """As `kubectl create --validate=strict` does."""
        self.api.create_namespaced_custom_object(*_place(resource), dict(resource), field_validation="Strict")

    def delete(self, resource: Mapping[str, Any]) -> None:
        """As `kubectl delete` does."""
        self.api.delete_namespaced_custom_object(*_place(resource), resource["metadata"]["name"])


def _place(resource: Mapping[str, Any]) -> tuple[str, str, str, str]:
    group, _, version = resource["apiVersion"].partition("/")
    kind = resource["kind"].lower()
    return group, version, resource["metadata"]["namespace"], f"{kind[:-1]}ies" if kind[-1] == "y" else f"{kind}s"


@contextlib.contextmanager
def kubernetes(folder: Path) -> Iterator[Kubernetes]:
    """An API server for as long as inside; empty, but for the kinds, a namespace and the rights of the reader."""
    with _etcd(folder) as etcd, _api_server(folder, etcd) as server:
        kubeconfig = _kubeconfig(folder, server)
        configuration = Configuration()
        config.load_kube_config(str(kubeconfig), ADMIN, configuration)  # type: ignore[no-untyped-call] # it has no types
        with ApiClient(configuration) as client:
            api = CustomObjectsApi(client)
            _eventually(
                lambda: api.get_cluster_custom_object("rbac.authorization.k8s.io", "v1", "clusterroles", "view")
            )
            _install(api)
            yield Kubernetes(kubeconfig, api)


def _install(api: CustomObjectsApi) -> None:
    for kind in yaml.safe_load_all((istio_source() / "manifests/charts/base/files/crd-all.gen.yaml").read_text()):
        if kind:
            api.create_cluster_custom_object(*_KINDS, kind)
    rule = {"apiGroups": ["networking.istio.io"], "resources": ["virtualservices"], "verbs": ["list"]}
    role = {"apiVersion": "/".join(_RULES), "kind": "ClusterRole", "metadata": {"name": READER}, "rules": [rule]}
    api.create_cluster_custom_object(*_RULES, "clusterroles", role)
    bound = {
        "apiVersion": "/".join(_RULES),
        "kind": "ClusterRoleBinding",
        "metadata": {"name": READER},
        "roleRef": {"apiGroup": _RULES[0], "kind": "ClusterRole", "name": READER},
        "subjects": [{"apiGroup": _RULES[0], "kind": "User", "name": READER}],
    }
    api.create_cluster_custom_object(*_RULES, "clusterrolebindings", bound)
    for plural in ("virtualservices", "destinationrules", "serviceentries"):
        _eventually(lambda plural=plural: api.list_cluster_custom_object("networking.istio.io", "v1", plural))


def istio_source() -> Path:
    """Where the Go module of Istio lies that the oracle is built from."""
    command = ["go", "list", "-C", HERE / "istio-oracle", "-m", "-f", "{{.Dir}}", "istio.io/istio"]
    said = subprocess.run(command, capture_output=True, text=True, check=True)
    return Path(said.stdout.strip())


@contextlib.contextmanager
def _etcd(folder: Path) -> Iterator[str]:
    url, peer = (f"http://127.0.0.1:{_free_port()}" for _ in range(2))
    urls = (f"--listen-client-urls={url}", f"--advertise-client-urls={url}", f"--listen-peer-urls={peer}")
    with _running("etcd", folder, f"--data-dir={folder / 'etcd'}", *urls):
        yield url


@contextlib.contextmanager
def _api_server(folder: Path, etcd: str) -> Iterator[str]:
    port = _free_port()
    groups = {ADMIN: ",system:masters"}
    tokens = [f"{user},{user},{user}{groups.get(user, '')}\n" for user in (ADMIN, READER, STRANGER)]
    (folder / "tokens").write_text("".join(tokens))
    key = rsa.generate_private_key(65537, 2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "key").write_bytes(key)
    options = {
        "etcd-servers": etcd,
        "bind-address": "127.0.0.1",
        "secure-port": port,
        "cert-dir": folder / "certs",
        "token-auth-file": folder / "tokens",
        "authorization-mode": "RBAC",
        "disable-admission-plugins": "NamespaceLifecycle",  # nothing here makes namespaces
        "service-account-issuer": "https://accounts.example",
        "service-account-key-file": folder / "key",
        "service-account-signing-key-file": folder / "key",
        "service-cluster-ip-range": "10.0.0.0/24",
    }
    with _running("kube-apiserver", folder, *(f"--{name}={value}" for name, value in options.items())):
        yield f"https://127.0.0.1:{port}"


@contextlib.contextmanager
def _running(program: str, folder: Path, *options: str) -> Iterator[None]:
    log = folder / f"{program}.log"
    with log.open("wb") as output:
        child = subprocess.Popen([program, *options], stdout=output, stderr=output, cwd=folder)
    try:
        yield
    except BaseException as error:
        error.add_note(log.read_text()[-3000:])
        raise
    finally:
        child.terminate()
        try:
            child.wait(20)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def _kubeconfig(folder: Path, server: str) -> Path:
    cluster = {"server": server, "certificate-authority": str(folder / "certs" / "apiserver.crt")}
    users = (ADMIN, READER, STRANGER, UNKNOWN)
    contexts = [{"name": one, "context": {"cluster": "c", "user": one, "namespace": "models"}} for one in users]
    written = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": ADMIN,
        "clusters": [{"name": "c", "cluster": cluster}],
        "users": [{"name": user, "user": {"token": user}} for user in users],
        "contexts": contexts,
    }
    file = folder / "kubeconfig"
    file.write_text(yaml.safe_dump(written))
    _eventually((folder / "certs" / "apiserver.crt").read_bytes)
    return file


def _eventually(ask: Callable[[], object]) -> None:
    """Until it answers, or two minutes have passed."""
    deadline = time.monotonic() + 120
    while True:
        try:
            ask()
        except (OSError, ApiException, HTTPError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
        else:
            return
