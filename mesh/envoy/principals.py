"""Who calls, as Envoy's RBAC principals. Law: a source is known by its certificate, token or address.

Each function below takes one value and gives one Principal; those of tokens take all values of a field at once, as
Istio does. On a TCP chain nothing is known of a token or a header: `HttpOnlyError`.
Source: Istio's pilot/pkg/security/authz/model/generator.go.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from mesh.envoy import matchers
from mesh.envoy.proto import Json

SPIFFE: Final = "spiffe://"


class HttpOnlyError(Exception):
    """What is asked can be seen in an HTTP call only."""


@dataclass(frozen=True)
class Policy:
    """What the meaning of a value depends on, beside the value."""

    namespace: str
    trust_domain: str


Each = Callable[[str, Policy], Json]
"""One value -> one Principal."""


def any_of(ids: Sequence[Json]) -> Json:
    """One of the principals."""
    return {"or_ids": {"ids": list(ids)}}


def all_of(ids: Sequence[Json]) -> Json:
    """All of the principals."""
    return {"and_ids": {"ids": list(ids)}}


def none_of(principal: Json) -> Json:
    """Not the principal."""
    return {"not_id": principal}


ANYONE: Final[Json] = {"any": True}


def principal(value: str, policy: Policy) -> Json:
    """A certificate's SPIFFE id, without its scheme."""
    return _authenticated(matchers.string(_with_own_trust_domain(value, policy.trust_domain), SPIFFE))


def namespace(value: str, _: Policy) -> Json:
    """The namespace in a certificate's SPIFFE id."""
    return _authenticated(matchers.regex(f".*/ns/{'.*'.join(map(matchers.quoted, value.split('*')))}/.*"))


def service_account(value: str, policy: Policy) -> Json:
    """`NAMESPACE/ACCOUNT`, or an account of the policy's own namespace."""
    space, _, account = value.rpartition("/")
    space, account = matchers.quoted(space or policy.namespace), matchers.quoted(account)
    return _authenticated(matchers.regex(f"spiffe://.+/ns/{space}/(.+/|)sa/{account}(/.+)?"))


def trust_domain(value: str, _: Policy) -> Json:
    """The trust domain of a certificate's SPIFFE id."""
    if value == "*":
        return _authenticated({"prefix": SPIFFE})
    if "*" not in value:
        return _authenticated({"prefix": f"{SPIFFE}{value}/"})
    start, _star, end = value.partition("*")
    return _authenticated(matchers.regex(f"{SPIFFE}{matchers.quoted(start)}[^/]*{matchers.quoted(end)}/.*"))


def source_ip(value: str, _: Policy) -> Json:
    """The address that the connection comes from."""
    return {"direct_remote_ip": matchers.network(value)}


def remote_ip(value: str, _: Policy) -> Json:
    """The address of the first caller, as x-forwarded-for tells it."""
    return {"remote_ip": matchers.network(value)}


def request_header(name: str) -> Each:
    """A header of the call."""
    return lambda value, _: {"header": matchers.header(name, value)}


def request_principals(values: Sequence[str]) -> Json:
    """`ISSUER/SUBJECT` of a verified token; the last `/` parts them, as an issuer may be a URL."""
    found = [_request_principal(value) for value in values]
    return found[0] if len(found) == 1 else any_of(found)


def claims(path: Sequence[str], values: Sequence[str]) -> Json:
    """A claim of a verified token, which may lie inside others."""
    return {"metadata": matchers.claim_among(path, values)}


def claim_path(brackets: str) -> tuple[str, ...]:
    """`[a][b]` -> (a, b). What does not nest well is one name, as Istio reads it. ValueError: no brackets."""
    if re.fullmatch(r"(\[[^\[\]]*\])+", brackets):
        return tuple(re.findall(r"\[([^\[\]]*)\]", brackets))
    return (in_brackets(brackets),)


def in_brackets(text: str) -> str:
    """`[a]` -> a. ValueError: no brackets."""
    if len(text) < 2 or text[0] != "[" or text[-1] != "]":
        raise ValueError("must be of the form a[b]")
    return text[1:-1]


def _with_own_trust_domain(value: str, own: str) -> str:
    """`cluster.local`, and a start of the mesh's own trust domain with `*`, stand for that trust domain."""
    first, *rest = value.split("/")
    meant = first == "cluster.local" or (first != "*" and first.endswith("*") and own.startswith(first[:-1]))
    return "/".join((own, *rest)) if meant and len(rest) == 4 else value


def _authenticated(name: Json) -> Json:
    return {"authenticated": {"principal_name": name}}


def _request_principal(value: str) -> Json:
    issuer, subject = _issuer_and_subject(value)
    return all_of([
        {"metadata": matchers.claim(["iss"], {"string_match": issuer})},
        {"metadata": matchers.claim(["sub"], {"string_match": subject})},
    ])  # fmt: skip


def _issuer_and_subject(value: str) -> tuple[Json, Json]:
    issuer, slash, subject = value.rpartition("/")
    if value == "*":
        return matchers.ANYTHING, matchers.ANYTHING
    if value.startswith("*"):
        if not slash:
            return matchers.ANYTHING, {"suffix": value[1:]}
        return matchers.ANYTHING if issuer == "*" else {"suffix": issuer[1:]}, {"exact": subject}
    if value.endswith("*"):
        if not slash:
            return {"prefix": value[:-1]}, matchers.ANYTHING
        return {"exact": issuer}, matchers.ANYTHING if subject == "*" else {"prefix": subject[:-1]}
    return ({"exact": issuer}, {"exact": subject}) if slash else ({"exact": value}, {"exact": ""})
