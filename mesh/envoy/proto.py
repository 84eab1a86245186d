"""What every part of an Envoy configuration is written with. Law: proto JSON with proto field names, absent when unset.

A message is a dict of JSON; `message` leaves out what is None, so that a field that was not set is not there. Names of
clusters carry meaning for Istio's tools and for statistics, and are made here alone.
"""

from __future__ import annotations

from typing import Final

from mesh.istio.document import RefusedError
from mesh.istio.message import Message, Place
from mesh.istio.resource import Resource, path
from mesh.istio.values import Duration

Json = dict[str, object]
"""A protobuf message as JSON."""

_TYPES: Final = "type.googleapis.com/"
UINT32_MAX: Final = 2**32 - 1

HTTP_PROTOCOL_OPTIONS: Final = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
UPSTREAM_TLS_CONTEXT: Final = "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext"
DOWNSTREAM_TLS_CONTEXT: Final = "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext"
HTTP_CONNECTION_MANAGER: Final = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
ROUTER: Final = "envoy.extensions.filters.http.router.v3.Router"
RAW_BUFFER: Final = "envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer"

HTTP_CONNECTION_MANAGER_FILTER: Final = "envoy.filters.network.http_connection_manager"
ROUTER_FILTER: Final = "envoy.filters.http.router"
TLS_TRANSPORT_SOCKET: Final = "envoy.transport_sockets.tls"
RAW_BUFFER_TRANSPORT_SOCKET: Final = "envoy.transport_sockets.raw_buffer"

WORKLOAD_CERTIFICATE: Final = "default"
"""The secret that holds the workload's own certificate and key."""
ROOT_CERTIFICATES: Final = "ROOTCA"
"""The secret that holds the roots by which peers are verified."""


def message(**fields: object) -> Json:
    """A message of the fields that are not None."""
    return {name: value for name, value in fields.items() if value is not None}


def typed(type_name: str, **fields: object) -> Json:
    """A message inside google.protobuf.Any, by its full name (`envoy.extensions...`)."""
    return {"@type": _TYPES + type_name, **message(**fields)}


def named(name: str, type_name: str, **fields: object) -> Json:
    """An extension: a filter or a transport socket with its typed config."""
    return {"name": name, "typed_config": typed(type_name, **fields)}


def duration(value: Duration | None) -> str | None:
    """`0.250s`; None stays None."""
    return None if value is None else value.json


def percent(value: float) -> Json:
    """envoy.type.v3.Percent, 0..100. Zero is proto's default and stays an empty message."""
    return {"value": value} if value else {}


def outbound(port: int, host: str, subset: str = "") -> str:
    """The cluster of a service's copies: `outbound|8001|v1|digits.models.svc.cluster.local`."""
    return f"outbound|{port}|{subset}|{host}"


def inbound(port: int) -> str:
    """The cluster of the workload's own port: `inbound|8001||`."""
    return f"inbound|{port}||"


def sni(port: int, host: str, subset: str = "") -> str:
    """The server name that a sidecar asks for: `outbound_.8001_.v1_.digits.models.svc.cluster.local`."""
    return f"outbound_.{port}_.{subset}_.{host}"


def secret(name: str) -> Json:
    """envoy...SdsSecretConfig: a secret that Istio's agent serves on its own socket, the cluster `sds-grpc`."""
    agent: Json = {
        "api_type": "GRPC",
        "transport_api_version": "V3",
        "set_node_on_first_message_only": True,
        "grpc_services": [{"envoy_grpc": {"cluster_name": "sds-grpc"}}],
    }
    config: Json = {"api_config_source": agent, "initial_fetch_timeout": "0s", "resource_api_version": "V3"}
    return {"name": name, "sds_config": config}


def service_metadata(*services: tuple[str, str], **more: object) -> Json:
    """Metadata that says which services, each (host, namespace), something is for, and `more` of Istio's keys."""
    rows = [{"host": host, "name": host, "namespace": namespace} for host, namespace in services]
    return {"filter_metadata": {"istio": message(services=rows, **more)}}


def refusal(resource: Resource[Message], place: Place, what: str) -> RefusedError:
    """The error for a part of a resource that was read well but cannot be compiled."""
    return RefusedError([f"{resource.position}: {resource.title}: {path(('spec', *place))}: {what}"])


def metadata_exchange() -> Json:
    """The network filter by which two sidecars tell each other who they are."""
    return named(
        "istio.metadata_exchange",
        "udpa.type.v1.TypedStruct",
        type_url=_TYPES + "envoy.tcp.metadataexchange.config.MetadataExchange",
        value={"protocol": "istio-peer-exchange", "enable_discovery": True},
    )
