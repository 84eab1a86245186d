"""Routes equal Istio's: every golden, and the rules that no golden holds."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import pytest

from mesh.envoy.routes import routes
from mesh.istio.document import RefusedError
from mesh.istio.load import load_case
from mesh.istio.proxies import Proxy
from mesh.istio.world import World
from tests.mesh.envoy.istio_vectors import CASES, GATEWAY, VECTORS, differences, golden, routes_view, world_alone

DIGITS = "digits.models.svc.cluster.local"
MORE = sorted(file.parent for file in (Path(__file__).parent / "route_goldens").glob("*/config.yaml"))
SINGLE = VECTORS / "cases" / "vs-single"


@functools.cache
def _case(case: Path) -> tuple[World, tuple[Proxy, ...]]:
    return load_case(case)


def _ours(case: Path, proxy: str) -> list[dict[str, object]]:
    world, proxies = _case(case)
    return routes(world, next(one for one in proxies if one.name == proxy))


def _differences(istios: dict[str, Any], ours: list[dict[str, object]]) -> list[tuple[str, object, object]]:
    return list(differences(routes_view(istios), routes_view({"routes": ours})))


@pytest.mark.parametrize("proxy", ["gateway", "worker"])
@pytest.mark.parametrize("case", [*CASES, *MORE], ids=lambda case: case.name)
def test_routes_equal_istios(case: Path, proxy: str) -> None:
    istios, ours = golden(case, proxy), _ours(case, proxy)
    assert _differences(istios, ours) == []
    assert ours == istios["routes"]  # more than compare.py asks for: every field, all domains, the answer to others


def _mutations(routes_of_digits: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    first = routes_of_digits[0]
    policy = first["route"]["retry_policy"]
    return {
        "cluster": [{**first, "route": {**first["route"], "cluster": "outbound|8001|v9|other"}}],
        "timeout": [{**first, "route": {**first["route"], "timeout": "1s"}}],
        "retries": [{**first, "route": {**first["route"], "retry_policy": {**policy, "num_retries": 3}}}],
        "no retries": [{**first, "route": {k: v for k, v in first["route"].items() if k != "retry_policy"}}],
        "match": [{**first, "match": {"prefix": "/other"}}],
        "headers": [{**first, "request_headers_to_remove": ["x-c"]}],
        "one more": [first, first],
        "none": [],
    }


@pytest.mark.parametrize(
    "what", ["cluster", "timeout", "retries", "no retries", "match", "headers", "one more", "none"]
)
def test_a_changed_golden_is_found(what: str) -> None:
    istios = golden(SINGLE, "gateway")
    host = istios["routes"][0]["virtual_hosts"][0]
    host["routes"] = _mutations(host["routes"])[what]
    assert _differences(istios, _ours(SINGLE, "gateway")) != []


def test_order_of_routes_is_compared() -> None:
    case = VECTORS / "cases" / "vs-header-version"
    istios = golden(case, "gateway")
    istios["routes"][0]["virtual_hosts"][0]["routes"].reverse()
    assert _differences(istios, _ours(case, "gateway")) != []


SERVICE = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: NAME, namespace: models}
spec:
  hosts: [HOST]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{number: PORT, name: grpc, protocol: GRPC}]
  workloadSelector: {labels: {app: NAME}}
"""


def _service(name: str = "digits", host: str = "", port: int = 8001) -> str:
    return (
        SERVICE.replace("NAME", name)
        .replace("HOST", host or f"{name}.models.svc.cluster.local")
        .replace("PORT", str(port))
    )


def _virtual_service(
    http: str, hosts: str = "[digits]", name: str = "digits", namespace: str = "models", more: str = ""
) -> str:
    return f"""
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: {name}, namespace: {namespace}}}
spec:
  hosts: {hosts}
  http: {http}
{more}
"""


def _rule(spec: str) -> str:
    return f"""
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: digits, namespace: models}}
spec: {spec}
"""


def _world(*documents: str) -> World:
    return world_alone("\n---\n".join(documents))


def _hosts(world: World, proxy: Proxy = GATEWAY, port: int = 8001) -> dict[str, Any]:
    """Name of a virtual host -> the virtual host."""
    tables: list[dict[str, Any]] = [table for table in routes(world, proxy) if table["name"] == str(port)]
    return {host["name"]: host for table in tables for host in table["virtual_hosts"]}


