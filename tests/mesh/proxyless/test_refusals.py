"""What gRPC's client cannot do is refused by name, and only where it would be in force."""

from __future__ import annotations

from pathlib import Path

import pytest

from mesh.istio.document import RefusedError
from mesh.proxyless.generate import generate
from tests.mesh.envoy.istio_vectors import CASES as VECTORS
from tests.mesh.envoy.istio_vectors import GATEWAY, world_of
from tests.mesh.proxyless.goldens import golden_of, loaded

HOST = "digits.models.svc.cluster.local"
TO = f"route: [{{destination: {{host: {HOST}}}}}]"


def virtual_service(route: str, hosts: str = HOST) -> str:
    return f"""
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: digits, namespace: models}}
spec: {{hosts: [{hosts}], http: [{route}]}}
"""


def rule(policy: str, name: str = "digits", more: str = "") -> str:
    return f"""
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: {name}, namespace: models}}
spec: {{host: {HOST}, trafficPolicy: {policy}{more}}}
"""


def security(kind: str, spec: str, namespace: str = "infer") -> str:
    return f"""
apiVersion: security.istio.io/v1
kind: {kind}
metadata: {{name: p, namespace: {namespace}}}
spec: {spec}
"""


def refused(*resources: str) -> list[str]:
    """What is refused: `KIND NAMESPACE/NAME: FIELD`, without where it stands and why."""
    try:
        generate(world_of("\n---\n".join(resources)), GATEWAY)
    except RefusedError as error:
        return [": ".join(line.split(": ", 3)[1:3]) for line in error.mistakes]
    return []


ROUTES = {
    "{redirect: {authority: a.example}}": ["redirect"],
    "{directResponse: {status: 404}}": ["directResponse"],
    f"{{rewrite: {{uri: /a}}, {TO}}}": ["rewrite"],
    f"{{rewrite: {{authority: a.example}}, {TO}}}": ["rewrite"],
    f"{{mirror: {{host: {HOST}}}, {TO}}}": ["mirror"],
    f"{{mirrors: [{{destination: {{host: {HOST}}}}}], {TO}}}": ["mirrors"],
    f"{{timeout: 5s, {TO}}}": ["timeout"],
    f"{{headers: {{request: {{set: {{x-a: b}}}}, response: {{remove: [x-c]}}}}, {TO}}}": [
        "headers.request",
        "headers.response",
    ],
    f"{{route: [{{destination: {{host: {HOST}}}, headers: {{request: {{add: {{x-a: b}}}}}}}}]}}": [
        "route[0].headers.request"
    ],
    f"{{retries: {{attempts: 5}}, {TO}}}": ["retries.attempts"],
    f"{{retries: {{attempts: 1, perTryTimeout: 1s}}, {TO}}}": ["retries.perTryTimeout"],
    f'{{retries: {{attempts: 1, retryOn: "unavailable,reset"}}, {TO}}}': ["retries.retryOn"],
    f'{{retries: {{attempts: 1, retryOn: "503"}}, {TO}}}': ["retries.retryOn"],
    f"{{retries: {{attempts: 1, retryRemoteLocalities: true}}, {TO}}}": ["retries.retryRemoteLocalities"],
    f"{{retries: {{attempts: 1, retryIgnorePreviousHosts: true}}, {TO}}}": ["retries.retryIgnorePreviousHosts"],
    f"{{retries: {{attempts: 1, backoff: 1ms}}, {TO}}}": ["retries.backoff"],
    f"{{fault: {{abort: {{httpStatus: 200, percentage: {{value: 1}}}}}}, {TO}}}": ["fault.abort.httpStatus"],
    f"{{match: [{{queryParams: {{a: {{exact: b}}}}}}], {TO}}}": ["match[0].queryParams"],
    f"{{match: [{{method: {{exact: POST}}}}], {TO}}}": ["match[0].method"],
    f"{{match: [{{scheme: {{exact: http}}}}], {TO}}}": ["match[0].scheme"],
    f"{{match: [{{authority: {{exact: a}}}}], {TO}}}": ["match[0].authority"],
    f"{{match: [{{statPrefix: a}}], {TO}}}": ["match[0].statPrefix"],
    f'{{match: [{{headers: {{":path": {{exact: /a}}}}}}], {TO}}}': ["match[0].headers.:path"],
    f"{{match: [{{headers: {{X-A: {{exact: b}}}}}}], {TO}}}": ["match[0].headers.X-A"],
    f"{{match: [{{headers: {{user-agent: {{}}}}}}], {TO}}}": ["match[0].headers.user-agent"],
    f"{{match: [{{headers: {{x-a-bin: {{}}}}}}], {TO}}}": ["match[0].headers.x-a-bin"],
    f"{{match: [{{uri: {{exact: /a}}}}, {{withoutHeaders: {{x-a: {{exact: b}}}}}}], {TO}}}": [
        "match[1].withoutHeaders.x-a"
    ],
}


@pytest.mark.parametrize("route", ROUTES)
def test_routes(route: str) -> None:
    found = refused(virtual_service(route))
    assert found == [f"VirtualService models/digits: spec.http[0].{field}" for field in ROUTES[route]]
    assert refused(virtual_service(f"{{{TO}}}")) == []


