"""Listener filters that look into a connection to choose its chain. Law: they are on only where a chain needs them.

Source: Istio's pilot/pkg/networking/core/listener_inbound.go (populateListenerFilters).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final

from mesh.envoy.filter_chains import PLAIN_HTTP, TLS, Match
from mesh.envoy.proto import Json, named

_FILTERS: Final = "envoy.extensions.filters.listener"
ANY_PORT: Final = 0

ORIGINAL_DESTINATION: Final = named("envoy.filters.listener.original_dst", f"{_FILTERS}.original_dst.v3.OriginalDst")
HTTP_INSPECTOR: Final = named("envoy.filters.listener.http_inspector", f"{_FILTERS}.http_inspector.v3.HttpInspector")
TLS_INSPECTOR: Final = named(
    "envoy.filters.listener.tls_inspector", f"{_FILTERS}.tls_inspector.v3.TlsInspector", initial_read_buffer_size=512
)


def inspectors(chains: Mapping[int, Sequence[Match]]) -> list[Json]:
    """TLS's before HTTP's, each switched off on the ports whose chains do not need it. `chains`: by port, 0 any."""
    tls = {port for port, matches in chains.items() if any(match.transport == TLS for match in matches)}
    http = {port for port, matches in chains.items() if any(_plain_http(match) for match in matches)}
    found: list[Json] = []
    if tls:
        found.append(TLS_INSPECTOR | _disabled(_off_for_tls(chains, tls)))
    if http:
        found.append(HTTP_INSPECTOR | _disabled(_ports(chains.keys() - http)))
    return found


def _plain_http(match: Match) -> bool:
    return any(application in PLAIN_HTTP for application in match.applications)


def _off_for_tls(chains: Iterable[int], needed: Collection[int]) -> Json | None:
    """Off on the ports that are known not to need it; where any other port does not, either, on for the needy alone."""
    if ANY_PORT in needed:
        return _ports(set(chains) - set(needed))
    on = _ports(needed)
    return None if on is None else {"not_match": on}


def _ports(ports: Collection[int]) -> Json | None:
    ranges: list[Json] = [{"destination_port_range": {"start": port, "end": port + 1}} for port in sorted(ports)]
    if not ranges:
        return None
    return ranges[0] if len(ranges) == 1 else {"or_match": {"rules": ranges}}


def _disabled(where: Json | None) -> Json:
    return {} if where is None else {"filter_disabled": where}
