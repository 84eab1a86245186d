"""Names as Kubernetes and DNS allow them, and hosts as Istio reads them. Law: a name that Istio refuses is refused.

Sources: Istio's pkg/config/labels, pkg/config/host and pkg/config/validation/agent.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from ipaddress import ip_address
from typing import Annotated, Final

from pydantic import AfterValidator

_LABEL: Final = r"[a-zA-Z0-9](?:[-a-zA-Z0-9]*[a-zA-Z0-9])?"
_DNS_LABEL: Final = re.compile(_LABEL)
_WILDCARD_LABEL: Final = re.compile(rf"\*|(?:\*|\*-)?{_LABEL}")
_QUALIFIED: Final = r"(?:[A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
_LABEL_KEY: Final = re.compile(rf"({_LABEL}(?:\.{_LABEL})*/)?({_QUALIFIED})")
_LABEL_VALUE: Final = re.compile(rf"(?:{_QUALIFIED})?")


def is_dns_label(name: str) -> bool:
    """Whether a name is one label of RFC 1123 (upper case is let through, as Istio does)."""
    return len(name) <= 63 and _DNS_LABEL.fullmatch(name) is not None


def is_ip(text: str) -> bool:
    """Whether a text is an IPv4 or IPv6 address."""
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def check_dns_label(name: str) -> str:
    """A name that is one DNS label."""
    if not is_dns_label(name):
        raise ValueError(f"{name!r} is no name (letters, digits and '-', at most 63)")
    return name


def check_subdomain(name: str) -> str:
    """A name as Kubernetes has it (RFC 1123), several labels with dots between."""
    if len(name) > 253 or not all(map(is_dns_label, name.split("."))):
        raise ValueError(f"{name!r} is no name (letters, digits, '-' and '.', at most 253)")
    return name


def _or_none(check: Callable[[str], str]) -> AfterValidator:
    """The same for a name that may be left empty."""
    return AfterValidator(lambda name: check(name) if name else name)


def _check_domain(domain: str, *, wildcard: bool) -> str:
    if not domain:
        raise ValueError("must not be empty")
    if len(domain) > 255:
        raise ValueError("a domain name has at most 255 characters")
    first, *rest = domain.split(".")
    if rest and not rest[-1]:
        rest.pop()  # a domain may end with a dot
    first_is_good = len(first) <= 63 and (_WILDCARD_LABEL if wildcard else _DNS_LABEL).fullmatch(first)
    if not first_is_good or not all(map(is_dns_label, rest)):
        raise ValueError(f"{domain!r} is no domain name")
    return domain


def check_fqdn(domain: str) -> str:
    """A domain name without wildcards."""
    return _check_domain(domain, wildcard=False)


def check_host(domain: str) -> str:
    """A domain name whose first label may be, or start with, a wildcard."""
    return _check_domain(domain, wildcard=True)


def check_address_or_network(text: str) -> str:
    """An IP address, or a network as `10.0.0.0/8`."""
    address, slash, bits = text.partition("/")
    widest = 128 if ":" in address else 32
    if not is_ip(address) or (slash and not (re.fullmatch(r"\d{1,3}", bits) and int(bits) <= widest)):
        raise ValueError(f"{text!r} is no IP address or network")
    return text


def check_labels(labels: Mapping[str, str]) -> None:
    """Keys and values that Kubernetes would take as labels."""
    for key, value in labels.items():
        match = _LABEL_KEY.fullmatch(key)
        if match is None or len(match[1] or "") > 254 or len(match[2]) > 63:
            raise ValueError(f"{key!r} is no label")
        if _LABEL_VALUE.fullmatch(value) is None:
            raise ValueError(f"{value!r} is no value of a label")


def qualified(host: str, namespace: str, domain: str = "cluster.local") -> str:
    """The full name of a host as a resource in `namespace` writes it: a name without a dot is a service beside it."""
    if not host or host == "*" or "." in host or is_ip(host):
        return host
    return f"{host}.{namespace}.svc.{domain}"


def is_wildcard(host: str) -> bool:
    """Whether a host stands for many."""
    return host.startswith("*")


def matches(one: str, other: str) -> bool:
    """Whether two hosts, each perhaps a wildcard, have a name in common (Istio's Name.Matches)."""
    if is_wildcard(one) and is_wildcard(other):
        return one[1:].endswith(other[1:]) or other[1:].endswith(one[1:])
    if is_wildcard(one):
        return other.endswith(one[1:])
    return one.endswith(other[1:]) if is_wildcard(other) else one == other


def covers(pattern: str, host: str) -> bool:
    """Whether everything that `host` names, `pattern` names, too (Istio's Name.SubsetOf, turned round)."""
    if not is_wildcard(pattern):
        return pattern == host
    return host.removeprefix("*").endswith(pattern[1:]) and len(pattern) <= len(host) + (not is_wildcard(host))


def labels_match(wanted: Mapping[str, str], labels: Mapping[str, str]) -> bool:
    """Whether labels hold everything that a selector wants; an empty selector matches all."""
    return wanted.items() <= labels.items()


Fqdn = Annotated[str, AfterValidator(check_fqdn)]
Host = Annotated[str, AfterValidator(check_host)]
DnsLabel = Annotated[str, AfterValidator(check_dns_label)]
Subdomain = Annotated[str, AfterValidator(check_subdomain)]
SubdomainOrNone = Annotated[str, _or_none(check_subdomain)]
DnsLabelOrNone = Annotated[str, _or_none(check_dns_label)]
IpOrNetwork = Annotated[str, AfterValidator(check_address_or_network)]
