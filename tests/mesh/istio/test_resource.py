"""Resources: what is not implemented is refused by name, and rules between fields hold."""

from __future__ import annotations

import pytest

from mesh.istio.document import RefusedError, read_documents
from mesh.istio.resource import read_resources
from mesh.istio.virtual_service import VirtualService

ROUTE = "route: [{destination: {host: digits}}]"


def _text(kind: str, spec: str, metadata: str = "{name: x, namespace: models}") -> str:
    group = "security" if kind.endswith(("Authentication", "Policy")) else "networking"
    return f"apiVersion: {group}.istio.io/v1\nkind: {kind}\nmetadata: {metadata}\nspec: {spec}\n"


def _http(route: str) -> str:
    return _text("VirtualService", f"{{hosts: [digits], http: [{{{route}}}]}}")


def _mistakes(text: str) -> tuple[str, ...]:
    with pytest.raises(RefusedError) as refused:
        read_resources(read_documents(text, "f.yaml"))
    return refused.value.mistakes


def test_both_names_of_a_field_and_null() -> None:
    text = _http(f"{ROUTE}, retries: {{attempts: 2, per_try_timeout: 1s, retryOn: null}}")
    (resource,) = read_resources(read_documents(text, "f.yaml"))
    assert isinstance(resource.spec, VirtualService)
    retries = resource.spec.http[0].retries
    assert retries is not None
    assert retries.per_try_timeout is not None
    assert retries.per_try_timeout.json == "1s"
    assert retries.retry_on == ""


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (_http(f"{ROUTE}, corsPolicy: {{}}"), "spec.http[0].corsPolicy: not implemented"),
        (_http("delegate: {name: x}"), "spec.http[0].delegate: not implemented"),
        (_text("VirtualService", "{hosts: [digits], tcp: []}"), "spec.tcp: not implemented"),
        (
            _text("VirtualService", f"{{hosts: [digits], gateways: [a/b/c], http: [{{{ROUTE}}}]}}"),
            "spec.gateways[0]: 'a/b' is no name",
        ),
        (_text("EnvoyFilter", "{}"), "kind: not implemented: networking.istio.io/v1 EnvoyFilter"),
        (
            _text("DestinationRule", "{host: d, trafficPolicy: {tls: {mode: SIMPLE}}}"),
            "tls.mode: not implemented: SIMPLE",
        ),
        (_text("AuthorizationPolicy", "{action: CUSTOM}"), "spec.action: not implemented: CUSTOM"),
        (_text("Sidecar", "{}"), "Sidecar models/x: spec: sets nothing"),
        (_http(ROUTE).replace("name: x", "name: x, labels: {istio.io/rev: a}"), "labels.istio.io/rev: not implemented"),
        (_http(ROUTE).replace("/v1", "/v9"), "apiVersion: 'networking.istio.io/v9' is none of"),
        (_http(f"{ROUTE}, retries: {{perTryTimeout: 1s, per_try_timeout: 1s}}"), "given twice"),
        (_http("match: [{uri: {exact: a, prefix: b}}], " + ROUTE), "only one of exact and prefix"),
        (_http("match: [{headers: {x: {exact: no}}}], " + ROUTE), "headers.x.exact: must be a text"),
        (_http(f"{ROUTE}, directResponse: {{status: 404}}"), "spec.http[0].route: cannot stand beside directResponse"),
        (_http(f"{ROUTE}, timeout: 5000"), "spec.http[0].timeout: must be a duration"),
        (_http(f"{ROUTE}, retries: {{retryOn: reset}}"), "spec.http[0].retries.attempts: is 0"),
        (_http(f"{ROUTE}, fault: {{abort: {{grpcStatus: NOPE}}}}"), "abort.grpcStatus: 'NOPE' is no gRPC status"),
        (_http(f"{ROUTE}, rewrite: {{authority: a}}, headers: {{request: {{set: {{host: b}}}}}}"), "set 2 times"),
        (_http(ROUTE) + "---\n" + _http(ROUTE), "is there twice, first at f.yaml:1"),
        (_text("VirtualService", f"{{hosts: ['*.a.b', x.a.b], http: [{{{ROUTE}}}]}}"), "spec.hosts[1]: x.a.b is there"),
        (_text("DestinationRule", "{host: d, exportTo: [., models]}"), "spec.exportTo[1]: models is there twice"),
        (
            _text("PeerAuthentication", "{portLevelMtls: {8001: {mode: STRICT}}}"),
            "spec.portLevelMtls: needs a selector",
        ),
        (
            _text("PeerAuthentication", "{selector: {matchLabels: {a: b}}, portLevelMtls: {0: {}}}"),
            "portLevelMtls.0: 0 is",
        ),
        (_text("RequestAuthentication", "{jwtRules: [{issuer: a, jwks: '{}x'}]}"), "jwtRules[0].jwks: is no JSON"),
        (
            _text("RequestAuthentication", f"{{jwtRules: [{{issuer: a, jwks: '{'[' * 100_000}'}}]}}"),
            "jwtRules[0].jwks: is no JSON",
        ),
        *(
            (_text("WorkloadEntry", "{address: 127.0.0.1}", f'{{name: "{name}", namespace: models}}'), "is no name")
            for name in (r"a\0", "..", "../../etc/x", "a/b", "\u00fc", "a\u202eb", "x" * 254)
        ),
        (
            _text("WorkloadEntry", r'{address: 127.0.0.1, serviceAccount: "../x"}'),
            "spec.serviceAccount: '../x' is no name",
        ),
    ],
)
def test_refused(text: str, words: str) -> None:
    assert any(words in mistake for mistake in _mistakes(text)), _mistakes(text)


def test_the_same_without_the_mistake() -> None:
    for text in (
        _http(ROUTE),
        _http("match: [{headers: {x: {exact: 'no'}}}], " + ROUTE),
        _http("directResponse: {status: 404}"),
        _http(f"{ROUTE}, retries: {{attempts: 1, retryOn: 'reset,503'}}"),
        _text("DestinationRule", "{host: d, exportTo: [., other]}"),
        _text("PeerAuthentication", "{selector: {matchLabels: {a: b}}, portLevelMtls: {8001: {}}}"),
        _text("WorkloadEntry", "{address: 127.0.0.1, serviceAccount: a.b}", "{name: digits-1.v2, namespace: models}"),
        _text("Sidecar", "{egress: [{hosts: ['./*', 'models/digits.models.svc.cluster.local', '~/*']}]}"),
        _http(ROUTE).replace("name: x", "name: x, labels: {app: a}, uid: '1'"),
    ):
        assert read_resources(read_documents(text, "f.yaml"))
