"""Which copies one message goes to. Law: each of them gets it only with a permit of its own.

Some calls concern every copy of a model, or every copy of all models that the caller may ask about. What is set for a
whole server takes a grant for every model on it; what is of the machine's memory goes to copies of this machine alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Hashable, Iterable
from dataclasses import dataclass

from gateway import merge
from gateway.authorize import Authorizer, Permit, not_granted, shared_memory_refused
from gateway.call import Call
from gateway.caller import Caller
from gateway.choose import Route, find, pin, resolve
from gateway.rpcs import Action
from gateway.upstream import Copy, Upstream
from mesh.catalog import Catalog


@dataclass(frozen=True, slots=True)
class Stop:
    """One copy that the message goes to; `holds`: the models and versions that it is asked about.

    `name` is what callers may know it by: a model, a version and the copy's place among those.
    """

    permit: Permit
    route: Route
    copy: Copy
    name: str
    holds: frozenset[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Passages:
    """Where the message goes, and which models the answers may speak of."""

    stops: tuple[Stop, ...]
    models: frozenset[str]

    @property
    def permits(self) -> frozenset[Permit]:
        """By which permits it goes there."""
        return frozenset(stop.permit for stop in self.stops)


async def passages(
    caller: Caller, call: Call, authorizer: Authorizer, catalog: Catalog, upstream: Upstream
) -> Passages:
    """The copies that the call concerns.

    Raises HeadraceError: NOT_GRANTED, MODEL_UNKNOWN, VERSION_UNKNOWN, SHARED_MEMORY_REFUSED.
    """
    if call.model:
        ways, names = _of_model(caller, call, authorizer, catalog, upstream)
    else:
        ways, names = _of_all(caller, call, authorizer, catalog, upstream)
    return Passages(await _stops(ways, upstream), names)


_Ways = list[tuple[Permit, Route]]


def _of_model(
    caller: Caller, call: Call, authorizer: Authorizer, catalog: Catalog, upstream: Upstream
) -> tuple[_Ways, frozenset[str]]:
    permit = authorizer.authorize(caller, call)
    model = find(catalog, permit.model)
    if call.version:
        routes = [pin(call, model, resolve(model, call.version))]
    else:
        routes = [Route(model, version, pinned=True, body=call.body) for version in model.versions]
    if call.reaches_server:
        names = frozenset(each.model for each in authorizer.permits(caller, call.rpc.action, catalog))
        if not all(upstream.models_beside(route) <= names for route in routes):
            raise not_granted(caller, call.rpc.action, model.name)
    return [(permit, route) for route in routes], frozenset({model.name})


def _of_all(
    caller: Caller, call: Call, authorizer: Authorizer, catalog: Catalog, upstream: Upstream
) -> tuple[_Ways, frozenset[str]]:
    permits = authorizer.permits(caller, call.rpc.action, catalog)
    names = frozenset(permit.model for permit in permits)
    body = merge.question(call.rpc.name, call.body)
    ways = [
        (permit, Route(catalog[permit.model], version, pinned=True, body=body))
        for permit in permits
        for version in catalog[permit.model].versions
    ]
    if call.rpc.action is Action.MANAGE:
        ways = [(permit, route) for permit, route in ways if upstream.models_beside(route) <= names]
    if not ways:
        raise not_granted(caller, call.rpc.action)
    if call.rpc.shared_memory:
        ways = [(permit, route) for permit, route in ways if permit.model in upstream.local]
        if not ways:
            raise shared_memory_refused()
    return ways, names


async def _stops(ways: Iterable[tuple[Permit, Route]], upstream: Upstream) -> tuple[Stop, ...]:
    """Each copy once, whatever it holds."""
    ways = list(ways)
    found: dict[Hashable, Stop] = {}
    holds: dict[Hashable, set[tuple[str, str]]] = {}
    for (permit, route), copies in zip(
        ways, await asyncio.gather(*(upstream.copies(route) for _, route in ways)), strict=True
    ):
        name = f"{route.model.name} {route.version}"
        for place, copy in enumerate(copies, 1):
            found.setdefault(copy.key, Stop(permit, route, copy, f"{name}, copy {place}", frozenset()))
            holds.setdefault(copy.key, set()).add((route.model.name, route.version))
    return tuple(Stop(one.permit, one.route, one.copy, one.name, frozenset(holds[key])) for key, one in found.items())
