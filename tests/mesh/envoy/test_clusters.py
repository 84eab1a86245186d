"""Clusters and endpoints are Istio's, to the letter, for every case; and the rules that no case shows."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from mesh.envoy.clusters import clusters
from mesh.envoy.endpoints import endpoints
from mesh.istio.document import RefusedError
from mesh.istio.load import load_case
from mesh.istio.mesh_config import MeshConfig
from mesh.istio.proxies import Proxy
from mesh.istio.world import World
from tests.mesh.envoy.istio_vectors import (
    CASES,
    GATEWAY,
    WORKER,
    clusters_view,
    differences,
    endpoints_view,
    golden,
    world_alone,
    world_of,
)

DIGITS = "digits.models.svc.cluster.local"
PROXIES = ("gateway", "worker")


def compiled(case: Path, name: str) -> dict[str, Any]:
    world, proxies = load_case(case)
    proxy = next(one for one in proxies if one.name == name)
    return {"clusters": clusters(world, proxy), "endpoints": endpoints(world, proxy)}


def by_name(world: World, proxy: Proxy = GATEWAY) -> dict[str, Any]:
    return {str(cluster["name"]): cluster for cluster in clusters(world, proxy)}


def rule(policy: str, more: str = "") -> str:
    return f"""
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: digits, namespace: models}}
spec: {{host: {DIGITS}, trafficPolicy: {policy}{more}}}
"""


def with_policy(policy: str, more: str = "", name: str = f"outbound|8001||{DIGITS}") -> Any:
    return by_name(world_of(rule(policy, more)))[name]


def http_options(cluster: Any) -> Any:
    (options,) = cluster["typed_extension_protocol_options"].values()
    return {key: value for key, value in options.items() if key != "@type"}


@pytest.mark.parametrize("proxy", PROXIES)
@pytest.mark.parametrize("case", CASES, ids=lambda path: path.name)
def test_nothing_differs_from_istio(case: Path, proxy: str) -> None:
    istio, ours = golden(case, proxy), compiled(case, proxy)
    for view in (clusters_view, endpoints_view):
        assert list(differences(view(istio), view(ours))) == []
    # Stricter than the comparison: plumbing, metadata and the clusters without a service are Istio's as well.
    assert sorted(istio["clusters"], key=lambda one: one["name"]) == sorted(
        ours["clusters"], key=lambda one: one["name"]
    )
    assert istio["endpoints"] == sorted(ours["endpoints"], key=lambda one: one["cluster_name"])


def _set_lb(config: dict[str, Any]) -> None:
    _outbound(config)["lb_policy"] = "RANDOM"


def _set_limit(config: dict[str, Any]) -> None:
    _outbound(config)["circuit_breakers"]["thresholds"][0]["max_requests"] = 7


def _set_peer(config: dict[str, Any]) -> None:
    context = _outbound(config)["transport_socket_matches"][0]["transport_socket"]["typed_config"]
    validation = context["common_tls_context"]["combined_validation_context"]["default_validation_context"]
    validation["match_subject_alt_names"][0]["exact"] = "spiffe://cluster.local/ns/models/sa/intruder"


def _drop_cluster(config: dict[str, Any]) -> None:
    config["clusters"].remove(_outbound(config))


def _move_copy(config: dict[str, Any]) -> None:
    endpoint = config["endpoints"][0]["endpoints"][0]["lb_endpoints"][0]["endpoint"]
    endpoint["address"]["socket_address"]["port_value"] = 9


def _outbound(config: dict[str, Any]) -> Any:
    return next(one for one in config["clusters"] if one["name"].startswith("outbound|"))


@pytest.mark.parametrize("change", [_set_lb, _set_limit, _set_peer, _drop_cluster, _move_copy])
def test_a_changed_golden_differs(change: Any) -> None:
    case = next(path for path in CASES if path.name == "dr-none")
    istio = golden(case, "gateway")
    changed = copy.deepcopy(istio)
    change(changed)
    found = [*differences(clusters_view(istio), clusters_view(changed))]
    found += differences(endpoints_view(istio), endpoints_view(changed))
    assert found != []


def test_the_same_world_gives_the_same_text() -> None:
    world = world_of(rule("{loadBalancer: {simple: RANDOM}}"))
    turned = World(world.mesh, tuple(reversed(world.resources)))
    assert clusters(world, GATEWAY) == clusters(turned, GATEWAY)
    assert endpoints(world, GATEWAY) == endpoints(turned, GATEWAY)


def test_a_subset_of_a_port_overrides_all_parts() -> None:
    subsets = """, subsets: [{name: v1, labels: {version: v1}, trafficPolicy: {portLevelSettings: [
        {port: {number: 8001}, connectionPool: {http: {http2MaxRequests: 3}}}]}}]"""
    policy = "{outlierDetection: {consecutive5xxErrors: 5}, retryBudget: {percent: 30}}"
    whole = with_policy(policy, subsets)
    part = with_policy(policy, subsets, f"outbound|8001|v1|{DIGITS}")
    assert "outlier_detection" in whole
    assert "outlier_detection" not in part
    threshold = part["circuit_breakers"]["thresholds"][0]
    assert threshold["max_requests"] == 3
    assert threshold["retry_budget"] == {"budget_percent": {"value": 30}, "min_retry_concurrency": 3}


def test_a_port_has_no_retry_budget_of_the_rule() -> None:
    policy = "{retryBudget: {percent: 30}, portLevelSettings: [{port: {number: 8001}, loadBalancer: {simple: RANDOM}}]}"
    assert "retry_budget" not in with_policy(policy)["circuit_breakers"]["thresholds"][0]


def test_connections() -> None:
    pool = """{connectionPool: {tcp: {maxConnectionDuration: 1h, idleTimeout: 5m,
        tcpKeepalive: {probes: 3, time: 1500ms, interval: 75s}},
        http: {maxConcurrentStreams: 50, http2KeepAlive: {interval: 30s, timeout: 5s}}}}"""
    cluster = with_policy(pool)
    assert cluster["upstream_connection_options"] == {
        "tcp_keepalive": {"keepalive_probes": 3, "keepalive_time": 1, "keepalive_interval": 75}
    }
    assert http_options(cluster) == {
        "common_http_protocol_options": {"idle_timeout": "300s", "max_connection_duration": "3600s"},
        "explicit_http_config": {
            "http2_protocol_options": {
                "max_concurrent_streams": 50,
                "connection_keepalive": {"interval": "30s", "timeout": "5s"},
            }
        },
    }


def test_the_callers_protocol() -> None:
    cluster = with_policy("{connectionPool: {http: {useClientProtocol: true}}}")
    assert http_options(cluster).keys() == {"use_downstream_protocol_config"}
    context = cluster["transport_socket_matches"][0]["transport_socket"]["typed_config"]
    assert context["common_tls_context"]["alpn_protocols"] == ["istio-peer-exchange", "istio"]


PLAIN = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: web, namespace: models}
spec:
  hosts: [web.example.com]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{number: 80, name: http, protocol: HTTP}]
  endpoints: [{address: 127.0.2.1, serviceAccount: web}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: web, namespace: models}
spec: {host: web.example.com, trafficPolicy: {connectionPool: {http: %s}}}
"""