def _routes(http: str, *more: str, proxy: Proxy = GATEWAY) -> list[dict[str, Any]]:
    hosts = _hosts(_world(_service(), _virtual_service(http), *more), proxy)
    found: list[dict[str, Any]] = hosts[f"{DIGITS}:8001"]["routes"]
    return found


TO_DIGITS = "route: [{destination: {host: digits}}]"


def test_short_names_of_destinations_are_of_the_virtual_services_namespace() -> None:
    (route,) = _routes(f"[{{{TO_DIGITS}}}]")
    assert route["route"]["cluster"] == f"outbound|8001||{DIGITS}"


def test_a_destinations_port_wins_over_the_calls_port() -> None:
    (route,) = _routes("[{route: [{destination: {host: other.example, port: {number: 9000}, subset: v1}}]}]")
    assert route["route"]["cluster"] == "outbound|9000|v1|other.example"


@pytest.mark.parametrize(
    ("match", "written"),
    [
        ("uri: {exact: /a}", {"path": "/a", "case_sensitive": True}),
        ("uri: {regex: /a.*}", {"safe_regex": {"regex": "/a.*"}, "case_sensitive": True}),
        ("uri: {prefix: /A}, ignoreUriCase: true", {"prefix": "/A", "case_sensitive": False}),
        (
            "method: {exact: POST}, scheme: {exact: http}, authority: {prefix: d}, headers: {z: {exact: v}, a: {}}",
            {
                "prefix": "/",
                "case_sensitive": True,
                "headers": [
                    {"name": "a", "present_match": True},
                    {"name": "z", "string_match": {"exact": "v"}},
                    {"name": ":method", "string_match": {"exact": "POST"}},
                    {"name": ":authority", "string_match": {"prefix": "d"}},
                    {"name": ":scheme", "string_match": {"exact": "http"}},
                ],
            },
        ),
        (
            'withoutHeaders: {b: {exact: v}, a: {regex: "*"}}',
            {
                "prefix": "/",
                "case_sensitive": True,
                "headers": [
                    {"name": "a", "present_match": True, "invert_match": True},
                    {
                        "name": "b",
                        "string_match": {"exact": "v"},
                        "invert_match": True,
                        "treat_missing_header_as_empty": True,
                    },
                ],
            },
        ),
        (
            "queryParams: {q: {prefix: x}, p: {}}",
            {
                "prefix": "/",
                "case_sensitive": True,
                "query_parameters": [
                    {"name": "p", "present_match": True},
                    {"name": "q", "string_match": {"prefix": "x"}},
                ],
            },
        ),
    ],
)
def test_matches(match: str, written: dict[str, Any]) -> None:
    route, default = _routes(f"[{{match: [{{{match}}}], {TO_DIGITS}}}, {{{TO_DIGITS}}}]")
    assert route["match"] == written
    assert default["match"] == {"prefix": "/"}


def test_a_route_after_one_for_every_call_is_left_out() -> None:
    every = '[{match: [{uri: {regex: ".*"}}, {uri: {prefix: /a}}], ROUTE}, {ROUTE}]'.replace("ROUTE", TO_DIGITS)
    assert [route["match"] for route in _routes(every)] == [{"safe_regex": {"regex": ".*"}, "case_sensitive": True}]


def test_a_match_for_another_port_or_caller_is_left_out() -> None:
    others = "{port: 9000}, {sourceNamespace: other}, {sourceLabels: {app: other}}"
    ours = "{sourceLabels: {app: gateway}, sourceNamespace: infer, port: 8001, uri: {prefix: /a}}"
    (route, _) = _routes(f"[{{match: [{others}, {ours}], {TO_DIGITS}}}, {{{TO_DIGITS}}}]")
    assert route["match"]["prefix"] == "/a"


def test_a_match_that_names_the_gateway_mesh_holds_for_every_caller() -> None:
    (route,) = _routes(f"[{{match: [{{gateways: [mesh], sourceLabels: {{app: other}}}}], {TO_DIGITS}}}]")
    assert "name" not in route


def test_a_virtual_service_without_a_route_for_the_caller_leaves_the_default() -> None:
    (route,) = _routes(f"[{{match: [{{sourceNamespace: other}}], {TO_DIGITS}}}]")
    assert route["name"] == "default"


def test_names_and_statistics() -> None:
    (route,) = _routes(f"[{{name: r, match: [{{name: m, statPrefix: s}}], {TO_DIGITS}}}]")
    assert (route["name"], route["stat_prefix"]) == ("r.m", "s")


