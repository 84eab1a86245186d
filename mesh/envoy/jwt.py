"""RequestAuthentication as Envoy's jwt_authn filter. Law: a token that is there must be good; no token is let through.

Keys are those written in the policy: whoever compiles asks no issuer, so `jwksUri` or an issuer alone is refused (in a
cluster, Istio's control plane fetches them).
Source: Istio's pilot/pkg/security/authn/policy_applier.go.
"""

from __future__ import annotations

from typing import Final

from mesh.envoy.matchers import JWT_FILTER, JWT_PAYLOAD
from mesh.envoy.proto import Json, message, named, refusal
from mesh.istio.proxies import Proxy
from mesh.istio.request_authentication import JWTRule, RequestAuthentication
from mesh.istio.resource import Resource
from mesh.istio.world import World

_TYPE: Final = "envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication"
_ALWAYS_SPACE_DELIMITED: Final = frozenset({"permission", "scope"})


def http_filters(world: World, workload: Proxy) -> list[Json]:
    """The filter that verifies tokens; none where no policy holds for the workload."""
    rules = [
        rule
        for policy in world.request_authentications(workload)
        for rule in _believed(policy)
    ]  # fmt: skip
    if not rules:
        return []
    providers = {
        f"origins-{index}": _provider(rule) for index, rule in enumerate(sorted(rules, key=lambda rule: rule.issuer))
    }
    every_call: Json = {"match": {"prefix": "/"}, "requires": _requirement(list(providers))}
    return [named(JWT_FILTER, _TYPE, bypass_cors_preflight=True, providers=providers, rules=[every_call])]


def _believed(policy: Resource[RequestAuthentication]) -> tuple[JWTRule, ...]:
    for index, rule in enumerate(policy.spec.jwt_rules):
        if not rule.jwks:
            field = "jwksUri" if rule.jwks_uri else "jwks"
            raise refusal(policy, ("jwtRules", index, field), "not implemented: keys to be fetched; write them in jwks")
    return policy.spec.jwt_rules


def _provider(rule: JWTRule) -> Json:
    headers = [message(name=one.name, value_prefix=one.prefix or None) for one in rule.from_headers]
    claims = [{"header_name": one.header, "claim_name": one.claim} for one in rule.output_claim_to_headers]
    return message(
        issuer=rule.issuer or None,
        audiences=list(rule.audiences) or None,
        local_jwks={"inline_string": rule.jwks},
        forward=rule.forward_original_token or None,
        forward_payload_header=rule.output_payload_to_header or None,
        payload_in_metadata=JWT_PAYLOAD,
        normalize_payload_in_metadata={
            "space_delimited_claims": sorted(_ALWAYS_SPACE_DELIMITED.union(rule.space_delimited_claims))
        },
        claim_to_headers=claims or None,
        from_headers=headers or None,
        from_params=list(rule.from_params) or None,
        from_cookies=list(rule.from_cookies) or None,
    )


def _requirement(providers: list[str]) -> Json:
    """One issuer: its token or none. More: one issuer's token, or for each issuer its token or none.

    The first alternative helps issuers whose tokens come in the same header: the second would fail there.
    """
    each: list[Json] = [_any([{"provider_name": name}, {"allow_missing": {}}]) for name in providers]
    if len(each) == 1:
        return each[0]
    one: list[Json] = [{"provider_name": name} for name in providers]
    return _any([*one, {"requires_all": {"requirements": each}}])


def _any(requirements: list[Json]) -> Json:
    return {"requires_any": {"requirements": requirements}}
