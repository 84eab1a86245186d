"""Who may call a worker. Law: the gateway alone, by its certificate, and only for inference and health.

Tokens are verified once more where one is there, as defence in depth; where every model of the host gets the caller's
token, no inference without a good one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from mesh.catalog import GatewayWorkload, Ingress, Mesh
from mesh.render.resource import Fields, given, resource
from mesh.render.routes import carries
from mesh.render.services import Service
from mesh.render.source import Issuer
from protos.contract import SERVICE

_CARRIED: Final = f"/{SERVICE}/ModelInfer"
_INFERENCE: Final = f"/{SERVICE}/*"
_HEALTH: Final = "/grpc.health.v1.Health/*"


def policies(service: Service, mesh: Mesh, issuers: Sequence[Issuer], *, express: bool = False) -> list[Fields]:
    """PeerAuthentication, AuthorizationPolicy and RequestAuthentication of a service's copies.

    With the `express` lane the ingress gateway may call, too, as far as it carries calls.
    """
    rules = _rules(service, mesh, issuers, express=express and any(map(carries, service.models)))
    return [
        _for_copies("PeerAuthentication", service, mtls={"mode": "STRICT"}),
        _for_copies("AuthorizationPolicy", service, action="ALLOW", rules=rules),
        _for_copies("RequestAuthentication", service, jwtRules=[_believed(issuer) for issuer in issuers]),
    ]


def _for_copies(kind: str, service: Service, **spec: object) -> Fields:
    chosen: Fields = {"selector": {"matchLabels": dict(service.labels)}}
    return resource(kind, service.namespace, service.resource_name, chosen | spec)


def _rules(service: Service, mesh: Mesh, issuers: Iterable[Issuer], *, express: bool) -> list[Fields]:
    source, ingress = _from(mesh, mesh.gateway), _from(mesh, mesh.ingress)
    if not all(model.forward_token for model in service.models):
        carried = [_rule(ingress, _CARRIED)] if express else []
        return [_rule(source, _INFERENCE, _HEALTH), *carried]
    token: Fields = {"requestPrincipals": [f"{issuer.name}/*" for issuer in issuers]}
    carried = [_rule(ingress | token, _CARRIED)] if express else []
    return [_rule(source | token, _INFERENCE), _rule(source, _HEALTH), *carried]


def _from(mesh: Mesh, caller: GatewayWorkload | Ingress) -> Fields:
    return {"principals": [f"{mesh.trust_domain}/ns/{caller.namespace}/sa/{caller.service_account}"]}


def _rule(source: Fields, *paths: str) -> Fields:
    return {"from": [{"source": source}], "to": [{"operation": {"paths": list(paths)}}]}


def _believed(issuer: Issuer) -> Fields:
    """Istio's JWTRule. The worker sees the token as it came."""
    return given(
        issuer=issuer.name,
        audiences=list(issuer.audiences),
        jwksUri=issuer.jwks_uri,
        jwks=issuer.jwks,
        forwardOriginalToken=True,
    )