@pytest.mark.parametrize(
    ("retries", "written"),
    [
        ('{attempts: 4, retryOn: "503"}', (",retriable-status-codes", [503])),
        ('{attempts: 4, retryOn: "retriable-status-codes,503"}', ("retriable-status-codes", [503])),
        ('{attempts: 4, retryOn: "5xx,429,reset"}', ("5xx,reset,retriable-status-codes", [429])),
    ],
)
def test_conditions_of_retries(retries: str, written: tuple[str, list[int]]) -> None:
    (route,) = _routes(f"[{{retries: {retries}, {TO_DIGITS}}}]")
    policy = route["route"]["retry_policy"]
    assert (policy["retry_on"], policy["retriable_status_codes"]) == written
    assert policy["num_retries"] == 4


HASH = "{host: digits, trafficPolicy: {loadBalancer: {consistentHash: {HOW}}}}"


@pytest.mark.parametrize(
    ("retries", "elsewhere"),
    [
        ("{attempts: 3}", False),
        ("{attempts: 3, retryIgnorePreviousHosts: true}", True),
        ("{attempts: 3, retryIgnorePreviousHosts: false}", False),
    ],
)
def test_a_hashed_call_is_retried_at_its_copy(retries: str, *, elsewhere: bool) -> None:
    (route,) = _routes(f"[{{retries: {retries}, {TO_DIGITS}}}]", _rule(HASH.replace("HOW", "httpHeaderName: x-a")))
    assert ("retry_host_predicate" in route["route"]["retry_policy"]) is elsewhere


@pytest.mark.parametrize(
    ("how", "policy"),
    [
        ("httpHeaderName: x-a", {"header": {"header_name": "x-a"}}),
        ("httpQueryParameterName: q", {"query_parameter": {"name": "q"}}),
        ("useSourceIp: true", {"connection_properties": {"source_ip": True}}),
        (
            "httpCookie: {name: c, path: /, ttl: 5s, attributes: [{name: SameSite, value: Lax}]}",
            {"cookie": {"name": "c", "path": "/", "ttl": "5s", "attributes": [{"name": "SameSite", "value": "Lax"}]}},
        ),
    ],
)
def test_hash_policies(how: str, policy: dict[str, Any]) -> None:
    rule = _rule(HASH.replace("HOW", how))
    (routed,) = _routes(f"[{{{TO_DIGITS}}}]", rule)
    (plain,) = _hosts(_world(_service(), rule))[f"{DIGITS}:8001"]["routes"]
    assert routed["route"]["hash_policy"] == plain["route"]["hash_policy"] == [policy]
    assert "retry_host_predicate" in plain["route"]["retry_policy"]  # Istio has it so without a VirtualService


def test_the_narrowest_hash_decides() -> None:
    rule = _rule("""
  host: digits
  trafficPolicy:
    loadBalancer: {consistentHash: {httpHeaderName: x-all}}
    portLevelSettings: [{port: {number: 8001}, loadBalancer: {consistentHash: {httpHeaderName: x-port}}}]
  subsets:
  - {name: v1, labels: {version: v1}}
  - name: v2
    labels: {version: v2}
    trafficPolicy: {loadBalancer: {consistentHash: {httpHeaderName: x-v2}}}
  - name: v3
    labels: {version: v3}
    trafficPolicy:
      loadBalancer: {consistentHash: {httpHeaderName: x-v3}}
      portLevelSettings: [{port: {number: 8001}, loadBalancer: {consistentHash: {httpHeaderName: x-v3-port}}}]
""")

    def hashed(destination: str) -> str:
        (route,) = _routes(f"[{{route: [{{destination: {{host: digits, {destination}}}}}]}}]", rule)
        name: str = route["route"]["hash_policy"][0]["header"]["header_name"]
        return name

    port = "port: {number: 8001}"
    assert [hashed(one) for one in ("subset: v1", "subset: v2", "subset: v3")] == ["x-all", "x-v2", "x-v3"]
    assert [hashed(f"{one}, {port}") for one in ("subset: v1", "subset: v2", "subset: v3")] == [
        "x-port",
        "x-v2",
        "x-v3-port",
    ]
    (plain,) = _hosts(_world(_service(), rule))[f"{DIGITS}:8001"]["routes"]
    assert plain["route"]["hash_policy"] == [{"header": {"header_name": "x-port"}}]


