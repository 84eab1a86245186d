"""A plain Envoy, without Istio's own filters, takes the listeners. Needs the `envoy` of the extra `mesh`."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from mesh.envoy.inbound import workload_listeners
from mesh.envoy.listeners import listeners
from mesh.istio.load import load_case
from tests.envoy import ENVOY, needs_envoy
from tests.mesh.envoy.istio_vectors import CASES, WORKER
from tests.mesh.envoy.security import SERVICE, resource, world

SECURITY = [case for case in CASES if case.name.startswith("sec-")]
CLUSTERS = ("sds-grpc", "BlackHoleCluster", "PassthroughCluster", "InboundPassthroughCluster", "inbound|8001||")
HTTP2 = {
    "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
    "explicit_http_config": {"http2_protocol_options": {}},
}

pytestmark = needs_envoy


def validated(folder: Path, found: list[Any]) -> subprocess.CompletedProcess[str]:
    """What Envoy says of the listeners; control plane and secrets are named, but not asked."""
    options = {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": HTTP2}
    clusters = [{"name": name, "typed_extension_protocol_options": options} for name in CLUSTERS]
    service = {"envoy_grpc": {"cluster_name": "sds-grpc"}}
    ads = {"api_type": "GRPC", "transport_api_version": "V3", "grpc_services": [service]}
    bootstrap = {
        "node": {"id": "worker", "cluster": "models"},
        "static_resources": {"listeners": found, "clusters": clusters},
        "dynamic_resources": {"ads_config": ads},
    }
    path = folder / "envoy.json"
    path.write_text(json.dumps(bootstrap))
    command = [str(ENVOY), "--mode", "validate", "-l", "error", "-c", str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("compiler", [listeners, workload_listeners])
@pytest.mark.parametrize("case", SECURITY, ids=lambda case: case.name)
def test_it_takes_every_case(tmp_path, case, compiler):
    world, proxies = load_case(case)
    worker = next(one for one in proxies if one.name == "worker")
    said = validated(tmp_path, compiler(world, worker))
    assert said.returncode == 0, said.stderr


def test_it_takes_every_condition_of_a_policy(tmp_path):
    policy = (Path(__file__).parent / "authz" / "http-allow-full-rule.yaml").read_text()
    own = policy.replace("namespace: foo", "namespace: models").replace("app: httpbin", "app: digits")
    said = validated(tmp_path, workload_listeners(world(SERVICE, own), WORKER))
    assert said.returncode == 0, said.stderr


def test_it_takes_ports_of_every_mode(tmp_path):
    ports = {8001: {"mode": "STRICT"}, 9: {"mode": "PERMISSIVE"}}
    selector = {"matchLabels": {"app": "digits"}}
    own = resource("PeerAuthentication", "own", selector=selector, mtls={"mode": "DISABLE"}, portLevelMtls=ports)
    said = validated(tmp_path, listeners(world(SERVICE.replace("GRPC", "GRPC-WEB"), own), WORKER))
    assert said.returncode == 0, said.stderr


def test_it_refuses_what_is_no_listener(tmp_path):
    (first, *_) = workload_listeners(world(SERVICE), WORKER)
    assert validated(tmp_path, [first | {"no_such_field": 1}]).returncode != 0
