"""The mesh's own settings. Law: what is not written has Istio's default."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field
from pydantic_core import PydanticCustomError

from mesh.istio.message import Message, Unimplemented
from mesh.istio.names import DnsLabel, Fqdn
from mesh.istio.values import Bool, Port


def _off(value: object) -> object:
    if value is True:
        raise PydanticCustomError("not_implemented", "not implemented: true")
    return value


class OpenTelemetry(Message):
    """Where spans go, by OTLP/gRPC: `service` is HOST or NAMESPACE/HOST of a registered service.

    `max_tag_length`: bytes of a path.
    """

    service: Annotated[str, Field(pattern=r"^[^/]+(/[^/]+)?$")]
    port: Port
    max_tag_length: Annotated[int, Field(ge=0)] = 0
    http: Unimplemented = None
    grpc: Unimplemented = None
    resource_detectors: Unimplemented = None
    dynatrace_sampler: Unimplemented = None
    service_attribute_enrichment: Unimplemented = None


class ExtensionProvider(Message):
    """A provider that resources may name. Of those that Istio knows, OpenTelemetry is implemented."""

    name: Annotated[str, Field(min_length=1)]
    opentelemetry: OpenTelemetry
    datadog: Unimplemented = None
    envoy_ext_authz_grpc: Unimplemented = None
    envoy_ext_authz_http: Unimplemented = None
    envoy_file_access_log: Unimplemented = None
    envoy_http_als: Unimplemented = None
    envoy_otel_als: Unimplemented = None
    envoy_tcp_als: Unimplemented = None
    lightstep: Unimplemented = None
    opencensus: Unimplemented = None
    prometheus: Unimplemented = None
    sds: Unimplemented = None
    skywalking: Unimplemented = None
    stackdriver: Unimplemented = None
    zipkin: Unimplemented = None


class DefaultProviders(Message):
    """Which providers hold where a Telemetry names none."""

    tracing: tuple[str, ...] = ()
    access_logging: Unimplemented = None
    metrics: Unimplemented = None


class MeshConfig(Message):
    """The part of Istio's MeshConfig that is implemented. Policies in `root_namespace` hold for the whole mesh."""

    root_namespace: DnsLabel = "istio-system"
    trust_domain: Fqdn = "cluster.local"
    enable_auto_mtls: Bool = True
    enable_tracing: Annotated[Literal[False], BeforeValidator(_off)] = False
    extension_providers: tuple[ExtensionProvider, ...] = ()
    default_providers: DefaultProviders = DefaultProviders()

    def provider(self, name: str) -> OpenTelemetry | None:
        """The tracing provider of that name, however it is spelled."""
        found = (one.opentelemetry for one in self.extension_providers if one.name.lower() == name.lower())
        return next(found, None)
