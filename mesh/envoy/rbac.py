"""AuthorizationPolicy as Envoy's RBAC filters. Law: DENY is asked before ALLOW, and what cannot be seen never lets in.

A TCP chain sees neither paths, methods, headers nor tokens. There, an ALLOW rule that asks for them is left out as a
whole (it lets no one in), and of a DENY rule only what asks for them (it turns more away).
Source: Istio's pilot/pkg/security/authz/{builder,model}.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from mesh.envoy import permissions, principals
from mesh.envoy.principals import HttpOnlyError
from mesh.envoy.proto import Json, message, named, refusal
from mesh.istio.authorization_policy import Action, AuthorizationPolicy, Condition, Operation, Rule, Source
from mesh.istio.message import Place
from mesh.istio.proxies import Proxy
from mesh.istio.resource import Resource
from mesh.istio.world import World

_HTTP_FILTER: Final = ("envoy.filters.http.rbac", "envoy.extensions.filters.http.rbac.v3.RBAC")
_NETWORK_FILTER: Final = ("envoy.filters.network.rbac", "envoy.extensions.filters.network.rbac.v3.RBAC")
_SHADOW: Final = "istio_dry_run_allow_"

_NO_ONE: Final[Json] = {
    "permissions": [permissions.none_of(permissions.ANYTHING)],
    "principals": [principals.none_of(principals.ANYONE)],
}

Values = Sequence[str]
Match = Callable[[Values], Json]
"""The values of a field -> one Principal or Permission that holds when any of them does."""


@dataclass(frozen=True)
class _Field:
    """One condition of a rule, on any of `values` and none of `not_values`."""

    match: Match
    values: Values
    not_values: Values
    http_only: bool = False


@dataclass(frozen=True)
class _Words:
    """How principals, or permissions, are put together."""

    all_of: Callable[[Sequence[Json]], Json]
    any_of: Callable[[Sequence[Json]], Json]
    none_of: Callable[[Json], Json]
    anything: Json


_WHO: Final = _Words(principals.all_of, principals.any_of, principals.none_of, principals.ANYONE)
_WHAT: Final = _Words(permissions.all_of, permissions.any_of, permissions.none_of, permissions.ANYTHING)


def http_filters(world: World, workload: Proxy) -> list[Json]:
    """The HTTP filters that let calls in or turn them away."""
    return [named(*_HTTP_FILTER, rules=rules, shadow_rules_stat_prefix=_SHADOW) for rules in _rules(world, workload)]


def network_filters(world: World, workload: Proxy) -> list[Json]:
    """The same for connections whose protocol is not known."""
    shadow = {"shadow_rules_stat_prefix": _SHADOW, "stat_prefix": "tcp."}
    return [named(*_NETWORK_FILTER, rules=rules, **shadow) for rules in _rules(world, workload, tcp=True)]


def _rules(world: World, workload: Proxy, *, tcp: bool = False) -> Iterator[Json]:
    policies = world.authorization_policies(workload)
    for action in (Action.DENY, Action.ALLOW):
        chosen = [policy for policy in policies if policy.spec.action is action]
        if chosen:
            found = {
                name: rule for policy in chosen for name, rule in _policies(policy, world.mesh.trust_domain, tcp=tcp)
            }
            yield message(action="DENY" if action is Action.DENY else None, policies=found or None)


def _policies(policy: Resource[AuthorizationPolicy], trust_domain: str, *, tcp: bool) -> Iterator[tuple[str, Json]]:
    context = principals.Policy(policy.namespace, trust_domain)
    for index, rule in enumerate(policy.spec.rules):
        who, what = _when(policy, index, context)
        try:
            yield _name(policy, index), _policy(policy.spec.action, rule, context, (who, what), tcp=tcp)
        except HttpOnlyError:
            continue
    if not policy.spec.rules:
        yield _name(policy, 0), _NO_ONE


def _name(policy: Resource[AuthorizationPolicy], index: int) -> str:
    return f"ns[{policy.namespace}]-policy[{policy.name}]-rule[{index}]"


def _policy(
    action: Action, rule: Rule, context: principals.Policy, when: tuple[list[_Field], list[_Field]], *, tcp: bool
) -> Json:
    who, what = when
    sources = [[*_source(one.source, context), *who] for one in rule.from_] or [who]
    operations = [[*_operation(one.operation), *what] for one in rule.to] or [what]
    compiled = partial(_all, action=action, tcp=tcp)
    return {
        "permissions": [compiled(_WHAT, fields) for fields in operations],
        "principals": [compiled(_WHO, fields) for fields in sources],
    }


def _all(words: _Words, fields: Sequence[_Field], *, action: Action, tcp: bool) -> Json:
    found: list[Json] = []
    for field in fields:
        if not field.values and not field.not_values:
            continue
        if tcp and field.http_only:
            if action is Action.ALLOW:
                raise HttpOnlyError
            continue
        if field.values:
            found.append(field.match(field.values))
        if field.not_values:
            found.append(words.none_of(field.match(field.not_values)))
    return words.all_of(found or [words.anything])


def _source(source: Source, context: principals.Policy) -> list[_Field]:
    who = partial(_who, context=context)
    return [
        _Field(who(principals.principal), source.principals, source.not_principals),
        _Field(principals.request_principals, source.request_principals, source.not_request_principals, http_only=True),
        _Field(who(principals.service_account), source.service_accounts, source.not_service_accounts),
        _Field(who(principals.trust_domain), source.trust_domains, source.not_trust_domains),
        _Field(who(principals.namespace), source.namespaces, source.not_namespaces),
        _Field(who(principals.remote_ip), source.remote_ip_blocks, source.not_remote_ip_blocks),
        _Field(who(principals.source_ip), source.ip_blocks, source.not_ip_blocks),
    ]


def _operation(operation: Operation) -> list[_Field]:
    return [
        _Field(_what(permissions.host), operation.hosts, operation.not_hosts, http_only=True),
        _Field(_what(permissions.method), operation.methods, operation.not_methods, http_only=True),
        _Field(_what(permissions.path), operation.paths, operation.not_paths, http_only=True),
        _Field(_what(permissions.port), operation.ports, operation.not_ports),
    ]


def _who(each: principals.Each, context: principals.Policy) -> Match:
    return lambda values: principals.any_of([each(value, context) for value in values])


def _what(each: Callable[[str], Json]) -> Match:
    return lambda values: permissions.any_of([each(value) for value in values])


_WHAT_KEYS: Final = {
    "destination.ip": permissions.destination_ip,
    "destination.port": permissions.port,
    "connection.sni": permissions.sni,
}
_WHO_KEYS: Final = {
    "source.ip": principals.source_ip,
    "remote.ip": principals.remote_ip,
    "source.namespace": principals.namespace,
    "source.trustDomain": principals.trust_domain,
    "source.serviceAccount": principals.service_account,
    "source.principal": principals.principal,
}
_TOKEN_KEYS: Final[dict[str, Match]] = {
    "request.auth.principal": principals.request_principals,
    "request.auth.audiences": partial(principals.claims, ("aud",)),
    "request.auth.presenter": partial(principals.claims, ("azp",)),
}
_HEADERS: Final = "request.headers"
_CLAIMS: Final = "request.auth.claims"


def _when(
    policy: Resource[AuthorizationPolicy], index: int, context: principals.Policy
) -> tuple[list[_Field], list[_Field]]:
    """A rule's conditions: those on who calls, those on what is called."""
    who: list[_Field] = []
    what: list[_Field] = []
    for number, condition in enumerate(policy.spec.rules[index].when):
        if condition.key in _WHAT_KEYS:
            match = _what(_WHAT_KEYS[condition.key])
            what.append(_Field(match, condition.values, condition.not_values))
            continue
        try:
            who.append(_who_when(condition, context))
        except ValueError as error:
            place: Place = ("rules", index, "when", number, "key")
            raise refusal(policy, place, f"{condition.key!r} {error}") from None
    return who, what


def _who_when(condition: Condition, context: principals.Policy) -> _Field:
    key, values, not_values = condition.key, condition.values, condition.not_values
    if key in _WHO_KEYS:
        return _Field(_who(_WHO_KEYS[key], context), values, not_values)
    if key in _TOKEN_KEYS:
        return _Field(_TOKEN_KEYS[key], values, not_values, http_only=True)
    if key.startswith(_HEADERS):
        name = principals.in_brackets(key.removeprefix(_HEADERS))
        return _Field(_who(principals.request_header(name), context), values, not_values, http_only=True)
    if key.startswith(_CLAIMS):
        path = principals.claim_path(key.removeprefix(_CLAIMS))
        return _Field(partial(principals.claims, path), values, not_values, http_only=True)
    raise ValueError("not implemented")
