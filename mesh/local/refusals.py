"""What a cluster can do and one machine cannot. Law: it is refused by name, and never skipped."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address
from typing import Final

from mesh.envoy.copies import everyone
from mesh.envoy.proto import refusal
from mesh.istio.authorization_policy import AuthorizationPolicy, Rule
from mesh.istio.document import RefusedError
from mesh.istio.message import Mistake, json_name
from mesh.istio.world import World
from mesh.local.addresses import ADMIN_PORT, OUTBOUND_PORT

_OF_ADDRESSES: Final = ("ip_blocks", "not_ip_blocks", "remote_ip_blocks", "not_remote_ip_blocks")
_ATTRIBUTES: Final = ("source.ip", "remote.ip", "destination.ip")
_ELSEWHERE: Final = "not implemented: on one machine sidecars have addresses of their own, other ones each time"
_OWN: Final = (ADMIN_PORT, OUTBOUND_PORT)


def refuse(world: World) -> None:
    """Raises RefusedError with every such place."""
    found = [*_in_workload_entries(world), *_in_service_entries(world), *_past_sidecars(world), *_in_policies(world)]
    if found:
        raise RefusedError([line for one in found for line in one.mistakes])


def _in_workload_entries(world: World) -> Iterator[RefusedError]:
    for entry in world.workload_entries:
        if not entry.spec.service_account:
            continue
        if not _is_ipv4(entry.spec.address):
            what = f"not implemented: {entry.spec.address}; on one machine a process has an IPv4 address"
            yield refusal(entry, ("address",), what)
        for name, port in entry.spec.ports.items():
            if port in _OWN:
                yield refusal(entry, ("ports", name), _taken(port))


def _in_service_entries(world: World) -> Iterator[RefusedError]:
    for service in world.service_entries:
        for index, endpoint in enumerate(service.spec.endpoints):
            if endpoint.service_account:
                what = "not implemented: on one machine a process with an identity is a WorkloadEntry"
                yield refusal(service, ("endpoints", index, "serviceAccount"), what)
        for index, port in enumerate(service.spec.ports):
            target = port.target_port or port.number
            if target in _OWN and service.spec.workload_selector is not None:
                yield refusal(service, ("ports", index), _taken(target))


def _past_sidecars(world: World) -> Iterator[RefusedError]:
    """Copies without an identity at whose address a process with one listens: its policies would not hold for them."""
    found = [*everyone(world)]
    processes = {(copy.address, copy.port) for _, copy in found if copy.identity}
    for entry, copy in found:
        if copy.identity is None and (copy.address, copy.port) in processes:
            what = f"leads past the sidecar of the process at {copy.address}:{copy.port}: it has no serviceAccount"
            yield refusal(entry, (), f"{copy.name} {what}")


def _taken(port: int) -> str:
    return f"not implemented: at {port} a sidecar itself listens ({_OWN[0]}: its admin pages, {_OWN[1]}: calls out)"


def _in_policies(world: World) -> Iterator[RefusedError]:
    for policy in world.of(AuthorizationPolicy):
        for index, rule in enumerate(policy.spec.rules):
            yield from (refusal(policy, ("rules", index, *where), what) for where, what in _in_rule(rule))


def _in_rule(rule: Rule) -> Iterable[Mistake]:
    for index, one in enumerate(rule.from_):
        for field in _OF_ADDRESSES:
            if getattr(one.source, field):
                yield ("from", index, "source", json_name(field)), _ELSEWHERE
    for index, condition in enumerate(rule.when):
        if condition.key in _ATTRIBUTES:
            yield ("when", index, "key"), _ELSEWHERE


def _is_ipv4(address: str) -> bool:
    try:
        IPv4Address(address)
    except ValueError:
        return False
    return True
