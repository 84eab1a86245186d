"""How a policy's values become Envoy's matchers. Law: one `*`, at the start or the end, leaves a value open.

Source: Istio's pilot/pkg/security/authz/matcher.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from ipaddress import ip_address
from typing import Final

from mesh.envoy.proto import Json, message

JWT_FILTER: Final = "envoy.filters.http.jwt_authn"
JWT_PAYLOAD: Final = "payload"
"""Where the filter leaves a good token's claims in the call's metadata."""

ANYTHING: Final[Json] = {"safe_regex": {"regex": ".+"}}

_GO_META: Final = re.compile(r"[\\.+*?()|\[\]{}^$]")


def quoted(literal: str) -> str:
    """A regular expression that matches the literal alone; as Go's regexp.QuoteMeta writes it."""
    return _GO_META.sub(r"\\\g<0>", literal)


def regex(expression: str) -> Json:
    """A StringMatcher for the whole of a value."""
    return {"safe_regex": {"regex": expression}}


def string(value: str, prefix: str = "") -> Json:
    """A StringMatcher for a value with or without `*`, behind a fixed prefix."""
    if value == "*":
        return ANYTHING
    if value.startswith("*"):
        end = value[1:]
        return regex(f"{prefix}.*{quoted(end)}") if prefix else {"suffix": end}
    return {"prefix": prefix + value[:-1]} if value.endswith("*") else {"exact": prefix + value}


def header(name: str, value: str, *, ignore_case: bool = False) -> Json:
    """A HeaderMatcher; `*` asks that the header is there."""
    if value == "*":
        return {"name": name, "present_match": True}
    return {"name": name, "string_match": string(value) | message(ignore_case=ignore_case or None)}


def network(value: str) -> Json:
    """A CidrRange for an address or a network."""
    address, _, length = value.partition("/")
    parsed = ip_address(address)
    return {"address_prefix": str(parsed), "prefix_len": int(length) if length else parsed.max_prefixlen}


def claim(path: Sequence[str], value: Json) -> Json:
    """A MetadataMatcher for a claim of a verified token. `value` is a ValueMatcher."""
    return {"filter": JWT_FILTER, "path": [{"key": step} for step in (JWT_PAYLOAD, *path)], "value": value}


def claim_among(path: Sequence[str], values: Sequence[str]) -> Json:
    """A MetadataMatcher for a claim that is one of the values, or a list that holds one of them."""
    matchers: list[Json] = [{"string_match": string(value)} for value in values]
    one = matchers[0] if len(matchers) == 1 else _or(matchers)
    return claim(path, _or([{"list_match": {"one_of": one}}, one]))


def _or(matchers: Sequence[Json]) -> Json:
    return {"or_match": {"value_matchers": list(matchers)}}
