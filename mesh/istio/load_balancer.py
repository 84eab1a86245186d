"""How a copy is chosen. Law: one way, or none given and Istio's own (least requests) holds."""

from __future__ import annotations

from collections.abc import Iterator
from math import isqrt
from typing import Annotated

from pydantic import AfterValidator

from mesh.istio.message import Message, Mistake, ProtoEnum, Unimplemented, without
from mesh.istio.values import Bool, Double, Duration, PositiveDuration, Text, UInt64


class SimpleLB(ProtoEnum):
    """Ways that need no key. LEAST_CONN is an older name of LEAST_REQUEST."""

    UNSPECIFIED = "UNSPECIFIED"
    LEAST_CONN = "LEAST_CONN"
    RANDOM = "RANDOM"
    PASSTHROUGH = "PASSTHROUGH"
    ROUND_ROBIN = "ROUND_ROBIN"
    LEAST_REQUEST = "LEAST_REQUEST"


class CookieAttribute(Message):
    """An attribute of a cookie that Envoy makes."""

    name: Text
    value: str = ""


class HTTPCookie(Message):
    """A cookie to hash; with a `ttl`, Envoy makes it where it is missing."""

    name: Text
    path: str = ""
    ttl: Duration | None = None
    attributes: tuple[CookieAttribute, ...] = ()

    def mistakes(self) -> Iterator[Mistake]:
        """An attribute that is there twice."""
        names = [attribute.name for attribute in self.attributes]
        for index, name in enumerate(names):
            if name in names[:index]:
                yield ("attributes", index, "name"), f"{name} is there twice"


class RingHash(Message):
    """A hash ring, with at least so many points (0: Envoy's own 1024)."""

    minimum_ring_size: UInt64 = 0


def _prime_below_envoys_bound(size: int) -> int:
    # Envoy's own test of primes: 1 passes, and 0 does not.
    prime = size in (1, 2, 3) or (size % 2 == 1 and all(size % factor for factor in range(3, isqrt(size) + 1, 2)))
    if size >= 5000011 or not prime:
        raise ValueError(f"{size} is no prime number below 5000011")
    return size


class MagLev(Message):
    """Maglev, with a table of so many places."""

    table_size: Annotated[UInt64, AfterValidator(_prime_below_envoys_bound)]


class ConsistentHashLB(Message):
    """The same copy for the same key. Without an algorithm: a ring of at least `minimum_ring_size` points."""

    oneofs = (
        ("http_header_name", "http_cookie", "use_source_ip", "http_query_parameter_name"),
        ("ring_hash", "maglev"),
    )

    http_header_name: str | None = None
    http_cookie: HTTPCookie | None = None
    use_source_ip: Bool | None = None
    http_query_parameter_name: str | None = None
    ring_hash: RingHash | None = None
    maglev: MagLev | None = None
    minimum_ring_size: UInt64 = 0

    def mistakes(self) -> Iterator[Mistake]:
        """The size of a ring in two places."""
        if self.minimum_ring_size and (self.ring_hash or self.maglev):
            yield ("minimumRingSize",), "cannot stand beside ringHash or maglev"


class WarmupConfiguration(Message):
    """A new copy gets its share little by little. `minimum_percent` None means 10, `aggression` None means 1."""

    duration: PositiveDuration
    minimum_percent: Double | None = None
    aggression: Double | None = None

    def mistakes(self) -> Iterator[Mistake]:
        """A start above the whole, or no slope."""
        if self.minimum_percent is not None and not 0 <= self.minimum_percent <= 100:
            yield ("minimumPercent",), f"{self.minimum_percent:g} is not in 0..100"
        if self.aggression is not None and self.aggression <= 0:
            yield ("aggression",), "must be more than 0"


class LoadBalancerSettings(Message):
    """How a copy is chosen; `warmup` wins over the older `warmup_duration_secs`."""

    oneofs = (("simple", "consistent_hash"),)

    simple: Annotated[SimpleLB, without("PASSTHROUGH")] | None = None
    consistent_hash: ConsistentHashLB | None = None
    warmup_duration_secs: Duration | None = None
    warmup: WarmupConfiguration | None = None
    locality_lb_setting: Unimplemented = None
    zone_aware_lb_setting: Unimplemented = None
