"""Who may call a worker, by the resources; what they come to is the compiler's (test_compiled.py)."""

from __future__ import annotations

from typing import Any, cast

from mesh.catalog import GatewayWorkload, Ingress, Mesh, Model
from mesh.render.security import policies
from mesh.render.source import Issuer
from tests.mesh.render.models import model, service

ISSUERS = (
    Issuer("https://id.example/", ("headrace",), jwks_uri="https://id.example/jwks.json"),
    Issuer("accounts", ("a", "b"), jwks='{"keys": []}'),
    Issuer("https://other.example", ("headrace",)),
)
INFERENCE, HEALTH = "/inference.GRPCInferenceService/*", "/grpc.health.v1.Health/*"
PRINCIPAL = "cluster.local/ns/infer/sa/gateway"


def spec(
    kind: str,
    *models: Model,
    mesh: Mesh = Mesh(),  # noqa: B008 - it is frozen
    express: bool = False,
) -> dict[str, Any]:
    written = policies(service(*models), mesh, ISSUERS, express=express)
    found = {one["kind"]: cast("dict[str, Any]", one["spec"]) for one in written}
    assert found.keys() == {"PeerAuthentication", "AuthorizationPolicy", "RequestAuthentication"}
    return found[kind]


def test_all_choose_the_copies() -> None:
    for kind in ("PeerAuthentication", "AuthorizationPolicy", "RequestAuthentication"):
        labels = {"app.kubernetes.io/name": "digits"}
        assert spec(kind, model(workload=labels))["selector"] == {"matchLabels": labels}


def test_plain_text_is_turned_away() -> None:
    assert spec("PeerAuthentication", model())["mtls"] == {"mode": "STRICT"}


def test_the_gateway_alone_may_infer_and_ask_for_health() -> None:
    policy = spec("AuthorizationPolicy", model())
    assert policy["action"] == "ALLOW"
    assert policy["rules"] == [
        {
            "from": [{"source": {"principals": [PRINCIPAL]}}],
            "to": [{"operation": {"paths": [INFERENCE, HEALTH]}}],
        }
    ]


def test_the_gateway_by_its_other_name() -> None:
    mesh = Mesh(trust_domain="mesh.example", gateway=GatewayWorkload(namespace="edge", service_account="door"))
    (rule,) = spec("AuthorizationPolicy", model(), mesh=mesh)["rules"]
    assert rule["from"] == [{"source": {"principals": ["mesh.example/ns/edge/sa/door"]}}]


def test_where_every_model_gets_the_token_there_is_no_inference_without() -> None:
    first, second = spec("AuthorizationPolicy", model("a", forward_token=True), model("b", forward_token=True))["rules"]
    tokens = ["https://id.example//*", "accounts/*", "https://other.example/*"]
    assert first["from"] == [{"source": {"principals": [PRINCIPAL], "requestPrincipals": tokens}}]
    assert first["to"] == [{"operation": {"paths": [INFERENCE]}}]
    assert second["from"] == [{"source": {"principals": [PRINCIPAL]}}]
    assert second["to"] == [{"operation": {"paths": [HEALTH]}}]


def test_one_model_without_it_makes_it_impossible_to_insist() -> None:
    (rule,) = spec("AuthorizationPolicy", model("a", forward_token=True), model("b"))["rules"]
    assert rule["from"] == [{"source": {"principals": [PRINCIPAL]}}]


def test_the_keys_of_every_issuer() -> None:
    assert spec("RequestAuthentication", model())["jwtRules"] == [
        {
            "issuer": "https://id.example/",
            "audiences": ["headrace"],
            "jwksUri": "https://id.example/jwks.json",
            "forwardOriginalToken": True,
        },
        {"issuer": "accounts", "audiences": ["a", "b"], "jwks": '{"keys": []}', "forwardOriginalToken": True},
        {"issuer": "https://other.example", "audiences": ["headrace"], "forwardOriginalToken": True},
    ]


def test_with_the_express_lane_the_ingress_gateway_may_infer_and_nothing_else() -> None:
    mesh = Mesh(ingress=Ingress(namespace="edge", service_account="door"))
    ours, its = spec("AuthorizationPolicy", model(), mesh=mesh, express=True)["rules"]
    assert [ours] == spec("AuthorizationPolicy", model())["rules"]
    assert its == {
        "from": [{"source": {"principals": ["cluster.local/ns/edge/sa/door"]}}],
        "to": [{"operation": {"paths": ["/inference.GRPCInferenceService/ModelInfer"]}}],
    }
    *_, its = spec("AuthorizationPolicy", model(forward_token=True), mesh=mesh, express=True)["rules"]
    assert its["from"][0]["source"]["requestPrincipals"] == [f"{issuer.name}/*" for issuer in ISSUERS]


def test_where_every_call_takes_python_the_ingress_gateway_may_do_nothing() -> None:
    assert len(spec("AuthorizationPolicy", model(sequence=True), express=True)["rules"]) == 1
