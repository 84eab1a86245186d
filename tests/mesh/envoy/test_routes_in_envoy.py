"""A plain Envoy takes the routes, and refuses what is refused before it. Needs the `envoy` of the extra `mesh`."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from mesh.envoy.answers import direct_response
from mesh.envoy.faults import FAULT_FILTER, fault
from mesh.envoy.hash_policies import hash_policy
from mesh.envoy.routes import routes
from mesh.istio.fault import Abort, HTTPFaultInjection
from mesh.istio.http_route import HTTPDirectResponse
from mesh.istio.load import load_case
from mesh.istio.load_balancer import ConsistentHashLB
from tests.envoy import ENVOY, needs_envoy
from tests.mesh.envoy.istio_vectors import CASES, WORKER, world_alone

pytestmark = needs_envoy

MORE = sorted(file.parent for file in (Path(__file__).parent / "route_goldens").glob("*/config.yaml"))
MANAGER = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
EVERYTHING = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: digits, namespace: models}
spec:
  hosts: [digits.models.svc.cluster.local, "*.example.com"]
  addresses: [240.0.0.1, "fd00::1"]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{number: 8001, name: grpc, protocol: GRPC}, {number: 80, name: http, protocol: HTTP}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: digits, namespace: models}
spec:
  host: digits
  subsets:
  - {name: a, trafficPolicy: {loadBalancer: {consistentHash: {httpHeaderName: x-a}}}}
  - {name: b, trafficPolicy: {loadBalancer: {consistentHash: {httpQueryParameterName: q}}}}
  - {name: c, trafficPolicy: {loadBalancer: {consistentHash: {useSourceIp: true}}}}
  - name: d
    trafficPolicy: {loadBalancer: {consistentHash: {httpCookie: {name: c, ttl: 5s, attributes: [{name: s, value: t}]}}}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: digits, namespace: models}
spec:
  hosts: [digits, nowhere.example]
  http:
  - match:
    - {uri: {exact: /a}, ignoreUriCase: true, headers: {x-a: {prefix: b}, x-b: {regex: "a|b"}, x-c: {}}}
    - {uri: {regex: "/a.*"}, withoutHeaders: {x-a: {exact: b}, x-b: {}}, queryParams: {q: {exact: a}, r: {}}}
    - {uri: {prefix: /b}, method: {exact: POST}, authority: {prefix: d}, scheme: {exact: http}, statPrefix: s, name: m}
    name: many
    headers: {request: {set: {a: b}, add: {c: "%REQ(:path)%"}, remove: [d]}, response: {set: {a: b}, remove: [server]}}
    rewrite: {uri: /c, authority: d.example}
    timeout: 2s
    retries: {attempts: 3, perTryTimeout: 1s, backoff: 25ms, retryOn: "503", retryRemoteLocalities: true}
    mirrors: [{destination: {host: digits, subset: a}, percentage: {value: 0.5}}, {destination: {host: digits}}]
    fault:
      {delay: {fixedDelay: 1s, percentage: {value: 0.1}}, abort: {grpcStatus: UNAVAILABLE, percentage: {value: 1}}}
    route:
    - {destination: {host: digits, subset: a}, weight: 0}
    - {destination: {host: digits, subset: b}, weight: 5, headers: {request: {set: {host: a, x: "y"}}}}
    - {destination: {host: digits, subset: c}, weight: 5, headers: {response: {add: {x: "y"}}}}
  - match: [{uri: {prefix: /c}}]
    rewrite: {uriRegexRewrite: {match: "/a(.*)", rewrite: '/b\\1'}}
    mirror: {host: digits}
    mirrorPercent: 5
    fault: {delay: {fixedDelay: 1s}, abort: {httpStatus: 503}}
    route: [{destination: {host: digits, subset: d}}]
  - match: [{uri: {prefix: /d}}]
    redirect: {prefixRewrite: /e, authority: a.example, scheme: https, port: 8443, redirectCode: 308}
  - {match: [{uri: {prefix: /e}}], redirect: {uri: /f, derivePort: FROM_REQUEST_PORT}}
  - {match: [{uri: {prefix: /f}}], directResponse: {status: 503, body: {string: closed}}}
  - directResponse: {status: 404}
"""


def _validated(folder: Path, tables: Sequence[dict[str, Any]]) -> subprocess.CompletedProcess[str]:
    """What Envoy says of route configurations, each in a listener of its own that never listens."""
    path = folder / "envoy.json"
    path.write_text(json.dumps({"static_resources": {"listeners": [_listener(table) for table in tables]}}))
    command = [str(ENVOY), "--mode", "validate", "-l", "error", "-c", str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def _listener(table: dict[str, Any]) -> dict[str, Any]:
    manager = {
        "@type": f"type.googleapis.com/{MANAGER}",
        "stat_prefix": "x",
        "route_config": table,
        "http_filters": [
            _filter(FAULT_FILTER, "envoy.extensions.filters.http.fault.v3.HTTPFault"),
            _filter("envoy.filters.http.router", "envoy.extensions.filters.http.router.v3.Router"),
        ],
    }
    chain = {"filters": [{"name": "http", "typed_config": manager}]}
    return {"address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}}, "filter_chains": [chain]}


def _filter(name: str, of: str) -> dict[str, Any]:
    return {"name": name, "typed_config": {"@type": f"type.googleapis.com/{of}"}}


def test_it_takes_every_case(tmp_path: Path) -> None:
    found: dict[str, Any] = {}
    for case in (*CASES, *MORE):
        world, proxies = load_case(case)
        tables = [table for proxy in proxies for table in routes(world, proxy)]
        found |= {json.dumps(table): table for table in tables}
    said = _validated(tmp_path, list(found.values()))
    assert said.returncode == 0, said.stderr


def test_it_takes_everything_that_a_route_can_do(tmp_path: Path) -> None:
    tables = routes(world_alone(EVERYTHING), WORKER)
    assert [table["name"] for table in tables] == ["80", "8001"]
    said = _validated(tmp_path, tables)
    assert said.returncode == 0, said.stderr


def _table(route: dict[str, Any]) -> dict[str, Any]:
    host = {"name": "h", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, **route}]}
    return {"name": "t", "virtual_hosts": [host], "validate_clusters": False}


WRONG: dict[str, dict[str, Any]] = {
    "status": {"direct_response": direct_response(HTTPDirectResponse(status=600))},
    "abort": {
        "direct_response": {"status": 200},
        "typed_per_filter_config": {FAULT_FILTER: fault(HTTPFaultInjection(abort=Abort(http_status=600)))},
    },
    "no fault": {
        "direct_response": {"status": 200},
        "typed_per_filter_config": {FAULT_FILTER: fault(HTTPFaultInjection(abort=Abort()))},
    },
    "hash": {"route": {"cluster": "c", "hash_policy": [hash_policy(ConsistentHashLB(http_header_name=""))]}},
    "parameter": {
        "route": {"cluster": "c", "hash_policy": [hash_policy(ConsistentHashLB(http_query_parameter_name=""))]}
    },
    "redirect": {},  # what Istio makes of a code that it does not know
}


@pytest.mark.parametrize("what", WRONG)
def test_it_refuses_what_is_refused_before_it(tmp_path: Path, what: str) -> None:
    assert _validated(tmp_path, [_table({"direct_response": {"status": 200}})]).returncode == 0
    assert _validated(tmp_path, [_table(WRONG[what])]).returncode != 0