def test_weighted_destinations_with_a_hash_are_retried_elsewhere() -> None:
    weighted = "[{route: [{destination: {host: digits}, weight: 1}, {destination: {host: digits}, weight: 2}]}]"
    (route,) = _routes(weighted, _rule(HASH.replace("HOW", "httpHeaderName: x-a")))
    assert route["route"]["hash_policy"] == [{"header": {"header_name": "x-a"}}] * 2
    assert "retry_host_predicate" in route["route"]["retry_policy"]


@pytest.mark.parametrize(
    ("mirror", "share"),
    [
        ("mirror: {host: other}", {"numerator": 100}),
        ("mirror: {host: other}, mirrorPercent: 7", {"numerator": 7}),
        ("mirror: {host: other}, mirrorPercent: 7, mirrorPercentage: {value: 0.1}",
         {"numerator": 1000, "denominator": "MILLION"}),
        ("mirror: {host: other}, mirrorPercent: 0", None),
        ("mirror: {host: other}, mirrorPercentage: {value: 0}", None),
        ("mirrors: [{destination: {host: other}, percentage: {value: 0}}]", None),
        ("mirrors: [{destination: {host: other}}]", {"numerator": 100}),
    ],
)  # fmt: skip
def test_shares_of_mirrors(mirror: str, share: dict[str, Any] | None) -> None:
    (route,) = _routes(f"[{{{mirror}, {TO_DIGITS}}}]")
    policies = route["route"].get("request_mirror_policies")
    if share is None:
        assert policies is None
    else:
        assert [policy["cluster"] for policy in policies] == ["outbound|8001||other.models.svc.cluster.local"]
        assert policies[0]["runtime_fraction"] == {"default_value": share}


@pytest.mark.parametrize(
    ("fault", "written"),
    [
        ("{abort: {httpStatus: 503}}", {"abort": {"http_status": 503}}),
        ("{abort: {grpcStatus: OK, percentage: {value: 0.5}}}",
         {"abort": {"grpc_status": 0, "percentage": {"numerator": 5000, "denominator": "MILLION"}}}),
        ("{delay: {fixedDelay: 1s, percent: 3}}", {"delay": {"fixed_delay": "1s", "percentage": {"numerator": 3}}}),
        ("{delay: {fixedDelay: 1s}}", {"delay": {"fixed_delay": "1s", "percentage": {}}}),
    ],
)  # fmt: skip
def test_faults(fault: str, written: dict[str, Any]) -> None:
    (route,) = _routes(f"[{{fault: {fault}, {TO_DIGITS}}}]")
    config = route["typed_per_filter_config"]["envoy.filters.http.fault"]
    assert {name: value for name, value in config.items() if name != "@type"} == written


@pytest.mark.parametrize(
    ("redirect", "written"),
    [
        ("{uri: /a}", {"path_redirect": "/a"}),
        ("{prefixRewrite: /a, authority: b, redirectCode: 308}",
         {"host_redirect": "b", "prefix_rewrite": "/a", "response_code": "PERMANENT_REDIRECT"}),
        ("{scheme: https, port: 443}", {"path_redirect": "", "scheme_redirect": "https"}),
        ("{scheme: https, port: 80}", {"path_redirect": "", "scheme_redirect": "https", "port_redirect": 80}),
        ("{derivePort: FROM_REQUEST_PORT}", {"path_redirect": "", "port_redirect": 8001}),
        ("{derivePort: FROM_PROTOCOL_DEFAULT}", {"path_redirect": ""}),
    ],
)  # fmt: skip
def test_redirects(redirect: str, written: dict[str, Any]) -> None:
    (route,) = _routes(f"[{{redirect: {redirect}}}]")
    assert route["redirect"] == written
    assert route["decorator"] == {"operation": "digits:8001/*"}


def test_a_direct_response_with_a_body() -> None:
    (route,) = _routes("[{directResponse: {status: 429, body: {string: wait}}}]")
    assert route["direct_response"] == {"status": 429, "body": {"inline_string": "wait"}}


@pytest.mark.parametrize(
    ("rewrite", "written"),
    [
        ("{uri: /b}", {"prefix_rewrite": "/b"}),
        ("{uriRegexRewrite: {match: /a, rewrite: /b}}",
         {"regex_rewrite": {"pattern": {"regex": "/a"}, "substitution": "/b"}}),
        ("{uri: /b, authority: c}", {"prefix_rewrite": "/b", "host_rewrite_literal": "c"}),
    ],
)  # fmt: skip
def test_rewrites(rewrite: str, written: dict[str, Any]) -> None:
    (route,) = _routes(f"[{{rewrite: {rewrite}, {TO_DIGITS}}}]")
    names = ("prefix_rewrite", "regex_rewrite", "host_rewrite_literal")
    assert {name: value for name, value in route["route"].items() if name in names} == written


