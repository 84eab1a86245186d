"""A real Envoy chooses the route that explain says it chooses. Needs the `envoy` of the extra `mesh`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mesh.envoy.matches import route_match
from mesh.envoy.routes import routes
from mesh.explain.hosts import virtual_host
from mesh.explain.matcher import unmet
from mesh.istio.http_route import HTTPMatchRequest
from mesh.istio.load import load_case
from tests.envoy import needs_envoy
from tests.mesh.envoy.istio_vectors import CASES
from tests.mesh.explain.envoy import Envoy, Headers, envoy, named

pytestmark = needs_envoy

MORE = sorted(file.parent for file in (Path(__file__).parent.parent / "envoy" / "route_goldens").glob("*/config.yaml"))
SERVICE = "/inference.GRPCInferenceService"


def ours(table: Mapping[str, Any], authority: str, path: str, headers: Headers, method: str = "POST") -> str:
    """`HOST#PLACE` of the route that explain says wins; empty: none."""
    call = {":authority": (authority,), ":path": (path,), ":method": (method,), ":scheme": ("http",)}
    for name, value in headers:
        call[name.lower()] = (*call.get(name.lower(), ()), value)
    host = virtual_host(table, authority)
    if host is None:
        return ""
    won = (index for index, one in enumerate(host["routes"]) if not unmet(one["match"], call))  # type: ignore[arg-type]
    return next((f"{host['name']}#{index}" for index in won), "")


MATCHES: list[dict[str, Any]] = [
    {},
    {"uri": {"exact": f"{SERVICE}/ModelInfer"}},
    {"uri": {"exact": f"{SERVICE}/modelinfer"}},
    {"uri": {"exact": f"{SERVICE}/modelinfer"}, "ignoreUriCase": True},
    {"uri": {"prefix": f"{SERVICE}/Model"}},
    {"uri": {"prefix": f"{SERVICE}/mODEL"}, "ignoreUriCase": True},
    {"uri": {"prefix": ""}},
    {"uri": {"regex": ".*/Model(Infer|Ready)"}},
    {"uri": {"regex": "/inference"}},
    {"uri": {"regex": ".*/modelinfer"}, "ignoreUriCase": True},
    {"uri": {"regex": "(?i).*/modelinfer"}},
    {"method": {"exact": "POST"}},
    {"method": {"regex": "P[A-Z]+"}},
    {"scheme": {"exact": "http"}},
    {"authority": {"prefix": "m"}},
    {"authority": {"exact": "M12.test:80"}},
    {"headers": {"x-model-version": {"exact": "2"}}},
    {"headers": {"X-Model-Version": {"exact": "2"}}},
    {"headers": {"x-model-version": {"prefix": "2"}}},
    {"headers": {"x-model-version": {"regex": "1|2"}}},
    {"headers": {"x-model-version": {"regex": r"\d"}}},
    {"headers": {"x-model-version": {"regex": r"[[:digit:]]{1,2}"}}},
    {"headers": {"x-model-version": {"regex": r"\pN"}}},
    {"headers": {"x-model-version": {"regex": r"[^\pL]+"}}},
    {"headers": {"x-model-version": {"regex": r"\P{Lu}.?"}}},
    {"headers": {"x-model-version": {"regex": r"\Q2,1\E"}}},
    {"headers": {"x-model-version": {"regex": r"(?<v>2)\z"}}},
    {"headers": {"x-model-version": {"regex": r"[]2,1]+"}}},
    {"headers": {"x-model-version": {"regex": r"[[&~2]"}}},
    {"headers": {"x-model-version": {"regex": r"^2$"}}},
    {"headers": {"x-model-version": {"regex": r"\w+\b"}}},
    {"headers": {"x-model-version": {"regex": r".*"}}},
    {"headers": {"x-model-version": {"exact": "2,1"}}},
    {"headers": {"x-model-version": {"exact": ""}}},
    {"headers": {"x-model-version": {}}},
    {"headers": {"x-a": {}, "x-model-version": {"exact": "2"}}},
    {"withoutHeaders": {"x-model-version": {}}},
    {"withoutHeaders": {"x-model-version": {"regex": "*"}}},
    {"withoutHeaders": {"x-model-version": {"exact": "2"}}},
    {"withoutHeaders": {"x-model-version": {"exact": ""}}},
    {"withoutHeaders": {"x-model-version": {"prefix": "2"}}},
    {"withoutHeaders": {"x-model-version": {"regex": ".*"}}},
    {"withoutHeaders": {"x-model-version": {"regex": "2?"}}},
    {"headers": {"x-a": {}}, "withoutHeaders": {"x-model-version": {}}},
    {"queryParams": {"q": {"exact": "a"}}},
    {"queryParams": {"q": {"exact": ""}}},
    {"queryParams": {"q": {"exact": "a b"}}},
    {"queryParams": {"q": {"exact": "a%20b"}}},
    {"queryParams": {"q": {"prefix": "a"}}},
    {"queryParams": {"q": {"regex": "a|b"}}},
    {"queryParams": {"q": {}, "r": {}}},
    {"queryParams": {"Q": {}}},
]
"""Istio's HTTPMatchRequests, as they are written."""

