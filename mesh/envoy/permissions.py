"""What is called, as Envoy's RBAC permissions. Law: an operation is known by host, method, path and port.

Each function takes one value and gives one Permission.
Source: Istio's pilot/pkg/security/authz/model/generator.go.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from mesh.envoy import matchers
from mesh.envoy.proto import Json, named

ANYTHING: Final[Json] = {"any": True}


def any_of(rules: Sequence[Json]) -> Json:
    """One of the permissions."""
    return {"or_rules": {"rules": list(rules)}}


def all_of(rules: Sequence[Json]) -> Json:
    """All of the permissions."""
    return {"and_rules": {"rules": list(rules)}}


def none_of(permission: Json) -> Json:
    """Not the permission."""
    return {"not_rule": permission}


def host(value: str) -> Json:
    """The `:authority`, in any case."""
    return {"header": matchers.header(":authority", value, ignore_case=True)}


def method(value: str) -> Json:
    """The HTTP method; POST for every gRPC call."""
    return {"header": matchers.header(":method", value)}


def path(value: str) -> Json:
    """The path without its query, `/package.Service/Method` for gRPC. `{*}` is one segment, `{**}` any number."""
    if "{*}" in value or "{**}" in value:
        template = value.replace("{*}", "*").replace("{**}", "**")
        kind = "envoy.extensions.path.match.uri_template.v3.UriTemplateMatchConfig"
        return {"uri_template": named("uri-template", kind, path_template=template)}
    return {"url_path": {"path": matchers.string(value)}}


def port(value: str) -> Json:
    """The port that the connection came to."""
    return {"destination_port": int(value)}


def destination_ip(value: str) -> Json:
    """The address that the connection came to."""
    return {"destination_ip": matchers.network(value)}


def sni(value: str) -> Json:
    """The server name that the TLS handshake asked for."""
    return {"requested_server_name": matchers.string(value)}
