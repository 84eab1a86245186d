"""What an Envoy is started with. Law: everything that can change is a file it watches; this never changes."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from mesh.envoy.proto import Json
from mesh.local.addresses import ADMIN_PORT
from mesh.local.files import CLUSTERS, LISTENERS, source
from mesh.local.workloads import Workload

# What changes nothing: every user of the machine, and every web page in a browser there, can ask.
_PAGES: Final = (
    r"/(|certs|clusters|config_dump|help|hot_restart_version|listeners|memory|ready|server_info|stats(/prometheus)?)"
    r"(\?.*)?"
)
# As Istio's sidecars have them (tools/packaging/common/envoy_bootstrap.json), so that Prometheus finds the same names.
_TAGS: Final[Json] = {
    "cluster_name": r"^cluster(\.(.+);)",
    "http_conn_manager_prefix": r"^http\.(((?:[_.[:digit:]\w]*|[_\[\]aAbBcCdDeEfF[:digit:]\w\:]*));\.)",
    "response_code": r"_rq(_(\d{3}))$",
    "response_code_class": r"_rq(_(\dxx))$",
}

# As the gateway's own spans leave; by itself Envoy sends five together, each with a call of its own.
_RUNTIME: Final[Json] = {"tracing.opentelemetry.flush_interval_ms": 500, "tracing.opentelemetry.min_flush_spans": 512}


def bootstrap(workload: Workload, folder: Path, roots: Json) -> Json:
    """envoy.config.bootstrap.v3.Bootstrap of a workload's sidecar: its files are in the folder, `roots` is a Secret."""
    proxy = workload.proxy
    address: Json = {"address": proxy.ip, "port_value": ADMIN_PORT}
    return {
        "node": {
            "id": f"sidecar~{proxy.ip}~{workload.name}~{proxy.namespace}.svc.cluster.local",
            "cluster": workload.name,
        },
        "admin": {"address": {"socket_address": address}, "allow_paths": [{"safe_regex": {"regex": _PAGES}}]},
        "dynamic_resources": {
            "cds_config": source(folder / CLUSTERS),
            "lds_config": source(folder / LISTENERS),
        },
        "static_resources": {"secrets": [roots]},
        "stats_config": {
            "use_all_default_tags": False,
            "stats_tags": [{"tag_name": name, "regex": regex} for name, regex in _TAGS.items()],
        },
        "stats_flush_interval": "1s",  # latencies are up to date within it
        "layered_runtime": {"layers": [{"name": "fixed", "static_layer": _RUNTIME}]},
    }
