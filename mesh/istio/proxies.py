"""Proxies: the workloads that get a sidecar. Law: a proxy's identity is its namespace and service account."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from mesh.istio.message import Message
from mesh.istio.names import DnsLabel, Subdomain
from mesh.istio.values import Labels


def _ip(value: str) -> str:
    return str(ip_address(value))


class Proxy(Message):
    """One sidecar, as `proxies.yaml` describes it."""

    name: Subdomain
    namespace: DnsLabel
    service_account: Subdomain = "default"
    ip: Annotated[str, AfterValidator(_ip)]
    labels: Labels = Field(default_factory=dict)
    type: Literal["sidecar"] = "sidecar"

    def spiffe_id(self, trust_domain: str) -> str:
        """The workload's identity in its certificate."""
        return f"spiffe://{trust_domain}/ns/{self.namespace}/sa/{self.service_account}"
