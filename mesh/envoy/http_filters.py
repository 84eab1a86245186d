"""HTTP connection managers and their filters. Law: tokens are verified before calls are authorized; the router is last.

Istio's Envoy has filters of its own (peer metadata, ALPN of the mesh); a plain Envoy has not. What is written here is
what Istio writes with PILOT_ENABLE_METADATA_EXCHANGE=false, PILOT_DISABLE_MX_ALPN=true, PILOT_ENABLE_ALPN_FILTER=false.
Source: Istio's pilot/pkg/networking/core/listener_builder.go (buildHTTPConnectionManager).
"""

from __future__ import annotations

from typing import Final

from mesh.envoy import jwt, rbac
from mesh.envoy.proto import HTTP_CONNECTION_MANAGER, HTTP_CONNECTION_MANAGER_FILTER, Json, named, typed
from mesh.envoy.tracing import tracing
from mesh.istio.proxies import Proxy
from mesh.istio.service_entry import ServicePort
from mesh.istio.telemetry import WorkloadMode
from mesh.istio.world import World

_HTTP: Final = "envoy.extensions.filters.http"


def inbound(world: World, workload: Proxy, port: ServicePort | None, route_config: Json, stat_prefix: str) -> Json:
    """The network filter for calls to a workload; its callers' certificates are told on in x-forwarded-client-cert.

    `port` is that of the service, None where no service names the port.
    """
    before = [*jwt.http_filters(world, workload), *rbac.http_filters(world, workload)]
    http2: Json = {"http2_protocol_options": {}} if port is not None and port.http2 else {}
    return _manager(
        before + _filters(grpc_web=speaks_grpc_web(port)),
        stat_prefix=stat_prefix,
        route_config=route_config,
        forward_client_cert_details="APPEND_FORWARD",
        set_current_client_cert_details={"dns": True, "subject": True, "uri": True},
        server_name="istio-envoy",
        **http2,
        **_traced(world, workload, WorkloadMode.SERVER),
    )


def outbound(world: World, caller: Proxy, route_config_name: str, stat_prefix: str, *, grpc_web: bool) -> Json:
    """The network filter for calls of a workload, by the routes of that name."""
    source: Json = {"ads": {}, "initial_fetch_timeout": "0s", "resource_api_version": "V3"}
    rds: Json = {"config_source": source, "route_config_name": route_config_name}
    traced = _traced(world, caller, WorkloadMode.CLIENT)
    return _manager(_filters(grpc_web=grpc_web), stat_prefix=stat_prefix, rds=rds, **traced)


def _traced(world: World, proxy: Proxy, mode: WorkloadMode) -> Json:
    found = tracing(world, proxy, mode)
    return {} if found is None else {"tracing": found}


def speaks_grpc_web(port: ServicePort | None) -> bool:
    """Whether callers of the port may come from browsers."""
    return port is not None and port.protocol.lower() == "grpc-web"


def _manager(http_filters: list[Json], **fields: object) -> Json:
    request_id = typed(
        "envoy.extensions.request_id.uuid.v3.UuidRequestIdConfig", use_request_id_for_trace_sampling=True
    )
    return named(
        HTTP_CONNECTION_MANAGER_FILTER,
        HTTP_CONNECTION_MANAGER,
        http_filters=http_filters,
        normalize_path=True,
        path_with_escaped_slashes_action="KEEP_UNCHANGED",
        proxy_100_continue=True,
        request_id_extension={"typed_config": request_id},
        stream_idle_timeout="0s",
        upgrade_configs=[{"upgrade_type": "websocket"}],
        use_remote_address=False,
        **fields,
    )


def _filters(*, grpc_web: bool) -> list[Json]:
    """What every manager ends with; faults and CORS are what routes say of them."""
    return [
        *([_filter("grpc_web", "GrpcWeb")] if grpc_web else []),
        _filter("grpc_stats", "FilterConfig", emit_filter_state=True, stats_for_all_methods=False),
        _filter("fault", "HTTPFault"),
        _filter("cors", "Cors"),
        _filter("router", "Router"),
    ]


def _filter(name: str, message_name: str, **fields: object) -> Json:
    return named(f"envoy.filters.http.{name}", f"{_HTTP}.{name}.v3.{message_name}", **fields)
