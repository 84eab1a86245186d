"""AuthorizationPolicy: which callers a workload lets in. Law: DENY comes first; where any ALLOW is, one must match."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from mesh.istio.attributes import (
    IpBlocks,
    PathTemplates,
    Ports,
    ServiceAccounts,
    TrustDomains,
    Values,
    mistake_in_condition,
)
from mesh.istio.message import Message, Mistake, ProtoEnum, Unimplemented, without
from mesh.istio.selector import WorkloadSelector
from mesh.istio.values import Text


class Action(ProtoEnum):
    """What a policy does with a call that matches."""

    ALLOW = "ALLOW"
    DENY = "DENY"
    AUDIT = "AUDIT"
    CUSTOM = "CUSTOM"


class Source(Message):
    """Who calls. All fields must hold; in each, any value; in a `not_` field, none."""

    principals: Values = ()
    not_principals: Values = ()
    request_principals: Values = ()
    not_request_principals: Values = ()
    namespaces: Values = ()
    not_namespaces: Values = ()
    service_accounts: ServiceAccounts = ()
    not_service_accounts: ServiceAccounts = ()
    trust_domains: TrustDomains = ()
    not_trust_domains: TrustDomains = ()
    ip_blocks: IpBlocks = ()
    not_ip_blocks: IpBlocks = ()
    remote_ip_blocks: IpBlocks = ()
    not_remote_ip_blocks: IpBlocks = ()

    def mistakes(self) -> Iterator[Mistake]:
        """A source that says nothing, or says the same in two ways."""
        yield from _empty(self)
        named = self.principals + self.not_principals + self.namespaces + self.not_namespaces
        if named and (self.service_accounts or self.not_service_accounts):
            yield ("serviceAccounts",), "cannot stand beside namespaces or principals"


class Operation(Message):
    """What is called. All fields must hold; in each, any value; in a `not_` field, none."""

    hosts: Values = ()
    not_hosts: Values = ()
    ports: Ports = ()
    not_ports: Ports = ()
    methods: Values = ()
    not_methods: Values = ()
    paths: PathTemplates = ()
    not_paths: PathTemplates = ()

    def mistakes(self) -> Iterator[Mistake]:
        """An operation that says nothing."""
        yield from _empty(self)


def _empty(message: Message) -> Iterator[Mistake]:
    if not any(getattr(message, name) for name in type(message).model_fields):
        yield (), "must not be empty"


class From(Message):
    """One alternative of who calls."""

    source: Source


class To(Message):
    """One alternative of what is called."""

    operation: Operation


class Condition(Message):
    """One more thing that must hold: an attribute of the call among `values`, and not among `not_values`."""

    key: Text
    values: Values = ()
    not_values: Values = ()

    def mistakes(self) -> Iterator[Mistake]:
        """An attribute that Istio does not know, or values that it cannot have."""
        if not self.values and not self.not_values:
            yield ("values",), f"are missing for {self.key}: set values or notValues"
        for field, values in (("values", self.values), ("notValues", self.not_values)):
            if values and (what := mistake_in_condition(self.key, values)):
                yield (what[0] or field,), what[1]


class Rule(Message):
    """A call that matches: one of `from`, one of `to` and all of `when`. Nothing given matches every call."""

    from_: tuple[From, ...] = ()
    to: tuple[To, ...] = ()
    when: tuple[Condition, ...] = ()


class AuthorizationPolicy(Message):
    """`security.istio.io` AuthorizationPolicy. ALLOW without rules lets no one in."""

    selector: WorkloadSelector | None = None
    action: Annotated[Action, without("AUDIT", "CUSTOM")] = Action.ALLOW
    rules: tuple[Rule, ...] = ()
    provider: Unimplemented = None
    targetRef: Unimplemented = None  # noqa: N815 - its proto name
    targetRefs: Unimplemented = None  # noqa: N815 - its proto name

    def mistakes(self) -> Iterator[Mistake]:
        """A denial of nothing."""
        if self.action is Action.DENY and not self.rules:
            yield ("rules",), "are missing: DENY without rules denies nothing ([{}] denies everything)"