def test_the_authority_is_rewritten_and_never_edited_as_a_header() -> None:
    headers = "headers: {request: {set: {Host: a}, add: {x: z}}}"
    (route,) = _routes(f"[{{{headers}, {TO_DIGITS}}}]")
    assert route["route"]["host_rewrite_literal"] == "a"
    assert [edit["header"]["key"] for edit in route["request_headers_to_add"]] == ["x"]
    (alone,) = _routes(f"[{{route: [{{destination: {{host: digits}}, {headers}}}]}}]")
    assert alone["route"]["host_rewrite_literal"] == "a"
    half = "destination: {host: digits}, weight: 1"
    (shared,) = _routes(f"[{{route: [{{{half}, {headers}}}, {{{half}}}]}}]")
    assert [one.get("host_rewrite_literal") for one in shared["route"]["weighted_clusters"]["clusters"]] == ["a", None]


def test_edits_of_one_destination_come_after_the_routes_own() -> None:
    edits = "headers: {request: {set: {b: R}, remove: [x]}, response: {add: {s: R}}}"
    (route,) = _routes(
        f"[{{{edits}, route: [{{destination: {{host: digits}}, weight: 3, {edits.replace('R', 'D')}}}]}}]"
    )
    assert [edit["header"]["value"] for edit in route["request_headers_to_add"]] == ["R", "D"]
    assert route["request_headers_to_remove"] == ["x", "x"]
    assert [edit["header"]["value"] for edit in route["response_headers_to_add"]] == ["R", "D"]


@pytest.mark.parametrize(
    ("http", "field"),
    [
        ("[{redirect: {uri: /a, redirectCode: 305}}]", "spec.http[0].redirect.redirectCode"),
        ("[{directResponse: {status: 600}}]", "spec.http[0].directResponse.status"),
        (f"[{{fault: {{delay: {{percent: 5}}}}, {TO_DIGITS}}}]", "spec.http[0].fault.delay.fixedDelay"),
        (f"[{{fault: {{abort: {{percentage: {{value: 5}}}}}}, {TO_DIGITS}}}]", "spec.http[0].fault.abort"),
        (f"[{{fault: {{abort: {{httpStatus: 600}}}}, {TO_DIGITS}}}]", "spec.http[0].fault.abort.httpStatus"),
    ],
)
def test_what_envoy_cannot_do_is_refused_by_name(http: str, field: str) -> None:
    with pytest.raises(RefusedError) as refused:
        _routes(http)
    assert len(refused.value.mistakes) == 1
    assert f"VirtualService models/digits: {field}: " in str(refused.value)


def test_an_empty_key_of_a_hash_is_refused_by_name() -> None:
    rule = _rule(
        '{host: digits, subsets: [{name: v, trafficPolicy: {loadBalancer: {consistentHash: {httpHeaderName: ""}}}}]}'
    )
    with pytest.raises(
        RefusedError, match=r"spec\.subsets\[0\]\.trafficPolicy\.loadBalancer\.consistentHash\.httpHeaderName"
    ):
        routes(_world(_service(), rule), GATEWAY)


def test_domains_of_callers_in_another_namespace_the_same_and_of_other_hosts() -> None:
    world = _world(_service(), _service("outer", "api.example.com"))
    worker = Proxy(name="worker", namespace="models", ip="127.0.1.11")
    assert _hosts(world)[f"{DIGITS}:8001"]["domains"] == [DIGITS, f"{DIGITS}.", "digits.models", "digits.models.svc"]
    assert _hosts(world, worker)[f"{DIGITS}:8001"]["domains"] == [
        DIGITS, f"{DIGITS}.", "digits", "digits.models.svc", "digits.models",
    ]  # fmt: skip
    assert _hosts(world)["api.example.com:8001"]["domains"] == ["api.example.com", "api.example.com."]


def test_of_two_virtual_services_for_a_host_the_older_one_wins() -> None:
    both = (
        _virtual_service(f"[{{name: second, {TO_DIGITS}}}]", name="b"),
        _virtual_service(f"[{{name: first, {TO_DIGITS}}}]", name="a"),
    )
    (route,) = _hosts(_world(_service(), *both))[f"{DIGITS}:8001"]["routes"]
    assert route["name"] == "first"


