"""The files of a catalog. Law: one file for each host, and what is written is what Istio takes.

What comes out is read once more, as `headrace mesh up` reads it: what Istio would refuse is refused here.
"""

from __future__ import annotations

from collections.abc import Mapping

from mesh.istio.document import RefusedError, read_documents
from mesh.istio.resource import KINDS, read_resources
from mesh.render import collector, express, gateway, workloads
from mesh.render.destination_rule import destination_rule
from mesh.render.resource import Fields
from mesh.render.routes import virtual_service
from mesh.render.security import policies
from mesh.render.services import EXPRESS_FILE, GATEWAY_FILE, WORKLOADS_FILE, Service, services
from mesh.render.source import RenderError, Source
from mesh.render.telemetry import telemetry
from mesh.render.text import file_of
from mesh.render.weights import Live


def render(source: Source, live: Live) -> Mapping[str, str]:
    """File name -> text, in the catalog's order; `live` holds the weights that stay. Raises RenderError."""
    if source.express is not None and source.endpoints:
        raise RenderError(["upstream.endpoints: are one machine's; there, listen.express runs the express lane"])
    found = services(source.catalog, source.mesh.gateway)
    spans = source.collector
    files = {service.file: _of_service(service, source, live) for service in found}
    files[GATEWAY_FILE] = gateway.resources(source.mesh.gateway, found, spans)
    if source.express is not None:
        files[EXPRESS_FILE] = express.resources(source.mesh, found, source.express)
    if source.endpoints:
        files[WORKLOADS_FILE] = workloads.resources(found, source.endpoints, source.mesh.gateway)
    texts = {name: file_of(resources) for name, resources in files.items()}
    _check(texts)
    return texts


def mesh_config(source: Source) -> str:
    """The part of Istio's MeshConfig that the resources need."""
    return file_of([collector.mesh_config(source.collector, source.mesh.trust_domain)])


def _of_service(service: Service, source: Source, live: Live) -> list[Fields]:
    ingress = express.name_of(source.mesh.ingress) if source.express else None
    return [
        virtual_service(service, live, proxyless=source.proxyless, ingress=ingress),
        destination_rule(service, proxyless=source.proxyless),
        *policies(service, source.mesh, source.issuers, express=source.express is not None),
        telemetry(service.namespace, service.resource_name, service.labels, traced=source.collector is not None),
    ]


def _check(texts: Mapping[str, str]) -> None:
    documents = (document for name, text in texts.items() for document in read_documents(text, name))
    try:
        # Gateway and EnvoyFilter are for no mesh of ours.
        read_resources(document for document in documents if document.data["kind"] in KINDS)
    except RefusedError as refused:
        raise RenderError(refused.mistakes) from None
