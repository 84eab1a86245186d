"""An Envoy, looked at. Law: what is asked for is what is shown, no more: an Envoy may know thousands of clusters."""

from __future__ import annotations

import json
import time

from mesh.envoy.admin import Admin, UnreachableError
from mesh.envoy.proto import Json
from mesh.envoy.reading import part, parts
from mesh.status.counts import BREAKERS
from mesh.status.rows import Look, look

_SHOWN = (
    r"^cluster\.outbound.*;\.("
    rf"grpc\.\d+|circuit_breakers\.default\.({'|'.join(BREAKERS)})|upstream_rq_(pending|active)_overflow|upstream_rq_time)$"
)


async def looked_at(admin: Admin) -> Look:
    """What the Envoy tells now. Raises UnreachableError."""
    dump = await _page(admin, "config_dump", resource="dynamic_route_configs")
    statistics = await _page(admin, "stats", format="json", histogram_buckets="detailed", filter=_SHOWN)
    clusters = await _page(admin, "clusters", format="json")
    tables = [part(one, "route_config") for one in parts(dump, "configs")]
    try:
        return look(time.monotonic(), tables, statistics, clusters)
    except ValueError:
        raise UnreachableError(f"what {admin.address} tells is not what an Envoy answers") from None


async def _page(admin: Admin, path: str, **query: str) -> Json:
    try:
        page = json.loads(await admin.get(path, **query))
    except (ValueError, RecursionError):
        page = None
    if not isinstance(page, dict):
        raise UnreachableError(f"{admin.address}/{path} is not what an Envoy answers")
    return page