def test_http1_and_its_upgrade() -> None:
    name = "outbound|80||web.example.com"
    plain = by_name(world_of(PLAIN % "{http2MaxRequests: 4}"))[name]
    assert "typed_extension_protocol_options" not in plain
    limited = by_name(world_of(PLAIN % "{idleTimeout: 1s}"))[name]
    assert http_options(limited)["explicit_http_config"] == {"http_protocol_options": {}}
    upgraded = by_name(world_of(PLAIN % "{h2UpgradePolicy: UPGRADE}"))[name]
    assert http_options(upgraded) == {"explicit_http_config": {"http2_protocol_options": {}}}


def test_hashes() -> None:
    ring = with_policy("{loadBalancer: {consistentHash: {useSourceIp: true, minimumRingSize: 2048}}}")
    assert ring["ring_hash_lb_config"] == {"minimum_ring_size": "2048"}
    named = with_policy("{loadBalancer: {consistentHash: {useSourceIp: true, ringHash: {minimumRingSize: 77}}}}")
    assert (named["lb_policy"], named["ring_hash_lb_config"]) == ("RING_HASH", {"minimum_ring_size": "77"})
    # Istio leaves the warmup's least_request_lb_config beside a ring without a size of its own.
    empty = with_policy("{loadBalancer: {consistentHash: {useSourceIp: true, ringHash: {}}, warmup: {duration: 5s}}}")
    assert empty["lb_policy"] == "RING_HASH"
    assert "ring_hash_lb_config" not in empty
    assert "least_request_lb_config" in empty


def test_the_older_warmup() -> None:
    cluster = with_policy("{loadBalancer: {simple: ROUND_ROBIN, warmupDurationSecs: 9s}}")
    assert "lb_policy" not in cluster
    assert cluster["round_robin_lb_config"] == {"slow_start_config": {"slow_start_window": "9s"}}


def test_without_auto_mtls_nothing_is_secured_unless_asked_for() -> None:
    mesh = MeshConfig(enable_auto_mtls=False)
    name = f"outbound|8001||{DIGITS}"
    plain = by_name(world_of("", mesh))[name]
    assert plain.keys().isdisjoint({"transport_socket", "transport_socket_matches"})
    asked = by_name(world_of(rule("{tls: {mode: ISTIO_MUTUAL, sni: other}}"), mesh))[name]
    assert asked["transport_socket"]["typed_config"]["sni"] == "other"


MODES = """
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: mesh, namespace: istio-system}
spec: {mtls: {mode: DISABLE}}
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: models, namespace: models}
spec: {mtls: {mode: %s}}
"""