def test_a_virtual_service_for_the_callers_namespace_comes_first() -> None:
    public = _virtual_service(f"[{{name: public, {TO_DIGITS}}}]", name="a")
    own = _virtual_service(
        f"[{{name: own, {TO_DIGITS}}}]", hosts=f"[{DIGITS}]", name="z", namespace="infer", more="  exportTo: [.]"
    )
    hidden = _virtual_service(f"[{{name: hidden, {TO_DIGITS}}}]", name="0th", more="  exportTo: [models]")
    (route,) = _hosts(_world(_service(), public, own, hidden))[f"{DIGITS}:8001"]["routes"]
    assert route["name"] == "own"


def test_the_narrowest_wildcard_routes_for_a_service() -> None:
    wide = _virtual_service(f"[{{name: wide, {TO_DIGITS}}}]", hosts='["*.cluster.local"]', name="a")
    narrow = _virtual_service(f"[{{name: narrow, {TO_DIGITS}}}]", hosts='["*.models.svc.cluster.local"]', name="b")
    hosts = _hosts(_world(_service(), wide, narrow))
    assert [route["name"] for route in hosts[f"{DIGITS}:8001"]["routes"]] == ["narrow"]
    exact = _virtual_service(f"[{{name: exact, {TO_DIGITS}}}]", name="c")
    hosts = _hosts(_world(_service(), wide, narrow, exact))
    assert [route["name"] for route in hosts[f"{DIGITS}:8001"]["routes"]] == ["exact"]


def test_a_host_that_no_one_registered_has_routes_beside_one_that_is() -> None:
    both = _virtual_service(f"[{{name: r, {TO_DIGITS}}}]", hosts=f"[{DIGITS}, nowhere.example]")
    hosts = _hosts(_world(_service(), both))
    assert hosts["nowhere.example:8001"]["domains"] == ["nowhere.example"]
    alone = _virtual_service(f"[{{name: r, {TO_DIGITS}}}]", hosts="[nowhere.example]")
    assert "nowhere.example:8001" not in _hosts(_world(_service(), alone))
    assert "nowhere.example:80" in _hosts(_world(_service(port=80), alone), port=80)


def test_each_port_has_its_routes() -> None:
    world = _world(
        _service(), _service("triton", port=9001), _virtual_service(f"[{{match: [{{port: 9001}}], {TO_DIGITS}}}]")
    )
    tables: list[dict[str, Any]] = routes(world, GATEWAY)
    assert [table["name"] for table in tables] == ["8001", "9001"]
    assert [[host["name"] for host in table["virtual_hosts"]] for table in tables] == [
        [f"{DIGITS}:8001", "allow_any"],
        ["triton.models.svc.cluster.local:9001", "allow_any"],
    ]


SIDECAR = """
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: default, namespace: infer}
spec: {outboundTrafficPolicy: {mode: MODE}, egress: [{hosts: [models/HOST]}]}
"""


def test_a_sidecar_limits_what_is_called() -> None:
    limit = SIDECAR.replace("MODE", "REGISTRY_ONLY").replace("HOST", "triton.models.svc.cluster.local")
    hosts = _hosts(_world(_service(), _service("triton"), limit))
    assert list(hosts) == ["triton.models.svc.cluster.local:8001", "block_all"]
    assert hosts["block_all"]["routes"][0]["direct_response"] == {"status": 502}
    open_to_all = SIDECAR.replace("MODE", "ALLOW_ANY").replace("HOST", '"*"')
    assert list(_hosts(_world(_service(), open_to_all.replace('models/"*"', '"models/*"')))) == [
        f"{DIGITS}:8001",
        "allow_any",
    ]


def test_a_destination_outside_of_the_egress_gets_no_virtual_host() -> None:
    limit = SIDECAR.replace("MODE", "REGISTRY_ONLY").replace("HOST", DIGITS)
    to_triton = _virtual_service("[{route: [{destination: {host: triton}}]}]")
    hosts = _hosts(_world(_service(), _service("triton"), to_triton, limit))
    assert list(hosts) == [f"{DIGITS}:8001", "block_all"]
    assert hosts[f"{DIGITS}:8001"]["routes"][0]["route"]["cluster"] == "outbound|8001||triton.models.svc.cluster.local"


def test_the_same_world_gives_the_same_routes() -> None:
    (world, proxies), (again, _) = (load_case(VECTORS / "cases" / "all-canary") for _ in range(2))
    for proxy in proxies:
        assert json.dumps(routes(world, proxy)) == json.dumps(routes(again, proxy))
