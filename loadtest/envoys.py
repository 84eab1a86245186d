"""Envoys that others would put where ours is. Law: each has what its kind needs, and nothing that only costs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Final

from google.protobuf.descriptor_pb2 import FileDescriptorSet

from loadtest.children import Child, find, free_address, program
from loadtest.payload import MODEL
from protos.contract import SERVICE
from protos.grpc_service_pb2 import DESCRIPTOR

Json = Mapping[str, Any]

_TYPES: Final = "type.googleapis.com/envoy.extensions"
_EXTRACTION: Final = "envoy.filters.http.grpc_field_extraction"
_MOST: Final = 2**32 - 1


@contextmanager
def envoy(cpus: set[int], upstream: str, filters: Sequence[Json], log: IO[str]) -> Iterator[Child]:
    """One Envoy with one worker, HTTP/2 in and out, with these filters before its router. Raises Broken."""
    address = free_address()
    bootstrap = json.dumps(_bootstrap(address, upstream, filters))
    quiet = ("--disable-hot-restart", "--concurrency", "1", "--log-level", "error")
    with program(cpus, address, find("envoy"), "--config-yaml", bootstrap, *quiet, log=log) as started:
        yield started


def extraction(folder: Path) -> Sequence[Json]:
    """The filters that let pass who asks for our model: its name is read out of each message by the descriptors."""
    files = FileDescriptorSet()
    for file in (*DESCRIPTOR.dependencies, DESCRIPTOR):
        file.CopyToProto(files.file.add())
    descriptors = folder / "descriptors"
    descriptors.write_bytes(files.SerializeToString())
    fields: Json = {f"{SERVICE}.ModelInfer": {"request_field_extractions": {"model_name": {}}}}
    named: Json = {"list_match": {"one_of": {"string_match": {"exact": MODEL}}}}
    asked = {"filter": _EXTRACTION, "path": [{"key": "model_name"}], "value": named}
    policy = {"permissions": [{"sourced_metadata": {"metadata_matcher": asked}}], "principals": [{"any": True}]}
    return [
        _typed(
            "filters.http.grpc_field_extraction.v3.GrpcFieldExtractionConfig",
            descriptor_set={"filename": str(descriptors)},
            extractions_by_method=fields,
        ),
        _typed("filters.http.rbac.v3.RBAC", rules={"policies": {"callers": policy}}),
    ]


def _typed(name: str, **fields: object) -> Json:
    return {"name": name, "typed_config": {"@type": f"{_TYPES}.{name}", **fields}}


def _bootstrap(address: str, upstream: str, filters: Sequence[Json]) -> Json:
    route = {"match": {"prefix": "/"}, "route": {"cluster": "upstream", "timeout": "0s"}}
    http = _typed(
        "filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix="bench",
        codec_type="HTTP2",
        generate_request_id=False,
        http2_protocol_options={"max_concurrent_streams": 1000},
        route_config={"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
        http_filters=[*filters, _typed("filters.http.router.v3.Router", suppress_envoy_headers=True)],
    )
    listener = {"address": _at(address), "filter_chains": [{"filters": [http]}]}
    return {"static_resources": {"listeners": [listener], "clusters": [_cluster(upstream)]}}


def _cluster(upstream: str) -> Json:
    """Without bounds on how much it bears."""
    protocol = _typed("upstreams.http.v3.HttpProtocolOptions", explicit_http_config={"http2_protocol_options": {}})
    unbounded = {"max_connections": _MOST, "max_pending_requests": _MOST, "max_requests": _MOST}
    endpoint = {"endpoint": {"address": _at(upstream)}}
    return {
        "name": "upstream",
        "type": "STATIC",
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": protocol["typed_config"]
        },
        "circuit_breakers": {"thresholds": [unbounded]},
        "load_assignment": {"cluster_name": "upstream", "endpoints": [{"lb_endpoints": [endpoint]}]},
    }


def _at(address: str) -> Json:
    host, _, port = address.rpartition(":")
    return {"socket_address": {"address": host, "port_value": int(port)}}
