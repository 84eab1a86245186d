"""What the Envoy in front has counted, in the gateway's terms. Law: what is new since the last look is added up.

So numbers never fall, though an Envoy dies and another counts from nothing. Someone looks every few seconds, so little
is lost with one that dies.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from typing import Final

from gateway import metrics
from gateway.settings import Settings
from headrace.express_clusters import cluster_of
from mesh.envoy.admin import Admin, UnreachableError
from mesh.express.counted import GONE, MEASURED, Bin, Carried, Counts, Sent, Tags, Unseen, numbers, read
from protos.complaints import Complaints
from protos.contract import EXPRESS_LANE, PYTHON_LANE
from protos.metrics.instruments import Registry
from protos.metrics.shared import DURATION
from protos.metrics.snapshot import Labels, Snapshot

log = logging.getLogger("headrace.gateway.express")

EVERY: Final = 5.0  # seconds between looks
_WITHIN: Final = 1.0  # seconds that a look may take
_PUT_TOGETHER: Final = 0.02  # seconds in which an Envoy's threads have told what they have measured
_ALL_ACTIVE, _PYTHONS = "http.front.downstream_rq_active", "cluster.python.upstream_rq_active"
_COPIES: Final = ("membership_total", "membership_healthy")
_FILTER: Final = "|".join(
    (MEASURED, *(f"^{name}$" for name in (_ALL_ACTIVE, _PYTHONS)), *(rf"^cluster\..*\.{name}$" for name in _COPIES))
)
_SOME_READY: Final = "%s: %.0f of %.0f copies are ready"
_MICROSECONDS, _MILLISECONDS = 1e-6, 1e-3


class Counting:
    """Counts on; `settings` are those in force, `reasons` gRPC's name of each refusal's status -> its reason."""

    def __init__(
        self, admin: Admin, settings: Settings, counts: Counts, method: str, reasons: Mapping[str, str]
    ) -> None:
        self.settings = settings
        self._admin = admin
        self._method = method
        self._reasons = reasons
        self._methods = frozenset(counts.methods.values())
        self._before: dict[Tags, Sequence[Bin]] = {}
        self._numbers: Mapping[str, float] = {}
        self._ready: Mapping[Labels, float] = {}
        self._one_at_a_time = asyncio.Lock()
        self._complaints = Complaints(log, time.monotonic, 60.0)
        self._registry = registry = Registry(time.time)
        self._calls = registry.counter(metrics.CALLS)
        self._durations = registry.histogram(DURATION)
        self._within = registry.histogram(metrics.GATEWAY_DURATION)
        registry.asked(metrics.ACTIVE, self._active)
        registry.asked(metrics.COPIES, lambda: self._copies(_COPIES[0]))
        registry.asked(metrics.COPIES_READY, lambda: self._copies(_COPIES[1]))

    async def told(self) -> Snapshot:
        """All that was counted so far; of an Envoy that does not answer, what it had when it last did."""
        await self.look()
        return self._registry.snapshot()

    def replaced(self) -> None:
        """There is another Envoy, that has counted nothing yet."""
        self._before = {}

    async def look(self) -> None:
        """Add what is new."""
        try:
            async with asyncio.timeout(_WITHIN), self._one_at_a_time:
                before = self._before
                await self._admin.get("stats", filter="^$")  # has it put together what its threads have
                await asyncio.sleep(_PUT_TOGETHER)
                page = await self._admin.get("stats", format="json", histogram_buckets="detailed", filter=_FILTER)
                found, self._numbers = await asyncio.to_thread(_read, page)
                if before is self._before:  # or else it is what one has said before it died
                    self._take(found)
                    self._tell_of_copies()
        except RuntimeError:  # the door is closed, and there is no Envoy any more
            self._numbers = {}
        except (UnreachableError, TimeoutError, ValueError) as error:
            self._numbers = {}
            self._complaints.warn("unread", f"what the Envoy in front has counted cannot be read: {error!r}")

    def _tell_of_copies(self) -> None:
        """In the log, where another number of copies is ready than the last time."""
        every, ready = self._copies(_COPIES[0]), self._copies(_COPIES[1])
        for one, number in ready.items():
            before, total = self._ready.get(one, number), every.get(one, number)
            if number != before:
                name = " ".join(one)
                if number:
                    log.log(logging.WARNING if number < before else logging.INFO, _SOME_READY, name, number, total)
                else:
                    log.error("%s: no copy is ready", name)
        self._ready = ready

    def _take(self, found: Mapping[Tags, Sequence[Bin]]) -> None:
        for tags, bins in found.items():
            new = added_since(self._before.get(tags, ()), bins)
            if isinstance(tags, Sent):
                for one in new:
                    self._within.record(_middle(one, _MICROSECONDS), tags.model, EXPRESS_LANE, number=one.number)
            else:
                self._count(tags, new)
        self._before = dict(found)

    def _count(self, tags: Carried | Unseen, new: Sequence[Bin]) -> None:
        labels = self._of_carried(tags) if isinstance(tags, Carried) else self._of_unseen(tags)
        if labels is None or not new:
            return
        method, model, _, served, _, lane, status, _ = labels
        self._calls.add(sum(one.number for one in new), *labels)
        unit = _MILLISECONDS if tags.status == GONE else _MICROSECONDS
        for one in new:
            self._durations.record(_middle(one, unit), method, model, served, lane, status, number=one.number)

    def _of_carried(self, tags: Carried) -> Labels:
        status = "CANCELLED" if tags.status == GONE else tags.status
        served = self._served(tags) if status == "OK" else ""
        reason = self._reasons.get(status, "")
        return self._method, tags.model, tags.version, served, tags.grant, EXPRESS_LANE, status, reason

    def _of_unseen(self, tags: Unseen) -> Labels | None:
        status = "CANCELLED" if tags.status == GONE else tags.status
        return (tags.method, "", "", "", "", PYTHON_LANE, status, "") if tags.method in self._methods else None

    def _served(self, tags: Carried) -> str:
        """The version that answered: the one asked for, or that whose copies these are, where it is one."""
        if tags.version:
            return tags.version
        model = self.settings.catalog.get(tags.model)
        if model is None:
            return ""
        there = [one for one in model.versions if _cluster(self.settings, model.name, one) == tags.cluster]
        return there[0] if len(there) == 1 else ""

    def _active(self) -> Mapping[Labels, float]:
        if _ALL_ACTIVE not in self._numbers:
            return {}
        return {(EXPRESS_LANE,): max(0.0, self._numbers[_ALL_ACTIVE] - self._numbers.get(_PYTHONS, 0.0))}

    def _copies(self, which: str) -> Mapping[Labels, float]:
        if self.settings.upstream.mode != "direct":
            return {}
        found: dict[Labels, float] = {}
        for model, versions in self.settings.upstream.endpoints.items():
            for version in versions:
                cluster = _cluster(self.settings, model, version).replace(":", "_")
                number = self._numbers.get(f"cluster.{cluster}.{which}")
                if number is not None:
                    found[model, version] = number
        return found


def added_since(before: Sequence[Bin], now: Sequence[Bin]) -> Sequence[Bin]:
    """What has come since; all of it where it was counted from nothing meanwhile."""
    known, there = {one.low: one.number for one in before}, {one.low: one.number for one in now}
    if any(there.get(low, 0) < count for low, count in known.items()):
        return now
    new = (one._replace(number=one.number - known.get(one.low, 0)) for one in now)
    return [one for one in new if one.number]


def _read(page: str) -> tuple[Mapping[Tags, Sequence[Bin]], Mapping[str, float]]:
    return dict(read(page)), numbers(page)


def _middle(one: Bin, unit: float) -> float:
    return (one.low + one.width / 2) * unit


def _cluster(settings: Settings, model: str, version: str) -> str:
    """Where calls for the version go; empty where there is nowhere."""
    try:
        return cluster_of(settings, settings.catalog[model], version)
    except KeyError:
        return ""