def test_what_a_route_can_ask() -> None:
    route = (
        "{match: [{uri: {prefix: /a}, ignoreUriCase: true, headers: {x-a: {regex: a}}, withoutHeaders: {x-b: {}}}],"
        " retries: {attempts: 4, retryOn: 'unavailable,internal', backoff: 2ms, retryIgnorePreviousHosts: false},"
        f" fault: {{delay: {{fixedDelay: 1s, percent: 5}}, abort: {{httpStatus: 503}}}}, {TO}}}"
    )
    assert refused(virtual_service(route)) == []


POLICIES = {
    "{loadBalancer: {simple: LEAST_REQUEST}}": ["loadBalancer.simple"],
    "{loadBalancer: {simple: LEAST_CONN}}": ["loadBalancer.simple"],
    "{loadBalancer: {simple: RANDOM}}": ["loadBalancer.simple"],
    "{loadBalancer: {simple: ROUND_ROBIN, warmup: {duration: 1s}}}": ["loadBalancer.warmup"],
    "{loadBalancer: {warmupDurationSecs: 1s}}": ["loadBalancer.warmupDurationSecs"],
    "{loadBalancer: {consistentHash: {useSourceIp: true}}}": ["loadBalancer.consistentHash.useSourceIp"],
    "{loadBalancer: {consistentHash: {httpCookie: {name: a}}}}": ["loadBalancer.consistentHash.httpCookie"],
    "{loadBalancer: {consistentHash: {httpQueryParameterName: a}}}": [
        "loadBalancer.consistentHash.httpQueryParameterName"
    ],
    "{loadBalancer: {consistentHash: {httpHeaderName: x, maglev: {tableSize: 11}}}}": [
        "loadBalancer.consistentHash.maglev"
    ],
    "{loadBalancer: {consistentHash: {httpHeaderName: x-bin}}}": ["loadBalancer.consistentHash.httpHeaderName"],
    "{loadBalancer: {consistentHash: {httpHeaderName: x, minimumRingSize: 4097}}}": [
        "loadBalancer.consistentHash.minimumRingSize"
    ],
    "{loadBalancer: {consistentHash: {httpHeaderName: x, ringHash: {minimumRingSize: 5000}}}}": [
        "loadBalancer.consistentHash.ringHash.minimumRingSize"
    ],
    "{connectionPool: {http: {http1MaxPendingRequests: 1}}}": ["connectionPool.http.http1MaxPendingRequests"],
    "{connectionPool: {http: {maxRequestsPerConnection: 1, maxRetries: 1, idleTimeout: 1s}}}": [
        "connectionPool.http.maxRequestsPerConnection",
        "connectionPool.http.maxRetries",
        "connectionPool.http.idleTimeout",
    ],
    "{connectionPool: {http: {http2MaxRequests: 1, maxConcurrentStreams: 1}}}": [
        "connectionPool.http.maxConcurrentStreams"
    ],
    "{connectionPool: {tcp: {maxConnections: 1, connectTimeout: 1s}}}": [
        "connectionPool.tcp.maxConnections",
        "connectionPool.tcp.connectTimeout",
    ],
    "{outlierDetection: {consecutive5xxErrors: 1}}": ["outlierDetection"],
    "{retryBudget: {percent: 20}}": ["retryBudget"],
    "{tls: {mode: ISTIO_MUTUAL, subjectAltNames: [a], sni: b}}": ["tls.subjectAltNames", "tls.sni"],
    "{portLevelSettings: [{port: {number: 8001}, outlierDetection: {interval: 1s}}]}": [
        "portLevelSettings[0].outlierDetection"
    ],
    "{portLevelSettings: [{port: {number: 8001}, loadBalancer: {simple: RANDOM}}]}": [
        "portLevelSettings[0].loadBalancer.simple"
    ],
}


@pytest.mark.parametrize("policy", POLICIES)
def test_policies(policy: str) -> None:
    fields = POLICIES[policy]
    assert refused(rule(policy)) == [f"DestinationRule models/digits: spec.trafficPolicy.{field}" for field in fields]
    subset = rule("{tls: {mode: DISABLE}}", more=f", subsets: [{{name: a, trafficPolicy: {policy}}}]")
    place = "DestinationRule models/digits: spec.subsets[0].trafficPolicy"
    assert refused(subset) == [f"{place}.{field}" for field in fields]


@pytest.mark.parametrize(
    "policy",
    [
        "{loadBalancer: {simple: ROUND_ROBIN}}",
        "{loadBalancer: {simple: UNSPECIFIED}}",
        "{loadBalancer: {consistentHash: {httpHeaderName: x-a, minimumRingSize: 4096}}}",
        "{connectionPool: {http: {http2MaxRequests: 1}}, tls: {mode: ISTIO_MUTUAL}}",
        "{portLevelSettings: [{port: {number: 8001}, connectionPool: {http: {http2MaxRequests: 1}}}]}",
    ],
)
def test_what_a_policy_can_ask(policy: str) -> None:
    assert refused(rule(policy)) == []


