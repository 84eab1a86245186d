"""What a call must look like for a route. Law: no match is every call; given matches must all hold.

Source: Istio's TranslateRouteMatch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from mesh.envoy.proto import Json, message
from mesh.istio.http_route import HTTPMatchRequest
from mesh.istio.names import labels_match
from mesh.istio.proxies import Proxy
from mesh.istio.selector import is_for_sidecars
from mesh.istio.strings import StringMatch, UriMatch

EVERY_PATH: Final[Json] = {"prefix": "/"}


def concerns(match: HTTPMatchRequest, proxy: Proxy, port: int) -> bool:
    """Whether a match can hold for calls of this proxy to this port; to name the gateway `mesh` is to mean all."""
    if match.port not in (0, port):
        return False
    if match.gateways:
        return is_for_sidecars(match.gateways)
    return labels_match(match.source_labels, proxy.labels) and match.source_namespace in ("", proxy.namespace)


def route_match(match: HTTPMatchRequest | None) -> Json:
    """envoy.config.route.v3.RouteMatch. Headers by name, then method, authority and scheme."""
    if match is None:
        return dict(EVERY_PATH)
    pseudo = ((":method", match.method), (":authority", match.authority), (":scheme", match.scheme))
    headers = [*_headers(match), *(_header(name, text) for name, text in pseudo if text is not None)]
    return message(
        **_path(match.uri),
        case_sensitive=not match.ignore_uri_case,
        headers=headers or None,
        query_parameters=_parameters(match.query_params) or None,
    )


def catches_all(match: Json) -> bool:
    """Whether every call matches, so that no later route is ever reached."""
    every_path = match.get("prefix") == "/" or match.get("safe_regex") == {"regex": ".*"}
    return every_path and "headers" not in match and "query_parameters" not in match


def path_of(match: Json) -> str:
    """The path of a match as traces name it: `/a*` for a prefix."""
    if "path" in match:
        return str(match["path"])
    regex = match.get("safe_regex")
    return str(regex["regex"]) if isinstance(regex, dict) else f"{match['prefix']}*"


def _path(uri: UriMatch | None) -> Json:
    if uri is None:
        return EVERY_PATH
    if uri.exact is not None:
        return {"path": uri.exact}
    if uri.regex is not None:
        return {"safe_regex": {"regex": uri.regex}}
    return EVERY_PATH if uri.prefix is None else {"prefix": uri.prefix}


def _headers(match: HTTPMatchRequest) -> list[Json]:
    wanted = [(name, _header(name, text)) for name, text in match.headers.items()]
    unwanted = [(name, _without(name, text)) for name, text in match.without_headers.items()]
    return [matcher for _, matcher in sorted([*wanted, *unwanted], key=lambda pair: pair[0])]


def _header(name: str, text: StringMatch) -> Json:
    return {"name": name, **_value(text)}


def _without(name: str, text: StringMatch) -> Json:
    """A header that must not look like this. One that is missing does not, unless the empty text does."""
    return message(
        name=name, **_value(text), invert_match=True, treat_missing_header_as_empty=None if text.present else True
    )


def _parameters(parameters: Mapping[str, StringMatch]) -> list[Json]:
    return [{"name": name, **_value(parameters[name])} for name in sorted(parameters)]


def _value(text: StringMatch) -> Json:
    if text.present:
        return {"present_match": True}
    if text.regex is not None:
        return {"string_match": {"safe_regex": {"regex": text.regex}}}
    return {"string_match": message(exact=text.exact, prefix=text.prefix)}
