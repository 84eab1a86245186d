"""What becomes of a call, for Istio's own cases and for files that headrace rendered."""

from __future__ import annotations

from pathlib import Path

import pytest

from mesh.explain.destinations import UNKNOWN
from mesh.explain.explain import Explanation, Winner, explain
from mesh.explain.places import authority, call, caller, workloads
from mesh.istio.load import load_case, load_world, resources
from tests.mesh.envoy.istio_vectors import GATEWAY, VECTORS, world_of

CATALOGS = Path(__file__).parent.parent / "render" / "catalogs"
HOST = "digits.models.svc.cluster.local"


def explained(case: str, model: str = "digits", version: str | None = None, **headers: str) -> Explanation:
    world, _ = load_case(VECTORS / "cases" / case)
    more = {name.replace("_", "-"): (value,) for name, value in headers.items()}
    return explain(world, GATEWAY, call(model, authority(world, GATEWAY, model), "ModelInfer", version, more))


def won(explanation: Explanation) -> Winner:
    assert explanation.winner is not None
    return explanation.winner


def says(explanation: Explanation) -> dict[str, list[str]]:
    """About -> what is said of it, for the route and for its first destination."""
    winner = won(explanation)
    found: dict[str, list[str]] = {}
    for fact in (*winner.facts, *(winner.destinations[0].facts if winner.destinations else ())):
        found.setdefault(fact.about, []).append(fact.says)
    return found


def test_a_call_without_a_version_is_shared_by_weight() -> None:
    found = explained("all-canary")
    assert [(one.name, one.unmet) for one in found.tried] == [
        ("pin-1", ("x-model-version must be 1, and is not there",)),
        ("pin-2", ("x-model-version must be 2, and is not there",)),
    ]
    one, two = won(found).destinations
    assert (won(found).name, won(found).source.rpartition("/")[2]) == ("default", "config.yaml:1")
    assert (one.host, one.subset, one.share, two.subset, two.share) == (HOST, "v1", 0.95, "v2", 0.05)
    assert [(copy.address, copy.labels["version"]) for copy in one.copies] == [
        ("127.0.1.11:8001", "v1"),
        ("127.0.1.12:8001", "v1"),
    ]
    assert not one.instead


def test_a_call_with_a_version_is_pinned() -> None:
    found = explained("all-canary", version="2")
    assert (won(found).name, [one.subset for one in won(found).destinations]) == ("pin-2", ["v2"])


def test_the_headers_of_a_call_decide() -> None:
    assert won(explained("vs-match-kinds", x_tier="silver")).destinations[0].subset == "v2"
    assert won(explained("vs-match-kinds", x_tier="tin")).destinations[0].subset == "v1"
    assert won(explained("vs-match-kinds", x_debug="")).destinations[0].subset == "v2"
    assert won(explained("vs-match-kinds", x_debug="", x_prod="")).destinations[0].subset == "v1"


def test_what_everything_means() -> None:
    assert says(explained("all-canary")) == {
        "timeout": ["5s for the call with its retries, or the caller's own deadline where that is sooner"],
        "retries": [
            "up to 2 after unavailable, reset, connect-failure and refused-stream, "
            "each at a copy that the call was not at; a try may take 1s"
        ],
        "copy": ["of two at random, the one with fewer calls running"],
        "budget": ["retries are at most 20 % of the calls that run, but 3 at a time always may"],
        "limits": [
            "512 calls and 64 waiting for a connection of this sidecar at a time; "
            "a call over that is refused at once: UNAVAILABLE, overflow"
        ],
        "ejection": [
            "a copy with 5 failures (no connection, UNAVAILABLE, DEADLINE_EXCEEDED, INTERNAL, UNKNOWN, DATA_LOSS or "
            "UNIMPLEMENTED) in a row gets no calls for 5s, the next time for twice as long; looked at every 1s, "
            "at most 50 % of the copies are out"
        ],
        "connect": ["within 10s"],
        "mTLS": ["yes, and the copy must be spiffe://cluster.local/ns/models/sa/digits"],
    }


