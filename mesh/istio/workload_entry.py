"""WorkloadEntry: one copy of a service that is no pod. Law: an entry names one address."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import AfterValidator, Field

from mesh.istio.message import Message, Unimplemented
from mesh.istio.names import DnsLabel, SubdomainOrNone, check_fqdn, is_ip
from mesh.istio.values import Labels, Port, UInt32


def _address(value: str) -> str:
    if value.startswith("unix://"):
        raise ValueError(f"not implemented: {value}, a socket in the file system")
    return value if is_ip(value) else check_fqdn(value)


class WorkloadEntry(Message):
    """`networking.istio.io` WorkloadEntry, or an endpoint of a ServiceEntry.

    `ports` maps names of the service's ports to numbers; a port not named there keeps the service's (target) number.
    `weight` 0 means 1.
    """

    address: Annotated[str, AfterValidator(_address)]
    ports: Mapping[DnsLabel, Port] = {}
    labels: Labels = Field(default_factory=dict)
    weight: UInt32 = 0
    service_account: SubdomainOrNone = ""
    network: Unimplemented = None
    locality: Unimplemented = None
