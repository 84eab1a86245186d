"""The hop of calls that are traced. Law: who is not sampled does not come this way, so tracing costs only the sampled.

The lane sends a sampled call, or one of a sampled trace, through a listener of its own, which gives it the spans that
the Python lane would. A worker's words go by under a key of ours: Envoy writes `grpc-message` into spans, whatever
secrets are in it. Source: https://opentelemetry.io/docs/specs/semconv/rpc/grpc/
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import grpc

from mesh.envoy.proto import HTTP_CONNECTION_MANAGER, ROUTER, ROUTER_FILTER, Json, named, typed
from mesh.express.clusters import pipe
from mesh.express.commands import first_of, literal
from protos.tracing import TRACED_KEY

_OTEL: Final = "envoy.config.trace.v3.OpenTelemetryConfig"
COLLECTOR: Final = "collector"
"""The cluster that spans are sent to."""
TRACED: Final = "traced"
"""The cluster of the hop itself."""
TO_KEY: Final = "x-headrace-to"
TRACE_KEY: Final = "x-headrace-trace"
"""Of an answer, for the access log: the trace that the call is part of."""
MESSAGE_KEY: Final = "x-headrace-message"
"""Of an answer, for the script (`answers.lua`): the worker's `grpc-message`."""

_MUTATION: Final = "envoy.extensions.filters.http.header_mutation.v3.HeaderMutation"
_CODEC: Final = "envoy.extensions.filters.http.upstream_codec.v3.UpstreamCodec"


@dataclass(frozen=True)
class Tracing:
    """How spans look and where they go.

    `collector`: HOST:PORT of OTLP/gRPC; `operation`: the spans' name; `fixed`: attributes -> values; `of_metadata`:
    attributes -> keys of the worker's metadata; `status`: the attribute of the gRPC status.
    """

    collector: str
    service: str
    operation: str
    fixed: Mapping[str, str]
    of_metadata: Mapping[str, str]
    status: str


def listener(tracing: Tracing, socket: Path, *, tells: bool) -> Json:
    """Where sampled calls come by; they say in TO_KEY where they go on to, and with `tells` hear their trace."""
    trace = {"header": {"key": TRACE_KEY, "value": "%TRACE_ID%"}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
    service = {"envoy_grpc": {"cluster_name": COLLECTOR}, "timeout": "5s"}
    provider = named("envoy.tracers.opentelemetry", _OTEL, grpc_service=service, service_name=tracing.service)
    route: Json = {
        "match": {"prefix": "/"},
        "decorator": {"operation": tracing.operation, "propagate": False},
        "request_headers_to_add": [{"header": {"key": TRACED_KEY, "value": "%TRACE_ID%"}}],
        "request_headers_to_remove": [TO_KEY, "x-forwarded-proto", "x-forwarded-for"],
        "route": {"cluster_header": TO_KEY, "timeout": "0s", "idle_timeout": "0s"},
        **({"response_headers_to_add": [trace]} if tells else {}),
    }
    manager = typed(
        HTTP_CONNECTION_MANAGER,
        stat_prefix="traced",
        codec_type="HTTP2",
        skip_xff_append=True,
        generate_request_id=False,
        stream_idle_timeout="0s",
        server_header_transformation="PASS_THROUGH",
        tracing={
            "provider": provider,
            "random_sampling": {"value": 100},
            "spawn_upstream_span": True,
            "custom_tags": _tags(tracing),
        },
        route_config={"name": "traced", "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
        http_filters=[named(ROUTER_FILTER, ROUTER, suppress_envoy_headers=True, upstream_http_filters=_upstream())],
    )
    return {
        "name": "traced",
        "address": pipe(socket),
        "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
    }


def _upstream() -> list[Json]:
    """Between the worker and both spans, of which the call's own and the hop's each say `grpc-message`."""
    mutations = {
        "response_mutations": [*_moved("RESP"), _named("headers")],
        "response_trailers_mutations": [*_moved("TRAILER"), _named("trailers")],
    }
    return [
        named("envoy.filters.http.header_mutation", _MUTATION, mutations=mutations),
        named("envoy.filters.http.upstream_codec", _CODEC),
    ]


def _moved(where: str) -> list[Json]:
    """A worker's own header of that name goes first: where there is no message, nothing is set."""
    header = {"key": MESSAGE_KEY, "value": f"%{where}(GRPC-MESSAGE)%"}
    return [{"remove": MESSAGE_KEY}, {"append": {"header": header}}, {"remove": "grpc-message"}]


def _named(where: str) -> Json:
    """A status that a worker has made up becomes UNKNOWN, as gRPC's clients read it; CEL gives nothing for others."""
    known = f"response.{where}['grpc-status'] in {literal([str(code.value[0]) for code in grpc.StatusCode])}"
    header = {"key": "grpc-status", "value": f"%CEL({{false: '2'}}[{known}])%"}
    return {"append": {"header": header, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}}


def _tags(tracing: Tracing) -> list[Json]:
    fixed: list[Json] = [{"tag": name, "literal": {"value": value}} for name, value in tracing.fixed.items()]
    found: list[Json] = [{"tag": name, "request_header": {"name": key}} for name, key in tracing.of_metadata.items()]
    return [*fixed, *found, {"tag": tracing.status, "value": _status()}]


def _status() -> str:
    """The status by gRPC's name; none for the call to the worker, of whose end Envoy's own word would be UNKNOWN."""
    names = {str(code.value[0]): code.name for code in grpc.StatusCode}
    return first_of(
        *(("CEL", f"{literal(names)}[response.{where}['grpc-status']]") for where in ("trailers", "headers"))
    )
