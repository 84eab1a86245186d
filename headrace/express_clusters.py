"""Where the express lane's calls go. Law: a name of a cluster means the same copies in any settings.

So the door can find what is in force and what comes next at one time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from gateway.settings import Settings
from mesh.catalog import Model
from mesh.envoy.proto import Json
from mesh.express.clusters import copies

_SIDECAR: Final = "sidecar"


def clusters(*settings: Settings) -> Sequence[Json]:
    """Every cluster that `cluster_of` names for any of the settings, once; with the largest budget of its models."""
    found: dict[str, _Copies] = {}
    for each in settings:
        for name, there in _copies(each):
            before = found.get(name)
            found[name] = there if before is None else there.joined(before)
    return [copies(name, one.addresses, checked=one.checked, budget=one.budget) for name, one in found.items()]


@dataclass(frozen=True)
class _Copies:
    addresses: Sequence[str]
    checked: bool = False
    budget: float | None = None

    def joined(self, other: _Copies) -> _Copies:
        if self.budget is None or other.budget is None:
            return replace(self, budget=None)
        return replace(self, budget=max(self.budget, other.budget))


def _copies(settings: Settings) -> Iterator[tuple[str, _Copies]]:
    upstream = settings.upstream
    if upstream.mode == "direct":
        for model, versions in upstream.endpoints.items():
            for there in versions.values():
                yield _name(there), _Copies(there, checked=True, budget=settings.catalog[model].retries.budget)
    elif upstream.proxy is not None:
        yield _SIDECAR, _Copies([upstream.proxy])
    else:
        yield from ((one.host, _Copies([one.host])) for one in settings.models)


def cluster_of(settings: Settings, model: Model, version: str) -> str:
    """Where calls for the version go."""
    upstream = settings.upstream
    if upstream.mode == "direct":
        return _name(upstream.endpoints[model.name][version])
    return model.host if upstream.proxy is None else _SIDECAR


def _name(there: Sequence[str]) -> str:
    return ",".join(there)