@pytest.mark.parametrize(
    ("case", "about", "said"),
    [
        ("vs-none", "timeout", "none but the caller's own deadline"),
        ("vs-none", "budget", "none"),
        ("vs-none", "limits", "none"),
        ("vs-none", "ejection", "none"),
        ("vs-retries-off", "retries", "none"),
        ("vs-retries-codes", "retries", "HTTP 503"),
        ("vs-mirrors", "mirror", "50 % of the calls go to v2 as well; what it answers reaches no one"),
        ("vs-mirrors", "mirror", "100 % of the calls go to triton.models.svc.cluster.local as well"),
        ("vs-fault-abort", "fault", "25 % of the calls are answered UNAVAILABLE on purpose"),
        ("vs-fault-delay", "fault", "of the calls wait"),
        ("vs-headers", "headers", "what the worker gets: "),
        ("vs-weighted-headers", "headers", "what the worker gets: x-arm=stable"),
        ("vs-weighted-headers", "headers", "what the caller gets: x-served-by+=v1"),
        ("vs-rewrite-authority", "authority", "the worker reads "),
        ("dr-hash-header", "sticky", "calls with the same header x-sequence-id go to the same copy"),
        ("dr-hash-header", "copy", "by the hash of what is sticky"),
        ("dr-hash-header", "retries", "at the same copy, too"),
        ("dr-hash-maglev", "copy", "(Maglev)"),
        ("dr-lb-round-robin", "copy", "in turn"),
        ("dr-pool", "limits", "256 calls, 32 waiting for a connection and 64 connections of this sidecar at a time"),
        ("dr-pool", "budget", "at most 5 retries at a time"),
        ("dr-pool", "connect", "within 750ms"),
        ("dr-outlier-local", "ejection", "or 4 failures to connect in a row gets no calls for 30s"),
        ("dr-outlier-gateway", "ejection", "failures (no connection, UNAVAILABLE or DEADLINE_EXCEEDED) in a row"),
        ("dr-tls-disable", "mTLS", "none: plain text"),
        ("dr-none", "mTLS", "plain text to copies without a sidecar"),
        ("dr-tls-sans", "mTLS", "yes, and the copy must be "),
    ],
)
def test_what_a_setting_means(case: str, about: str, said: str) -> None:
    assert any(said in one for one in says(explained(case))[about]), says(explained(case))[about]


def test_an_answer_that_no_worker_gives() -> None:
    found = explained("vs-direct-response", version="9")
    assert says(found)["answer"][0].startswith("no worker is asked: the sidecar answers ")
    assert won(found).destinations == ()


ROUTES = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: digits, namespace: models}
spec:
  hosts: [digits]
  http:
  - match: [{headers: {x-model-version: {exact: "3"}}}]
    route: [{destination: {host: digits, subset: v3}}]
  - match: [{headers: {x-model-version: {exact: "4"}}}]
    route: [{destination: {host: digits, subset: v4}}]
  - match: [{headers: {x-model-version: {exact: "5"}}}]
    redirect: {uri: /elsewhere}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: digits, namespace: models}
spec: {host: digits, subsets: [{name: v3, labels: {version: v3}}]}
"""


def test_where_no_call_gets_through_is_said() -> None:
    world = world_of(ROUTES)

    def instead(version: str) -> str:
        found = explain(world, GATEWAY, call("digits", f"{HOST}:8001", "ModelInfer", version, {}))
        return won(found).destinations[0].instead

    assert instead("3") == f"no copy of {HOST} has the labels of subset v3: these calls end UNAVAILABLE"
    assert instead("4") == f"no DestinationRule of {HOST} has a subset v4: these calls end UNAVAILABLE"


def test_a_redirect_is_no_answer_for_grpc() -> None:
    found = explain(world_of(ROUTES), GATEWAY, call("digits", f"{HOST}:8001", "ModelInfer", "5", {}))
    assert won(found).destinations == ()
    assert says(found) == {"answer": ["a redirect, which no gRPC client follows: it reads UNKNOWN"]}


def test_a_call_that_no_route_takes_has_no_winner() -> None:
    found = explain(world_of(ROUTES), GATEWAY, call("digits", f"{HOST}:8001", "ModelInfer", None, {}))
    assert [len(one.unmet) for one in found.tried] == [1, 1, 1]
    assert found.winner is None


def test_a_host_that_no_one_registered_is_passed_on() -> None:
    found = explain(world_of(ROUTES), GATEWAY, call("x", "nowhere.example:8001", "ModelInfer", None, {}))
    (passed,) = won(found).destinations
    assert passed.instead == UNKNOWN
    assert not found.unknown


@pytest.mark.parametrize("port", ["9999", "abc"])
def test_a_port_that_no_one_registered_has_no_routes(port: str) -> None:
    found = explain(world_of(ROUTES), GATEWAY, call("digits", f"{HOST}:{port}", "ModelInfer", None, {}))
    assert (found.unknown, found.tried, found.winner) == (True, (), None)


def test_what_a_request_can_provoke_is_not_counted_where_the_catalog_says_so() -> None:
    world = load_world(resources(CATALOGS / "canary" / "istio"))
    who = caller(world, workloads(world))
    found = explain(world, who, call("digits", authority(world, who, "digits"), "ModelInfer", "1", {}))
    (said,) = says(found)["ejection"]
    assert said.startswith("a copy with 3 failures (no connection, UNAVAILABLE or DEADLINE_EXCEEDED) in a row")


def test_what_was_rendered() -> None:
    world = load_world(resources(CATALOGS / "canary" / "istio"))
    who = caller(world, workloads(world))
    model = next(one for one in world.virtual_services).name
    host = authority(world, who, model)
    names = {}
    for method in ("ModelInfer", "ModelStreamInfer"):
        for version in (None, "1"):
            names[method, version] = won(explain(world, who, call(model, host, method, version, {}))).name
    assert names == {
        ("ModelInfer", None): f"{model}-default",
        ("ModelInfer", "1"): f"{model}-v1",
        ("ModelStreamInfer", None): f"{model}-default-stream",
        ("ModelStreamInfer", "1"): f"{model}-v1-stream",
    }
