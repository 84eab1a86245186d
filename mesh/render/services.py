"""What stands behind each host, and what its resources are called. Law: one service for a host, one name for a thing.

Istio's sidecars use one VirtualService of a host and no other, so models that share a host share its resources.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from mesh.catalog import Catalog, GatewayWorkload, Model
from mesh.istio.names import labels_match
from mesh.render.source import RenderError
from mesh.slug import slug

GATEWAY: Final = "gateway"
"""What the gateway's own resources are called."""
GATEWAY_FILE: Final = "gateway.yaml"
WORKLOADS_FILE: Final = "workloads.yaml"
EXPRESS_LANE: Final = "express-lane"
"""What the resources of the express lane are called."""
EXPRESS_FILE: Final = f"{EXPRESS_LANE}.yaml"

_LABEL: Final = r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?"
_HOST: Final = re.compile(rf"({_LABEL})\.({_LABEL})(?:\.svc(?:\.cluster\.local)?)?:\d+")
_EXAMPLE: Final = "digits.models.svc.cluster.local:8001"


def default_routes(model: Model) -> tuple[str, str]:
    """The names of a model's routes that share calls by weight: for streams, and for every other call."""
    return f"{slug(model.name)}-default-stream", f"{slug(model.name)}-default"


@dataclass(frozen=True)
class Service:
    """A Kubernetes service, and the models that its copies serve, in the catalog's order."""

    name: str
    namespace: str
    models: tuple[Model, ...]

    @property
    def host(self) -> str:
        """Its full name."""
        return f"{self.name}.{self.namespace}.svc.cluster.local"

    @property
    def port(self) -> int:
        """The port that callers name."""
        return _port(self.models[0])

    @property
    def shared(self) -> bool:
        """Whether several models have the host, so that a call's route hangs on the model's name."""
        return len(self.models) > 1

    @property
    def labels(self) -> Mapping[str, str]:
        """The labels of every copy."""
        return self.models[0].labels

    @property
    def resource_name(self) -> str:
        """What its resources are called."""
        return self.name if self.shared else slug(self.models[0].name)

    @property
    def file(self) -> str:
        """The file of its resources; where the host is shared, a dot keeps its name apart from any model's."""
        return f"{self.name}.{self.namespace}.yaml" if self.shared else f"{self.resource_name}.yaml"

    @property
    def title(self) -> str:
        """What it is called in sentences."""
        return f"the host {self.host}" if self.shared else f"model {self.models[0].name}"

    def subset(self, model: Model, version: str) -> str:
        """The subset of a version's copies."""
        return f"{slug(model.name)}-v{version}" if self.shared else f"v{version}"

    def subset_of_copy(self, model: Model, version: str, number: int) -> str:
        """The subset of one copy."""
        return f"{self.subset(model, version)}-copy{number}"


def services(catalog: Catalog, gateway: GatewayWorkload) -> tuple[Service, ...]:
    """The services of a catalog, in its order. Raises RenderError with every mistake."""
    grouped: dict[tuple[str, str], list[Model]] = {}
    mistakes: list[str] = []
    for model in catalog.values():
        if match := _HOST.fullmatch(model.host):
            grouped.setdefault((match[1], match[2]), []).append(model)
        else:
            what = f"{model.host} names no service of a namespace, as {_EXAMPLE} does"
            mistakes.append(f"model {model.name}: host: {what}")
    found = tuple(Service(name, namespace, tuple(models)) for (name, namespace), models in grouped.items())
    mistakes += [mistake for service in found for mistake in _disagreements(service)]
    mistakes += [*_same_names(found, gateway), *_same_copies(found, gateway)]
    if mistakes:
        raise RenderError(mistakes)
    return found


def _port(model: Model) -> int:
    return int(model.host.rpartition(":")[2])


def _disagreements(service: Service) -> Iterator[str]:
    """Models of one host that say different things of it, and versions whose labels none of its copies can have."""
    copies: dict[frozenset[tuple[str, str]], tuple[str, int | None]] = {}
    first = service.models[0].name
    for model in service.models:
        if _port(model) != service.port:
            yield f"model {model.name}: host: {first} has the same host with the port {service.port}: it has one port"
        if model.labels != service.labels:
            yield f"model {model.name}: workload: must be {_words(service.labels)}, as {first} of the same host has it"
        for version, labels in model.versions.items():
            number = model.copies.get(version)
            other, there_are = copies.setdefault(frozenset(labels.items()), (f"{model.name} {version}", number))
            if there_are != number:
                yield f"model {model.name}: copies.{version}: must be as for {other}, which has the same copies"
            for key, value in labels.items():
                if (there := service.labels.get(key, value)) != value:
                    yield f"model {model.name}: versions.{version}.{key}: every copy has {key}={there}"


def _same_names(found: Iterable[Service], gateway: GatewayWorkload) -> Iterator[str]:
    files = {
        GATEWAY_FILE: "the gateway",
        WORKLOADS_FILE: "the copies on this machine",
        EXPRESS_FILE: "the express lane",
    }
    names = {(gateway.namespace, GATEWAY): "the gateway"}
    for service in found:
        file, name = service.file, (service.namespace, service.resource_name)
        if file in files:
            yield f"{service.title}: {file} is the file of {files[file]}: give the model another name"
        elif name in names:
            yield f"{service.title}: the resources of {names[name]} are called {'/'.join(name)}, too: rename the model"
        files.setdefault(file, service.title)
        names.setdefault(name, service.title)


def _same_copies(found: Iterable[Service], gateway: GatewayWorkload) -> Iterator[str]:
    """Policies choose copies by their labels alone: those of one service must not hold for another's copies."""
    others: list[tuple[str, str, Mapping[str, str]]] = [("the gateway", gateway.namespace, gateway.labels)]
    for service in found:
        for other, namespace, labels in others:
            alike = labels_match(service.labels, labels) or labels_match(labels, service.labels)
            if namespace == service.namespace and alike:
                yield (
                    f"{service.title}: workload: copies with {_words(service.labels)} cannot be told from those of "
                    f"{other}, with {_words(labels)}: give each a label of its own"
                )
        others.append((service.title, service.namespace, service.labels))


def _words(labels: Mapping[str, str]) -> str:
    return ", ".join(f"{key}={value}" for key, value in labels.items())