PATHS = [
    f"{SERVICE}/ModelInfer", f"{SERVICE}/ModelReady", f"{SERVICE}/MODELINFER", "/", "/inference",
    f"{SERVICE}/ModelInfer?q=a", f"{SERVICE}/ModelInfer?q", f"{SERVICE}/ModelInfer?q=b&q=a", "/?q=a&r=", "/?r&q=a%20b",
    "/?q=a+b", "/?Q=a", "/?q=ab?c", "/?&q=a", "/?=a",
]  # fmt: skip
HEADERS: list[Headers] = [
    (),
    (("x-model-version", "2"),),
    (("X-MODEL-VERSION", "2"),),
    (("x-model-version", "1"),),
    (("x-model-version", ""),),
    (("x-model-version", "22"),),
    (("x-model-version", "a"),),
    (("x-model-version", "A"),),
    (("x-model-version", "2"), ("x-model-version", "1")),
    (("x-model-version", "2"), ("x-a", "")),
    (("x-a", "b"),),
]


def table_of(matches: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A virtual host for each match, with no route beside."""
    compiled = [route_match(HTTPMatchRequest.read(match)) for match in matches]
    hosts = [
        {"name": f"m{index}", "domains": [f"m{index}.test"], "routes": [{"match": match}]}
        for index, match in enumerate(compiled)
    ]
    return {"virtual_hosts": hosts, "ignore_port_in_host_matching": True}


def compare(sent: Envoy, table: Mapping[str, Any], calls: Sequence[tuple[str, Headers, str]]) -> set[tuple[int, bool]]:
    """Envoy's choice and ours are one, for every call to every host; (host, whether its route was chosen) as seen."""
    seen = set()
    for path, headers, method in calls:
        for index in range(len(table["virtual_hosts"])):
            authority = f"M{index}.test:80"
            chosen = sent.chosen(0, authority, path, headers, method)
            assert chosen == ours(table, authority, path, headers, method), (
                table["virtual_hosts"][index],
                path,
                headers,
            )
            seen.add((index, bool(chosen)))
    return seen


def test_every_kind_of_match(tmp_path: Path) -> None:
    table = table_of(MATCHES)
    calls = [(path, (), "POST") for path in PATHS] + [(PATHS[0], headers, "POST") for headers in HEADERS]
    with envoy(tmp_path, [named(table)]) as sent:
        seen = compare(sent, table, [*calls, (PATHS[0], (), "GET"), (PATHS[0], HEADERS[1], "PUT")])
    assert len([index for index in range(len(MATCHES)) if {(index, True), (index, False)} <= seen]) > 40


def test_a_condition_that_envoy_has_and_we_do_not_is_seen(tmp_path: Path) -> None:
    conditioned, free = table_of([{"headers": {"x-a": {"exact": "b"}}}]), table_of([{}])
    with envoy(tmp_path, [named(conditioned)]) as sent, pytest.raises(AssertionError):
        compare(sent, free, [(PATHS[0], (), "POST")])


def test_whole_tables_of_routes(tmp_path: Path) -> None:
    """All that the compiler makes of Istio's cases: which virtual host, and which of its routes."""
    found = {}
    for case in (*CASES, *MORE):
        world, proxies = load_case(case)
        found |= {json.dumps(table): table for proxy in proxies for table in routes(world, proxy)}
    tables: list[Any] = [*found.values()]
    chosen: set[str] = set()
    with envoy(tmp_path, [*map(named, tables)]) as sent:
        for index, table in enumerate(tables):
            for authority, path, headers in calls_of(table):
                theirs = sent.chosen(index, authority, path, headers)
                assert theirs == ours(table, authority, path, headers), (table, authority, path, headers)
                chosen.add(theirs)
    assert len(chosen) > 30


def calls_of(table: Mapping[str, Any]) -> list[tuple[str, str, Headers]]:
    """Calls to every domain, in other spellings too, and with every header that a route asks for."""
    domains = [domain.replace("*", "some") for host in table["virtual_hosts"] for domain in host["domains"]]
    possible = [domain for domain in domains if "/" not in domain]  # a network is no authority
    names = [name for domain in possible for name in (domain, f"{domain.upper()}:{table['name']}")]
    wanted: list[Headers] = [()]
    for host in table["virtual_hosts"]:
        for matcher in (one for route in host["routes"] for one in route["match"].get("headers", ())):
            if not matcher["name"].startswith(":"):
                compared = matcher.get("string_match", {})
                value = compared.get("exact") or compared.get("prefix") or "gold"
                wanted += [((matcher["name"], value),), ((matcher["name"], value), ("x-model-name", "digits"))]
    calls = [(name, PATHS[0], ()) for name in dict.fromkeys([*names, "nowhere.example", "a.b"])]
    return calls + [(name, path, headers) for name in names[:3] for path in PATHS[:6] for headers in {*wanted}]


TEXTS = st.one_of(
    st.sampled_from(["", "2", "22", "1", "a", "A", "2,1", "/", "b c"]), st.text("ab12/", min_size=1, max_size=3)
)
PATTERNS = st.sampled_from([".*", "2?", "[ab]+", "(?i)A", r"\d+", r"[[:alpha:]]", r"\pL", "a|b", r"\Q2\E", "2.*"])
TEXT_MATCHES = st.one_of(
    st.builds(lambda text: {"exact": text}, TEXTS),
    st.builds(lambda text: {"prefix": text or "2"}, TEXTS),
    st.builds(lambda pattern: {"regex": pattern}, PATTERNS),
    st.just({}),
)
NAMES = st.sampled_from(["x-a", "x-b", "X-A"])
PATHS_DRAWN = st.builds(
    lambda path, query: f"/{path}{query}", st.text("ab/", max_size=3), st.sampled_from(["", "?q=2", "?q", "?r=a&q=2"])
)
DRAWN = st.fixed_dictionaries(
    {},
    optional={
        "uri": st.one_of(
            st.builds(lambda p: {"exact": f"/{p}"}, st.text("abA/", max_size=2)),
            st.builds(lambda p: {"prefix": f"/{p}"}, st.text("abA/", max_size=2)),
            st.builds(lambda p: {"regex": p}, st.sampled_from(["/[ab]*", "/.*", "(?i)/A+"])),
        ),
        "ignoreUriCase": st.booleans(),
        "headers": st.dictionaries(NAMES, TEXT_MATCHES, max_size=2),
        "withoutHeaders": st.dictionaries(NAMES, TEXT_MATCHES, max_size=2),
        "queryParams": st.dictionaries(st.sampled_from(["q", "r"]), TEXT_MATCHES, max_size=1),
    },
)


@settings(max_examples=4, deadline=None, suppress_health_check=[*HealthCheck])
@given(
    matches=st.lists(DRAWN, min_size=20, max_size=30),
    calls=st.lists(st.tuples(PATHS_DRAWN, st.lists(st.tuples(NAMES, TEXTS), max_size=3)), min_size=10, max_size=12),
)
def test_any_match(tmp_path_factory: pytest.TempPathFactory, matches: list[Any], calls: list[Any]) -> None:
    table = table_of(matches)
    with envoy(tmp_path_factory.mktemp("envoy"), [named(table)]) as sent:
        compare(sent, table, [(path, tuple(headers), "POST") for path, headers in calls])
