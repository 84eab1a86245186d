"""A mesh on one machine: services and their copies. Law: a copy has the labels of all that it serves, and no others'.

A version's labels choose its copies, so they must choose those that the endpoints list for it, and none besides.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final

from mesh.catalog import GatewayWorkload, Model
from mesh.istio.names import labels_match
from mesh.render.resource import Fields, resource
from mesh.render.services import GATEWAY, Service
from mesh.render.source import Endpoints, RenderError
from protos.contract import COPY_LABEL

_PORT: Final = "grpc"
_THIS_MACHINE: Final = "127.0.0.1"


@dataclass(frozen=True, order=True)
class _Address:
    """Where a copy listens."""

    ip: str
    port: int

    @classmethod
    def read(cls, text: str) -> _Address:
        """`127.0.0.1:8101`, `[::1]:8101`. ValueError where the host is no IP address."""
        host, _, port = text.rpartition(":")
        return cls(str(ip_address(host.strip("[]"))), int(port))

    def __str__(self) -> str:
        return f"[{self.ip}]:{self.port}" if ":" in self.ip else f"{self.ip}:{self.port}"


_Copies = Mapping[_Address, Mapping[str, str]]
"""Where each copy of a service listens -> its labels."""


def resources(services: Iterable[Service], endpoints: Endpoints, gateway: GatewayWorkload) -> list[Fields]:
    """A ServiceEntry for each service, a WorkloadEntry for each copy, and one for the gateway. Raises RenderError."""
    found: list[Fields] = []
    mistakes: list[str] = []
    owners: dict[_Address, str] = {}
    for service in services:
        copies, wrong = _copies(service, endpoints)
        mistakes += wrong or _chosen_by_mistake(service, endpoints, copies)
        for address in copies:
            if (owner := owners.setdefault(address, service.host)) != service.host:
                mistakes.append(
                    f"endpoints: {address} is a copy of {owner} and of {service.host}: models of one copy share a host"
                )
        found.append(_service_entry(service))
        found += [_copy(service, address, labels) for address, labels in copies.items()]
    if mistakes:
        raise RenderError(mistakes)
    return [*found, _gateway(gateway)]


def _copies(service: Service, endpoints: Endpoints) -> tuple[_Copies, list[str]]:
    """The copies in the order of their endpoints, and what is wrong with these."""
    copies: dict[_Address, dict[str, str]] = {}
    mistakes: list[str] = []
    for model, version, index, text in _listed(service, endpoints):
        place = f"endpoints.{model.name}.{version}"
        try:
            address = _Address.read(text)
        except ValueError:
            mistakes.append(f"{place}: {text} is no IP address and port, as 127.0.0.1:8101 is")
            continue
        labels = copies.setdefault(address, dict(service.labels))
        number = {COPY_LABEL: str(index)} if version in model.copies else {}
        for key, value in (model.versions[version] | number).items():
            if (there := labels.setdefault(key, value)) != value:
                mistakes.append(f"{place}: the copy at {address} cannot have both {key}={there} and {key}={value}")
    return copies, mistakes


def _listed(service: Service, endpoints: Endpoints) -> Iterator[tuple[Model, str, int, str]]:
    """(model, version, which of its copies, address) of all that the endpoints say of a service."""
    for model in service.models:
        for version, addresses in endpoints.get(model.name, {}).items():
            for index, address in enumerate(addresses):
                yield model, version, index, address


def _chosen_by_mistake(service: Service, endpoints: Endpoints, copies: _Copies) -> Iterator[str]:
    """Copies that a version's labels choose beside its own, and a number of copies that is another."""
    for model in service.models:
        for version, addresses in endpoints.get(model.name, {}).items():
            listed = {_Address.read(text) for text in addresses}
            chosen = {one for one, labels in copies.items() if labels_match(model.versions[version], labels)}
            if model.copies.get(version, len(addresses)) != len(addresses):
                told = f"copies.{version} says {model.copies[version]}"
                yield f"endpoints.{model.name}.{version}: there are {len(addresses)} here, but {told}"
            if others := sorted(chosen - listed):
                yield (
                    f"endpoints.{model.name}.{version}: this version's labels choose the copy at {others[0]}, too: "
                    "give its copies a label of their own"
                )


def _service_entry(service: Service) -> Fields:
    spec: Fields = {
        "hosts": [service.host],
        "location": "MESH_INTERNAL",
        "resolution": "STATIC",
        "ports": [{"number": service.port, "name": _PORT, "protocol": "GRPC"}],
        "workloadSelector": {"labels": dict(service.labels)},
    }
    return resource("ServiceEntry", service.namespace, service.resource_name, spec)


def _copy(service: Service, address: _Address, labels: Mapping[str, str]) -> Fields:
    name = f"{service.name}-{address.ip.replace('.', '-').replace(':', '-')}-{address.port}"
    return _workload_entry(service.namespace, name, address.ip, service.name, labels, ports={_PORT: address.port})


def _gateway(gateway: GatewayWorkload) -> Fields:
    return _workload_entry(gateway.namespace, GATEWAY, _THIS_MACHINE, gateway.service_account, gateway.labels)


def _workload_entry(
    namespace: str, name: str, address: str, service_account: str, labels: Mapping[str, str], **ports: object
) -> Fields:
    spec: Fields = {"address": address, **ports, "labels": dict(labels), "serviceAccount": service_account}
    return resource("WorkloadEntry", namespace, name, spec)
