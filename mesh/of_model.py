"""Whose routes are a model's. Law: who names the model comes first, then who is called like it, then its host.

Routes name a model where they match on `x-model-name`; where a model has its host alone they need not, and then the
VirtualService is called like the model, or the host is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mesh.istio.names import matches, qualified
from mesh.slug import slug


class UnclearError(Exception):
    """No routes, or those of several VirtualServices, could be a model's. The text says what there is."""


@dataclass(frozen=True)
class Candidate:
    """A VirtualService, or a service without one (`name` is empty). `models` are those that its routes name."""

    namespace: str
    name: str
    hosts: tuple[str, ...]
    models: frozenset[str] = frozenset()

    @property
    def title(self) -> str:
        """What it is called; a service, by its host."""
        return f"VirtualService {self.namespace}/{self.name}" if self.name else ", ".join(self.hosts)


def choose(candidates: Sequence[Candidate], model: str, host: str | None = None) -> Candidate:
    """The one that routes for a model, among those for a host if one is given. Raises UnclearError."""
    possible = [one for one in candidates if host is None or _is_for(one, host)]
    ways: tuple[Callable[[Candidate], bool], ...] = (
        lambda one: model in one.models,
        lambda one: one.name in (model, slug(model)),
        lambda one: any(each.partition(".")[0] in (model, slug(model)) for each in one.hosts),
        lambda _: host is not None,
    )
    found = next((matching for way in ways if (matching := [one for one in possible if way(one)])), [])
    if len(found) == 1:
        return found[0]
    if found:
        several = ", ".join(f"{one.title} ({', '.join(one.hosts)})" for one in found)
        raise UnclearError(f"several could route for {model}: {several}; say which with --host")
    where = f" for {host}" if host is not None else ""
    there = f"there are {', '.join(one.title for one in candidates)}" if candidates else "there are no VirtualServices"
    raise UnclearError(f"nothing routes for {model}{where}; {there}")


def _is_for(one: Candidate, host: str) -> bool:
    name = qualified(host.partition(":")[0].lower(), one.namespace)
    return any(matches(each.lower(), name) for each in one.hosts)
