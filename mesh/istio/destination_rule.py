"""DestinationRule: how a service's copies are reached. Law: a policy that would change nothing is a mistake."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from pydantic import Field

from mesh.istio.connection_pool import ConnectionPoolSettings
from mesh.istio.load_balancer import LoadBalancerSettings
from mesh.istio.message import Message, Mistake, Place, ProtoEnum, Unimplemented, without
from mesh.istio.names import DnsLabel, Host
from mesh.istio.selector import Exported, PortSelector, WorkloadSelector
from mesh.istio.values import Bool, Double, Duration, Labels, PercentInt, PositiveDuration, UInt32


class OutlierDetection(Message):
    """When a copy is ejected, for how long, and how many at most. 0 errors turns that kind off; None is Istio's own."""

    consecutive_errors: Unimplemented = None
    split_external_local_origin_errors: Bool = False
    consecutive_local_origin_failures: UInt32 | None = None
    consecutive_gateway_errors: UInt32 | None = None
    consecutive_5xx_errors: UInt32 | None = None
    interval: PositiveDuration | None = None
    base_ejection_time: PositiveDuration | None = None
    max_ejection_percent: PercentInt = 0
    min_health_percent: PercentInt = 0
    outlier_detection_http_error_codes: Unimplemented = None

    def mistakes(self) -> Iterator[Mistake]:
        """Local failures counted that are not told apart."""
        if self.consecutive_local_origin_failures and not self.split_external_local_origin_errors:
            yield ("consecutiveLocalOriginFailures",), "needs splitExternalLocalOriginErrors: true"


class TLSMode(ProtoEnum):
    """How a connection to a copy is secured."""

    DISABLE = "DISABLE"
    SIMPLE = "SIMPLE"
    MUTUAL = "MUTUAL"
    ISTIO_MUTUAL = "ISTIO_MUTUAL"


class ClientTLSSettings(Message):
    """TLS towards the copies. Implemented are DISABLE and ISTIO_MUTUAL, whose certificates the mesh holds."""

    mode: Annotated[TLSMode, without("SIMPLE", "MUTUAL")] = TLSMode.DISABLE
    subject_alt_names: tuple[str, ...] = ()
    sni: str = ""
    client_certificate: Unimplemented = None
    private_key: Unimplemented = None
    ca_certificates: Unimplemented = None
    credential_name: Unimplemented = None
    insecure_skip_verify: Unimplemented = None
    ca_crl: Unimplemented = None


class RetryBudget(Message):
    """How many retries may run at once: a share of the calls that run, and never fewer than `min_retry_concurrency`."""

    percent: Double | None = None
    min_retry_concurrency: UInt32 = 0
    budget_interval: Duration | None = None


class PortTrafficPolicy(Message):
    """What holds for one port instead of the policy around it."""

    port: PortSelector
    load_balancer: LoadBalancerSettings | None = None
    connection_pool: ConnectionPoolSettings | None = None
    outlier_detection: OutlierDetection | None = None
    tls: ClientTLSSettings | None = None

    def mistakes(self) -> Iterator[Mistake]:
        """A policy without one."""
        if not (self.load_balancer or self.connection_pool or self.outlier_detection or self.tls):
            yield (), "sets nothing"


class TrafficPolicy(Message):
    """How copies are chosen, connected to, ejected and retried."""

    load_balancer: LoadBalancerSettings | None = None
    connection_pool: ConnectionPoolSettings | None = None
    outlier_detection: OutlierDetection | None = None
    tls: ClientTLSSettings | None = None
    port_level_settings: tuple[PortTrafficPolicy, ...] = ()
    retry_budget: RetryBudget | None = None
    tunnel: Unimplemented = None
    proxy_protocol: Unimplemented = None

    def mistakes(self) -> Iterator[Mistake]:
        """A policy without one."""
        parts = (self.load_balancer, self.connection_pool, self.outlier_detection, self.tls, self.retry_budget)
        if not any(parts) and not self.port_level_settings:
            yield (), "sets nothing"


class Subset(Message):
    """The copies with certain labels, and the policy that holds for them on top of the rule's."""

    name: DnsLabel
    labels: Labels = Field(default_factory=dict)
    traffic_policy: TrafficPolicy | None = None


class DestinationRule(Exported):
    """`networking.istio.io` DestinationRule. `host` is as written: see `names.qualified`."""

    host: Host
    traffic_policy: TrafficPolicy | None = None
    subsets: tuple[Subset, ...] = ()
    workload_selector: WorkloadSelector | None = None

    def policies(self) -> Iterator[tuple[Place, TrafficPolicy | PortTrafficPolicy]]:
        """Every policy that is written, and where: the rule's, its subsets', and those for single ports of these."""
        written: list[tuple[Place, TrafficPolicy | None]] = [(("trafficPolicy",), self.traffic_policy)]
        written += [(("subsets", at, "trafficPolicy"), one.traffic_policy) for at, one in enumerate(self.subsets)]
        for place, policy in written:
            if policy is not None:
                yield place, policy
                yield from (
                    ((*place, "portLevelSettings", at), one) for at, one in enumerate(policy.port_level_settings)
                )

    def mistakes(self) -> Iterator[Mistake]:
        """Two subsets of one name."""
        names = [subset.name for subset in self.subsets]
        for index, name in enumerate(names):
            if name in names[:index]:
                yield ("subsets", index, "name"), f"{name} is there twice"

    def mistakes_in(self, namespace: str) -> Iterator[Mistake]:
        """As for any kind; and a rule for some workloads that others shall see."""
        yield from super().mistakes_in(namespace)
        if self.workload_selector and {namespace if entry == "." else entry for entry in self.export_to} - {namespace}:
            yield ("exportTo",), "a rule with a workloadSelector stays in its namespace"
