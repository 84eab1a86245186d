"""AuthorizationPolicies against what Istio makes of them (authz/), and each rule by itself."""

import json
from pathlib import Path
from typing import Any

import pytest

from mesh.envoy import principals, rbac
from mesh.istio.document import RefusedError
from mesh.istio.proxies import Proxy
from tests.mesh.envoy.istio_vectors import COMPARE, WORKER
from tests.mesh.envoy.security import resource, world

GOLDENS = sorted((Path(__file__).parent / "authz").glob("*.yaml"))
HTTPBIN = Proxy(name="httpbin", namespace="foo", ip="127.0.1.1", labels={"app": "httpbin", "version": "v1"})


@pytest.mark.parametrize("path", GOLDENS, ids=lambda path: path.stem)
def test_filters_are_istios(path):
    build = rbac.http_filters if path.stem.startswith("http-") else rbac.network_filters
    expected = json.loads(path.with_suffix(".json").read_text())
    actual = build(world(path.read_text()), HTTPBIN)
    assert COMPARE.canonical(actual) == COMPARE.canonical(expected)


def policy(name: str = "p", namespace: str = "models", **spec: Any) -> str:
    return resource("AuthorizationPolicy", name, namespace, **spec)


def rules(*texts: str, **mesh: Any) -> list[Any]:
    return [one["typed_config"]["rules"] for one in rbac.http_filters(world(*texts, **mesh), WORKER)]


def principal(value: str, **mesh: Any) -> Any:
    text = policy(rules=[{"from": [{"source": {"principals": [value]}}]}])
    (only,) = rules(text, **mesh)
    found = only["policies"]["ns[models]-policy[p]-rule[0]"]["principals"][0]["and_ids"]["ids"][0]["or_ids"]["ids"]
    return found[0]["authenticated"]["principal_name"]


def test_without_policies_there_is_no_filter():
    assert rbac.http_filters(world(), WORKER) == []
    assert rbac.network_filters(world(), WORKER) == []


def test_deny_is_asked_before_allow():
    anything = [{"to": [{"operation": {"methods": ["POST"]}}]}]
    deny, allow = rules(policy("a", rules=anything), policy("z", action="DENY", rules=anything))
    assert deny["action"] == "DENY" and "action" not in allow
    assert list(deny["policies"]) == ["ns[models]-policy[z]-rule[0]"]


def test_only_policies_for_the_workload_hold():
    everything = [{}]
    found = rules(
        policy("mesh", "istio-system", rules=everything),
        policy("selected", selector={"matchLabels": {"app": "digits"}}, rules=everything),
        policy("other", selector={"matchLabels": {"app": "triton"}}, rules=everything),
        policy("elsewhere", "infer", rules=everything),
    )
    assert list(found[0]["policies"]) == [
        "ns[istio-system]-policy[mesh]-rule[0]",
        "ns[models]-policy[selected]-rule[0]",
    ]


@pytest.mark.parametrize(
    ("written", "trust_domain", "found"),
    [
        ("cluster.local/ns/a/sa/b", "cluster.local", {"exact": "spiffe://cluster.local/ns/a/sa/b"}),
        ("cluster.local/ns/a/sa/b", "my.org", {"exact": "spiffe://my.org/ns/a/sa/b"}),
        ("other/ns/a/sa/b", "my.org", {"exact": "spiffe://other/ns/a/sa/b"}),
        ("my*/ns/a/sa/b", "my.org", {"exact": "spiffe://my.org/ns/a/sa/b"}),
        ("*/ns/a/sa/b", "my.org", {"safe_regex": {"regex": "spiffe://.*/ns/a/sa/b"}}),
        ("cluster.local/ns/a/*", "my.org", {"prefix": "spiffe://cluster.local/ns/a/"}),
        ("*", "my.org", {"safe_regex": {"regex": ".+"}}),
    ],
)
def test_a_principals_trust_domain(written, trust_domain, found):
    assert principal(written, trust_domain=trust_domain) == found


@pytest.mark.parametrize(
    ("value", "issuer", "subject"),
    [
        ("https://id.example/joe", {"exact": "https://id.example"}, {"exact": "joe"}),
        ("https://id.example/*", {"exact": "https://id.example"}, {"safe_regex": {"regex": ".+"}}),
        ("https://id.example/jo*", {"exact": "https://id.example"}, {"prefix": "jo"}),
        ("*/joe", {"safe_regex": {"regex": ".+"}}, {"exact": "joe"}),
        ("*.example/joe", {"suffix": ".example"}, {"exact": "joe"}),
        ("*joe", {"safe_regex": {"regex": ".+"}}, {"suffix": "joe"}),
        ("id*", {"prefix": "id"}, {"safe_regex": {"regex": ".+"}}),
        ("id", {"exact": "id"}, {"exact": ""}),
    ],
)
def test_a_request_principal_is_issuer_and_subject(value, issuer, subject):
    both = principals.request_principals([value])["and_ids"]["ids"]
    assert [one["metadata"]["value"]["string_match"] for one in both] == [issuer, subject]


@pytest.mark.parametrize(
    ("brackets", "path"),
    [("[a]", ("a",)), ("[a][b]", ("a", "b")), ("[a]b]", ("a]b",)), ("[[a]", ("[a",))],
)
def test_the_path_of_a_claim(brackets, path):
    assert principals.claim_path(brackets) == path


@pytest.mark.parametrize("key", ["request.headersx[a]", "request.auth.claimsx[a]"])
def test_a_condition_that_istio_would_leave_out_is_refused(key):
    when = [{"key": key, "values": ["v"]}]
    with pytest.raises(RefusedError, match=r"spec\.rules\[0\]\.when\[0\]\.key: .* must be of the form"):
        rules(policy(rules=[{"when": when}]))


def test_on_tcp_allow_shrinks_and_deny_grows():
    paths = [{"to": [{"operation": {"paths": ["/x"]}}]}]
    (allow,) = rbac.network_filters(world(policy(rules=paths)), WORKER)
    assert allow["typed_config"]["rules"] == {}
    (deny,) = rbac.network_filters(world(policy(action="DENY", rules=paths)), WORKER)
    (rule,) = deny["typed_config"]["rules"]["policies"].values()
    assert rule["permissions"] == [{"and_rules": {"rules": [{"any": True}]}}]