def test_a_rule_is_named_by_its_own_name_also_where_it_is_merged() -> None:
    more = rule("{retryBudget: {}}", "more", ", subsets: [{name: a, trafficPolicy: {retryBudget: {}}}]")
    found = refused(rule("{tls: {mode: DISABLE}}"), more)
    assert "DestinationRule models/more: spec.subsets[0].trafficPolicy.retryBudget" in found


def test_only_what_is_in_force_is_refused() -> None:
    """Routes for other callers, rules for other callers, hosts that no one registered."""
    others = "match: [{sourceLabels: {app: other}}, {sourceNamespace: other}]"
    assert refused(virtual_service(f"{{{others}, timeout: 5s, {TO}}}, {{{TO}}}")) == []
    assert refused(virtual_service(f"{{timeout: 5s, {TO}}}", "nowhere.example.com")) == []
    elsewhere = rule("{retryBudget: {}}", more=", workloadSelector: {matchLabels: {app: other}}")
    assert refused(elsewhere) == []
    own = f"match: [{{uri: {{exact: /a}}}}, {{sourceNamespace: infer}}], timeout: 5s, {TO}"
    assert refused(virtual_service(f"{{{own}}}")) == ["VirtualService models/digits: spec.http[0].timeout"]


def test_services_that_are_found_by_dns() -> None:
    entry = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: a, namespace: models}
spec: {hosts: [a.example.com], resolution: DNS, ports: [{number: 8001, name: grpc, protocol: GRPC}]}
"""
    assert refused(entry) == ["ServiceEntry models/a: spec.resolution"]
    assert refused(entry.replace("DNS", "STATIC")) == []


def test_weights_of_copies() -> None:
    heavy = """
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: heavy, namespace: models}
spec: {address: 127.0.1.19, labels: {app: digits}, weight: 5}
"""
    assert refused(heavy) == ["ServiceEntry models/digits: spec"]
    assert refused(heavy, rule("{loadBalancer: {consistentHash: {httpHeaderName: x-a}}}")) == []  # a ring has weights
    assert refused(heavy.replace("5", "1")) == []


def test_workers_that_take_mutual_tls_alone() -> None:
    strict = security("PeerAuthentication", "{mtls: {mode: STRICT}}", "models")
    services = [f"ServiceEntry models/{name}: spec.ports[0]" for name in ("digits", "triton")]
    assert refused(strict) == services
    assert refused(strict, rule("{tls: {mode: ISTIO_MUTUAL}}")) == services[1:]
    assert refused(strict.replace("STRICT", "PERMISSIVE")) == []


@pytest.mark.parametrize(
    ("kind", "spec", "field"),
    [
        ("AuthorizationPolicy", "{rules: [{}]}", "action"),
        ("AuthorizationPolicy", "{selector: {matchLabels: {app: gateway}}, action: DENY, rules: [{}]}", "action"),
        ("RequestAuthentication", "{jwtRules: [{issuer: a, jwks: '{\"keys\": []}'}]}", "jwtRules"),
        ("PeerAuthentication", "{mtls: {mode: STRICT}}", "mtls"),
        (
            "PeerAuthentication",
            "{selector: {matchLabels: {app: gateway}}, portLevelMtls: {8080: {mode: STRICT}}}",
            "mtls",
        ),
    ],
)
def test_policies_for_calls_to_the_caller_itself(kind: str, spec: str, field: str) -> None:
    assert refused(security(kind, spec)) == [f"{kind} infer/p: spec.{field}"]
    assert refused(security(kind, spec, "elsewhere")) == []
    if "gateway" in spec:
        assert refused(security(kind, spec.replace("gateway", "other"))) == []


def test_a_caller_without_demands_on_its_own_callers() -> None:
    permissive = "{selector: {matchLabels: {app: gateway}}, mtls: {mode: PERMISSIVE}}"
    own = security("PeerAuthentication", permissive)
    strict = "{mtls: {mode: STRICT}}"
    mesh = security("PeerAuthentication", strict, "istio-system")
    digits = rule("{tls: {mode: ISTIO_MUTUAL}}")
    triton = digits.replace("digits", "triton")
    assert refused(mesh, digits, triton) == ["PeerAuthentication istio-system/p: spec.mtls"]
    assert refused(mesh, digits, triton, own) == []


def test_every_mistake_is_told_once_and_says_where_and_why() -> None:
    world = world_of(virtual_service(f"{{timeout: 5s, mirror: {{host: {HOST}}}, {TO}}}"))
    with pytest.raises(RefusedError) as caught:
        generate(world, GATEWAY)
    mirror, timeout = sorted(caught.value.mistakes)
    assert mirror.startswith("test.yaml:")
    assert mirror.endswith("VirtualService models/digits: spec.http[0].mirror: gRPC's client mirrors no calls")
    assert "grpc/grpc#34547" in timeout


@pytest.mark.parametrize("case", [case for case in VECTORS if not golden_of(case).exists()], ids=lambda path: path.name)
def test_every_case_without_a_golden_is_refused(case: Path) -> None:
    with pytest.raises(RefusedError):
        generate(*loaded(case))