@pytest.mark.parametrize(("mode", "secured"), [("UNSET", False), ("DISABLE", False), ("PERMISSIVE", True)])
def test_a_namespace_overrides_the_mesh(mode: str, secured: bool) -> None:
    cluster = by_name(world_of(MODES % mode))[f"outbound|8001||{DIGITS}"]
    assert ("transport_socket_matches" in cluster) is secured


EXTERNAL = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: api, namespace: models}
spec:
  hosts: [api.example.com]
  resolution: %s
  ports: [{number: 443, name: grpc, protocol: GRPC, targetPort: 8443}]
"""


@pytest.mark.parametrize(("resolution", "kind"), [("DNS", "STRICT_DNS"), ("DNS_ROUND_ROBIN", "LOGICAL_DNS")])
def test_dns(resolution: str, kind: str) -> None:
    cluster = by_name(world_alone(EXTERNAL % resolution))["outbound|443||api.example.com"]
    (locality,) = cluster["load_assignment"]["endpoints"]
    (endpoint,) = locality["lb_endpoints"]
    socket = endpoint["endpoint"]["address"]["socket_address"]
    assert (cluster["type"], cluster["dns_lookup_family"]) == (kind, "V4_ONLY")
    assert socket == {"address": "api.example.com", "port_value": 8443}
    assert "transport_socket_matches" not in cluster
    assert cluster["metadata"]["filter_metadata"]["istio"]["external"] is True
    assert endpoints(world_alone(EXTERNAL % resolution), GATEWAY) == []


def test_a_dns_cluster_without_copies_is_left_out() -> None:
    text = (EXTERNAL % "DNS").rstrip() + "\n  workloadSelector: {labels: {app: nobody}}\n"
    assert not any(name.startswith("outbound") for name in by_name(world_alone(text)))


def test_dns_over_ipv6() -> None:
    proxy = Proxy(name="p", namespace="infer", ip="fd00::1")
    found = by_name(world_alone(EXTERNAL % "DNS"), proxy)
    assert found["outbound|443||api.example.com"]["dns_lookup_family"] == "V6_ONLY"
    assert found["InboundPassthroughCluster"]["upstream_bind_config"]["source_address"]["address"] == "::6"


def test_a_worker_is_limited_as_its_callers_are() -> None:
    world = world_of(rule("{connectionPool: {tcp: {maxConnections: 5}}, outlierDetection: {consecutive5xxErrors: 1}}"))
    own = by_name(world, WORKER)["inbound|8001||"]
    assert own["circuit_breakers"]["thresholds"][0]["max_connections"] == 5
    assert "outlier_detection" not in own


def test_a_worker_that_may_not_call_itself_finds_no_rule() -> None:
    sidecar = """
---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: default, namespace: models}
spec: {egress: [{hosts: [./triton.models.svc.cluster.local]}]}
"""
    world = world_of(rule("{connectionPool: {tcp: {maxConnections: 5}}}") + sidecar)
    found = by_name(world, WORKER)
    assert found["inbound|8001||"]["circuit_breakers"]["thresholds"][0]["max_connections"] == 2**32 - 1
    assert f"outbound|8001||{DIGITS}" not in found


@pytest.mark.parametrize(
    ("policy", "field"),
    [
        ("{retryBudget: {percent: 101}}", "retryBudget.percent"),
        ("{retryBudget: {percent: -1}}", "retryBudget.percent"),
        ("{retryBudget: {budgetInterval: -1s}}", "retryBudget.budgetInterval"),
        ("{loadBalancer: {simple: ROUND_ROBIN, warmupDurationSecs: -1s}}", "loadBalancer.warmupDurationSecs"),
        (
            "{loadBalancer: {consistentHash: {useSourceIp: true, minimumRingSize: 8388609}}}",
            "loadBalancer.consistentHash.minimumRingSize",
        ),
        (
            "{portLevelSettings: [{port: {number: 1}, loadBalancer: {consistentHash: {useSourceIp: true, "
            "ringHash: {minimumRingSize: 8388609}}}}]}",
            "portLevelSettings[0].loadBalancer.consistentHash.ringHash.minimumRingSize",
        ),
    ],
)
def test_what_envoy_would_not_take_is_refused(policy: str, field: str) -> None:
    with pytest.raises(RefusedError) as refused:
        clusters(world_of(rule(policy)), GATEWAY)
    assert f"DestinationRule models/digits: spec.trafficPolicy.{field}: " in str(refused.value)


@pytest.mark.parametrize("key", ["security.istio.io/tlsMode", "istio-locality", "topology.istio.io/network"])
def test_labels_with_a_meaning_are_refused(key: str) -> None:
    entry = f"""
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {{name: more, namespace: models}}
spec: {{address: 127.0.1.14, labels: {{app: digits, {key}: x}}, serviceAccount: digits}}
"""
    with pytest.raises(RefusedError) as refused:
        clusters(world_of(entry), GATEWAY)
    assert f"WorkloadEntry models/more: spec.labels.{key}: not implemented" in str(refused.value)
