"""The names under which a service is called. Law: in Kubernetes' way, as short as the caller's namespace allows.

Source: Istio's generateVirtualHostDomains.
"""

from __future__ import annotations

from ipaddress import ip_network
from typing import Final

from mesh.istio.names import is_ip
from mesh.istio.service_entry import ServiceEntry

_SUFFIX: Final = ".svc.cluster.local"
_NO_ADDRESS: Final = "0.0.0.0"  # noqa: S104 - compared with, never bound


def short_names(host: str, namespace: str) -> tuple[str, ...]:
    """Other spellings of a host for callers in a namespace; first, the absolute name with its last dot."""
    absolute = () if is_ip(host) else (f"{host}.",)
    if not host.endswith(_SUFFIX):
        return absolute
    qualified = host.partition(".svc.")[0]  # name.namespace
    name, dot, of = qualified.partition(".")
    if not dot:
        return absolute
    if of == namespace:
        return (*absolute, name, f"{qualified}.svc", qualified)
    return (*absolute, qualified, f"{qualified}.svc")


def addresses(entry: ServiceEntry) -> tuple[str, ...]:
    """The virtual addresses of a service as hosts. Of several, Istio's routes know the last alone."""
    return tuple(map(bracketed, filter(_is_address, map(single, entry.addresses[-1:]))))


def single(address: str) -> str:
    """An address, also for a network that holds one alone; a larger network stays."""
    if "/" not in address:
        return address
    network = ip_network(address, strict=False)
    return str(network.network_address) if network.num_addresses == 1 else address


def _is_address(address: str) -> bool:
    return address != _NO_ADDRESS


def bracketed(address: str) -> str:
    """An address as a host is written: one of IPv6 in brackets."""
    return f"[{address}]" if ":" in address else address
