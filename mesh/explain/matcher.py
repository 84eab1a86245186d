"""Whether a call matches a route, and if not, why. Law: as Envoy decides it; a condition unknown here is an error.

What is not in a call has no value: only `present_match` inverted, and what treats a missing header as an empty one,
can hold for it. A header that is there several times is as wanted when one of its values is.
Source: Envoy's RouteMatch and HeaderMatcher, https://www.envoyproxy.io/docs/envoy/latest/api-v3/config/route/v3/route_components.proto.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from mesh.envoy.proto import Json
from mesh.envoy.reading import part, parts, text
from mesh.istio.re2 import matches

Headers = Mapping[str, tuple[str, ...]]
"""A call's headers by their names in lower case, `:path` and `:authority` among them, each with its values."""

_KNOWN: Final = frozenset({"prefix", "path", "safe_regex", "case_sensitive", "headers", "query_parameters"})
_PATH: Final = ":path"


def unmet(match: Json, call: Headers) -> tuple[str, ...]:
    """The conditions of an envoy.config.route.v3.RouteMatch that a call does not meet, in words; none: it matches."""
    if unknown := match.keys() - _KNOWN:
        raise ValueError(f"a route has conditions that are not known: {', '.join(sorted(unknown))}")
    path, _, query = call[_PATH][0].partition("#")[0].partition("?")
    return (
        *_path(match, path),
        *(said for one in parts(match, "headers") for said in _header(one, call)),
        *(said for one in parts(match, "query_parameters") for said in _parameter(one, _parameters(query))),
    )


def _path(match: Json, path: str) -> Iterator[str]:
    regex = part(match, "safe_regex")
    if regex:
        if not matches(text(regex, "regex"), path):
            yield f"the path must match {text(regex, 'regex')}"
        return
    same = str if match.get("case_sensitive", True) else str.lower
    if "path" in match and same(path) != same(text(match, "path")):
        yield f"the path must be {text(match, 'path')}"
    if "prefix" in match and not same(path).startswith(same(text(match, "prefix"))):
        yield f"the path must begin with {text(match, 'prefix')}"


def _header(matcher: Json, call: Headers) -> Iterator[str]:
    """envoy.config.route.v3.HeaderMatcher."""
    name, inverted = text(matcher, "name"), bool(matcher.get("invert_match"))
    values = call.get(name.lower(), ())
    said = f"{name} must {'not ' if inverted else ''}{_words(matcher)}"
    if matcher.get("present_match"):
        if bool(values) == inverted:
            yield said
        return
    compared = values or (("",) if matcher.get("treat_missing_header_as_empty") else ())
    if not compared or any(_holds(part(matcher, "string_match"), value) for value in compared) == inverted:
        yield f"{said}, and is {', '.join(values) if values else 'not there'}"


def _parameter(matcher: Json, parameters: Mapping[str, str]) -> Iterator[str]:
    """envoy.config.route.v3.QueryParameterMatcher."""
    value = parameters.get(text(matcher, "name"))
    if value is None or not (matcher.get("present_match") or _holds(part(matcher, "string_match"), value)):
        yield f"the query parameter {text(matcher, 'name')} must {_words(matcher)}"


def _parameters(query: str) -> Mapping[str, str]:
    """Name -> value; of several, the first."""
    found: dict[str, str] = {}
    for pair in query.split("&") if query else ():
        name, _, value = pair.partition("=")
        found.setdefault(name, value)
    return found


def _holds(match: Json, value: str) -> bool:
    """envoy.type.matcher.v3.StringMatcher."""
    if "safe_regex" in match:
        return matches(text(part(match, "safe_regex"), "regex"), value)
    if "prefix" in match:
        return value.startswith(text(match, "prefix"))
    return value == text(match, "exact")


def _words(matcher: Json) -> str:
    match = part(matcher, "string_match")
    if matcher.get("present_match"):
        return "be there"
    if "safe_regex" in match:
        return f"match {text(part(match, 'safe_regex'), 'regex')}"
    return f"begin with {text(match, 'prefix')}" if "prefix" in match else f"be {text(match, 'exact') or 'empty'}"
