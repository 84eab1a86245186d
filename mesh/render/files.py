"""The files of a catalog. Law: one file for each host, and what is written is what Istio takes.

Everything that comes out is read once more, as `headrace mesh up` reads it: what Istio would refuse is refused here.
"""

from __future__ import annotations

from collections.abc import Mapping

from mesh.istio.document import RefusedError, read_documents
from mesh.istio.resource import read_resources
from mesh.render import gateway, workloads
from mesh.render.destination_rule import destination_rule
from mesh.render.resource import Fields
from mesh.render.routes import virtual_service
from mesh.render.security import policies
from mesh.render.services import GATEWAY_FILE, WORKLOADS_FILE, Service, services
from mesh.render.source import RenderError, Source
from mesh.render.telemetry import telemetry
from mesh.render.text import file_of
from mesh.render.weights import Live


def render(source: Source, live: Live) -> Mapping[str, str]:
    """File name -> text, in the catalog's order; `live` holds the weights that stay. Raises RenderError."""
    found = services(source.catalog, source.mesh.gateway)
    files = {service.file: _of_service(service, source, live) for service in found}
    files[GATEWAY_FILE] = gateway.resources(source.mesh.gateway, found)
    if source.endpoints:
        files[WORKLOADS_FILE] = workloads.resources(found, source.endpoints, source.mesh.gateway)
    texts = {name: file_of(resources) for name, resources in files.items()}
    _check(texts)
    return texts


def _of_service(service: Service, source: Source, live: Live) -> list[Fields]:
    return [
        virtual_service(service, live, proxyless=source.proxyless),
        destination_rule(service, proxyless=source.proxyless),
        *policies(service, source.mesh, source.issuers),
        telemetry(service.namespace, service.resource_name, service.labels),
    ]


def _check(texts: Mapping[str, str]) -> None:
    try:
        read_resources(document for name, text in texts.items() for document in read_documents(text, name))
    except RefusedError as refused:
        raise RenderError(refused.mistakes) from None
