"""RequestAuthentication: what the goldens of Istio do not show."""

from typing import Any

import pytest

from mesh.envoy import jwt
from mesh.istio.document import RefusedError
from tests.mesh.envoy.istio_vectors import WORKER
from tests.mesh.envoy.security import resource, world

KEYS = '{"keys": [{"kty": "RSA", "n": "xA", "e": "AQAB"}]}'


def config(*rules: dict[str, Any], **spec: Any) -> Any:
    text = resource("RequestAuthentication", "p", jwtRules=[{"jwks": KEYS} | rule for rule in rules], **spec)
    (only,) = jwt.http_filters(world(text), WORKER)
    return only["typed_config"]


def test_without_a_policy_there_is_no_filter():
    assert jwt.http_filters(world(), WORKER) == []
    assert jwt.http_filters(world(resource("RequestAuthentication", "p")), WORKER) == []
    other = resource(
        "RequestAuthentication", "p", selector={"matchLabels": {"app": "triton"}}, jwtRules=[{"issuer": "a"}]
    )
    assert jwt.http_filters(world(other), WORKER) == []


def test_every_field_of_a_rule():
    rule = {
        "issuer": "a",
        "audiences": ["b"],
        "fromHeaders": [{"name": "x"}],
        "fromParams": ["c"],
        "fromCookies": ["d"],
        "outputPayloadToHeader": "x-payload",
        "outputClaimToHeaders": [{"header": "x-sub", "claim": "sub"}],
        "forwardOriginalToken": True,
        "spaceDelimitedClaims": ["roles", "scope"],
    }
    assert config(rule)["providers"]["origins-0"] == {
        "issuer": "a",
        "audiences": ["b"],
        "from_headers": [{"name": "x"}],
        "from_params": ["c"],
        "from_cookies": ["d"],
        "forward_payload_header": "x-payload",
        "claim_to_headers": [{"header_name": "x-sub", "claim_name": "sub"}],
        "forward": True,
        "local_jwks": {"inline_string": KEYS},
        "payload_in_metadata": "payload",
        "normalize_payload_in_metadata": {"space_delimited_claims": ["permission", "roles", "scope"]},
    }


def test_issuers_are_in_order_of_their_names():
    providers = config({"issuer": "b"}, {"issuer": "a"})["providers"]
    assert [(name, one["issuer"]) for name, one in providers.items()] == [("origins-0", "a"), ("origins-1", "b")]


@pytest.mark.parametrize(("rule", "field"), [({"jwksUri": "https://id.example/keys"}, "jwksUri"), ({}, "jwks")])
def test_keys_to_be_fetched_are_refused(rule, field):
    text = resource("RequestAuthentication", "p", jwtRules=[{"issuer": "a"} | rule])
    with pytest.raises(RefusedError, match=rf"models/p: spec\.jwtRules\[0\]\.{field}: not implemented"):
        jwt.http_filters(world(text), WORKER)


def test_written_keys_win_over_an_address():
    assert config({"issuer": "a", "jwksUri": "https://id.example/keys"})["providers"]["origins-0"]["local_jwks"]
