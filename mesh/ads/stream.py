"""One client's stream. Law: it is told what it asks for, whenever that is new to it, and nothing else.

The state of the world in version 3: every answer holds all that is there of what the client asks for of a type, and a
listener or a cluster that is not in it does not exist. So a cluster that was published once is told for as long as the
client asks for it: calls may be on their way to it while routes change. Who asks for no name gets nothing: gRPC names
what it wants. https://www.envoyproxy.io/docs/envoy/latest/api-docs/xds_protocol
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

Resource = Mapping[str, object]
"""A message as JSON."""

LISTENER: Final = "envoy.config.listener.v3.Listener"
ROUTES: Final = "envoy.config.route.v3.RouteConfiguration"
CLUSTER: Final = "envoy.config.cluster.v3.Cluster"
ENDPOINTS: Final = "envoy.config.endpoint.v3.ClusterLoadAssignment"

TYPES: Final = (CLUSTER, ENDPOINTS, LISTENER, ROUTES)
"""In the order of telling: where calls can go, before that they do."""


@dataclass(frozen=True)
class Published:
    """What a node may ask for: type -> name -> resource."""

    version: str
    resources: Mapping[str, Mapping[str, Resource]]


@dataclass(frozen=True)
class Asked:
    """One request. `nonce` is that of the answer it speaks of, empty for none; `error` why that was not taken."""

    node: str
    type: str
    names: frozenset[str]
    nonce: str = ""
    error: str | None = None


@dataclass(frozen=True)
class Answer:
    """One response: all that is there of what was asked for of a type."""

    type: str
    version: str
    nonce: str
    resources: Mapping[str, Resource]


@dataclass(frozen=True)
class Verdict:
    """What a client says of what it was told: taken, or not taken because of `error`."""

    node: str
    type: str
    version: str
    error: str | None


@dataclass
class _Watch:
    """What a client asks for of one type, and what it knows: `answered` are the names whose absence is known, too."""

    names: frozenset[str] = frozenset()
    answered: frozenset[str] = frozenset()
    known: Mapping[str, Resource] = field(default_factory=dict)
    nonce: str = ""
    version: str = ""
    judged: bool = True

    def ask(self, names: frozenset[str]) -> None:
        """Ask for these; a client forgets what it no longer asks for."""
        self.names = names
        self.answered &= names
        self.known = {name: resource for name, resource in self.known.items() if name in names}


@dataclass
class Stream:
    """What one client asks for. `node` is its id, which its first request must tell."""

    node: str = ""
    _watches: dict[str, _Watch] = field(default_factory=dict)
    _answers: int = 0

    def hear(self, asked: Asked) -> Verdict | None:
        """Take a request in. One that speaks of an older answer is passed over: the client has yet to see the last."""
        self.node = self.node or asked.node
        watch = self._watches.setdefault(asked.type, _Watch())
        if asked.nonce != watch.nonce:
            return None
        watch.ask(asked.names)
        if watch.judged:
            return None
        watch.judged = True
        return Verdict(self.node, asked.type, watch.version, asked.error)

    def tell(self, published: Published) -> Iterator[Answer]:
        """What is new to the client, as answers in the order of sending."""
        for kind in sorted(self._watches, key=_order):
            watch = self._watches[kind]
            found = _found(kind, watch, published)
            if watch.names <= watch.answered and found == watch.known:
                continue
            self._answers += 1
            watch.answered, watch.known, watch.judged = watch.names, found, False
            watch.nonce, watch.version = str(self._answers), published.version
            yield Answer(kind, watch.version, watch.nonce, found)


def _found(kind: str, watch: _Watch, published: Published) -> Mapping[str, Resource]:
    """What is there of what is asked for, by name."""
    kept = watch.known if kind == CLUSTER else {}
    there = {**kept, **published.resources.get(kind, {})}
    return {name: there[name] for name in sorted(watch.names) if name in there}


def _order(kind: str) -> int:
    return TYPES.index(kind) if kind in TYPES else len(TYPES)
