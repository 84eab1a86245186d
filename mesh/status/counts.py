"""What an Envoy has counted. Law: pure functions on frozen values; what is told is the difference of two looks.

Calls and their statuses are those that callers got (Envoy's grpc_stats filter): retries and mirrored calls are not
among them. Latencies are those of single tries, in milliseconds.
Source: https://www.envoyproxy.io/docs/envoy/latest/configuration/upstream/cluster_manager/cluster_stats.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from mesh.envoy.proto import Json
from mesh.envoy.reading import number, part, parts, text

Bins = Mapping[tuple[float, float], int]
"""(lower bound, width) in milliseconds -> how many."""

BREAKERS = ("cx_open", "rq_open", "rq_pending_open", "rq_retry_open")


@dataclass(frozen=True)
class Counts:
    """What was counted of one cluster: calls by gRPC status, latencies, calls refused by breakers, open breakers."""

    statuses: Mapping[int, int] = field(default_factory=dict)
    latencies: Bins = field(default_factory=dict)
    overflow: int = 0
    open: tuple[str, ...] = ()

    @property
    def calls(self) -> int:
        """Answers that callers got."""
        return sum(self.statuses.values())


@dataclass(frozen=True)
class Copies:
    """The copies behind a cluster: how many there are, and how many of them are ejected."""

    there: int = 0
    ejected: int = 0


def counts(statistics: Json) -> Mapping[str, Counts]:
    """By name of the cluster in statistics, of Envoy's `/stats?format=json&histogram_buckets=detailed`."""
    statuses: dict[str, Counter[int]] = {}
    overflow: Counter[str] = Counter()
    breakers: dict[str, list[str]] = {}
    bins: dict[str, Bins] = {}
    for one in parts(statistics, "stats"):
        cluster, _, rest = text(one, "name").removeprefix("cluster.").rpartition(";.")
        value = int(number(one, "value"))
        if rest.startswith("grpc.") and rest[5:].isdigit():
            statuses.setdefault(cluster, Counter())[int(rest[5:])] += value
        elif rest in ("upstream_rq_pending_overflow", "upstream_rq_active_overflow"):
            overflow[cluster] += value
        elif rest.startswith("circuit_breakers.default.") and value:
            breakers.setdefault(cluster, []).append(rest.rpartition(".")[2])
        for histogram in parts(part(one, "histograms"), "details"):
            cluster, _, rest = text(histogram, "name").removeprefix("cluster.").rpartition(";.")
            if rest == "upstream_rq_time":
                bins[cluster] = _bins(parts(histogram, "totals"))
    names = statuses.keys() | overflow.keys() | breakers.keys() | bins.keys()
    return {
        name: Counts(statuses.get(name, {}), bins.get(name, {}), overflow[name], tuple(breakers.get(name, ())))
        for name in names
    }


def copies(clusters: Json) -> Mapping[str, Copies]:
    """By cluster, of Envoy's `/clusters?format=json`."""
    found = {}
    for cluster in parts(clusters, "cluster_statuses"):
        hosts = parts(cluster, "host_statuses")
        ejected = sum(bool(part(host, "health_status").get("failed_outlier_check")) for host in hosts)
        found[text(cluster, "name")] = Copies(len(hosts), ejected)
    return found


def since(before: Counts, after: Counts) -> Counts:
    """What was counted between two looks. An Envoy that was started anew between them has counted from nothing."""
    if after.calls < before.calls:
        return after
    statuses = {status: count - before.statuses.get(status, 0) for status, count in after.statuses.items()}
    latencies = {bound: count - before.latencies.get(bound, 0) for bound, count in after.latencies.items()}
    overflow = max(after.overflow - before.overflow, 0)
    return Counts(_some(statuses), _some(latencies), overflow, after.open)


def quantile(bins: Bins, share: float) -> float | None:
    """The milliseconds that this share of the calls stayed under, as if evenly spread in a bin; None: no calls."""
    left = share * sum(bins.values())
    for (lower, width), count in sorted(bins.items()):
        if left <= count:
            return lower + width * (left / count)
        left -= count
    return None


Key = TypeVar("Key")


def _some(counted: Mapping[Key, int]) -> Mapping[Key, int]:
    return {key: count for key, count in counted.items() if count > 0}


def _bins(totals: Sequence[Json]) -> Bins:
    return {(number(one, "lower_bound"), number(one, "width")): int(number(one, "count")) for one in totals}
