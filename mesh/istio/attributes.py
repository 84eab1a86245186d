"""The values of an AuthorizationPolicy. Law: a value that could match nothing, or is of the wrong kind, is a mistake.

Source: Istio's pkg/config/security/security.go.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Annotated, Final

from pydantic import AfterValidator

from mesh.istio.names import check_address_or_network

_PLAIN: Final = frozenset({
    "source.namespace", "source.principal", "request.auth.principal", "request.auth.audiences",
    "request.auth.presenter", "connection.sni",
})  # fmt: skip
_KEYED: Final = ("request.headers", "request.auth.claims")
_LITERAL: Final = re.compile(r"[a-zA-Z0-9\-._~%!$&'()+,;:@=]+")


def _value(value: str) -> str:
    if not value:
        raise ValueError("must not be empty")
    return value


def _port(value: str) -> str:
    if not re.fullmatch(r"\d{1,9}", value) or int(value) > 65535:
        raise ValueError(f"{value!r} is no port")
    return value


def _trust_domain(value: str) -> str:
    _wildcard(value)
    if "/" in value:
        raise ValueError(f"{value!r} is no trust domain: it holds a /")
    return value


def _wildcard(value: str) -> str:
    _value(value)
    if "*" in value[1:-1] or (len(value) > 1 and value[0] == value[-1] == "*"):
        raise ValueError(f"{value!r}: one * is possible, at the start or the end")
    return value


def _service_account(value: str) -> str:
    _value(value)
    if "*" in value or len(value) > 320 or not re.fullmatch(r"[^/]+(/[^/]+)?", value):
        raise ValueError(f"{value!r} is neither a service account nor NAMESPACE/ACCOUNT")
    return value


def _few(values: tuple[str, ...]) -> tuple[str, ...]:
    if len(values) > 16:
        raise ValueError("more than 16 service accounts")
    return values


def _path(value: str) -> str:
    """A path; `{*}` stands for one segment and `{**}`, the last such sign, for any number."""
    _value(value)
    template = "{*}" in value or "{**}" in value
    rest_taken = False
    for segment in value.strip("/").split("/"):
        if segment in ("{*}", "{**}"):
            if rest_taken:
                raise ValueError(f"{value!r}: {{**}} must be the last sign")
            rest_taken = segment == "{**}"
        elif re.search("[{}]", segment) or (template and not _LITERAL.fullmatch(segment)):
            raise ValueError(f"{value!r} is no path: {segment!r} cannot be a segment")
    return value


Values = tuple[Annotated[str, AfterValidator(_value)], ...]
Ports = tuple[Annotated[str, AfterValidator(_port)], ...]
IpBlocks = tuple[Annotated[str, AfterValidator(check_address_or_network)], ...]
TrustDomains = tuple[Annotated[str, AfterValidator(_trust_domain)], ...]
ServiceAccounts = Annotated[tuple[Annotated[str, AfterValidator(_service_account)], ...], AfterValidator(_few)]
PathTemplates = tuple[Annotated[str, AfterValidator(_path)], ...]

_CHECKS: Final[dict[str, Callable[[str], str]]] = {
    "source.ip": check_address_or_network,
    "remote.ip": check_address_or_network,
    "destination.ip": check_address_or_network,
    "destination.port": _port,
    "source.serviceAccount": _service_account,
    "source.trustDomain": _wildcard,
    **dict.fromkeys(_PLAIN, _value),
}


def mistake_in_condition(key: str, values: Sequence[str]) -> tuple[str, str] | None:
    """What is wrong with a condition: the field (empty: the one that holds the values) and the words."""
    if key.startswith("experimental.envoy.filters."):
        return "key", f"not implemented: {key}"
    if key.startswith(_KEYED):
        good = key.endswith("]") and 0 < key.find("[") < len(key) - 2
        return None if good else ("key", f"{key!r} must be of the form a[b]")
    if key not in _CHECKS:
        return "key", f"{key!r} is no attribute that a condition can name"
    if key == "source.serviceAccount" and len(values) > 16:
        return "", "more than 16 service accounts"
    for value in values:
        try:
            _CHECKS[key](value)
        except ValueError as error:
            return "", str(error)
    return None
