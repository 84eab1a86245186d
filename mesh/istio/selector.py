"""Which workloads and namespaces a resource is for. Law: a selector that Istio would refuse is refused here."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Annotated, ClassVar, Final, Protocol

from pydantic import AfterValidator, Field

from mesh.istio.message import Message, Mistake
from mesh.istio.names import check_dns_label, check_subdomain
from mesh.istio.values import Port


def _plain(labels: Mapping[str, str]) -> Mapping[str, str]:
    for key, value in labels.items():
        if not key:
            raise ValueError("a label has no name")
        if "*" in key + value:
            raise ValueError(f"{key}={value}: no wildcard is possible here")
    return labels


SelectorLabels = Annotated[Mapping[str, str], AfterValidator(_plain)]


class WorkloadSelector(Message):
    """`istio.type.v1beta1.WorkloadSelector`, as the security kinds and DestinationRule write it."""

    match_labels: SelectorLabels = Field(default_factory=dict)

    @property
    def labels(self) -> Mapping[str, str]:
        """The labels that a workload must have."""
        return self.match_labels


class LabelSelector(Message):
    """`istio.networking.v1alpha3.WorkloadSelector`, as ServiceEntry and Sidecar write it."""

    labels: SelectorLabels = Field(default_factory=dict)


MESH: Final = "mesh"
"""The gateway that is every sidecar."""


def _gateway(value: str) -> str:
    namespace, slash, name = value.rpartition("/")
    check_subdomain(name)
    if slash and namespace != ".":
        check_dns_label(namespace)
    return value


GatewayName = Annotated[str, AfterValidator(_gateway)]
"""`mesh`, or a Gateway (NAME, NAMESPACE/NAME). What is for such a one alone is nothing to sidecars."""


def is_for_sidecars(gateways: Collection[str]) -> bool:
    """Whether what names these gateways is for sidecars; they are meant where none is named."""
    return not gateways or MESH in gateways


class PortSelector(Message):
    """A port of a service, by number."""

    number: Port


class Workload(Protocol):
    """What selects a workload: a proxy, or a copy of a service."""

    @property
    def namespace(self) -> str:
        """Its namespace."""

    @property
    def labels(self) -> Mapping[str, str]:
        """Its labels."""


class Exported(Message):
    """A kind that says which namespaces see it: names, `.` (its own), `*` (all; also with nothing said)."""

    export_words: ClassVar[frozenset[str]] = frozenset({".", "*"})

    export_to: tuple[str, ...] = ()

    def seen_from(self, other: str, namespace: str) -> bool:
        """Whether a resource of `namespace` is seen from the namespace `other`."""
        return not self.export_to or any(
            entry in ("*", other) or (entry == "." and namespace == other) for entry in self.export_to
        )

    def mistakes_in(self, namespace: str) -> Iterator[Mistake]:
        """What is wrong in the exportTo of a resource in `namespace`."""
        return _export_mistakes(namespace, self.export_to, self.export_words)


def _export_mistakes(namespace: str, export_to: Sequence[str], words: Collection[str]) -> Iterator[Mistake]:
    seen: set[str] = set()
    for index, entry in enumerate(export_to):
        key = namespace if entry == "." else entry
        if key in seen:
            yield ("exportTo", index), f"{entry} is there twice"
        seen.add(key)
        if entry not in words:
            try:
                check_dns_label(entry)
            except ValueError as error:
                yield ("exportTo", index), str(error)
    for alone in ("*", "~"):
        if alone in seen and len(export_to) > 1:
            yield ("exportTo",), f"{alone} can only stand alone"
