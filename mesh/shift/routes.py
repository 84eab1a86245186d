"""A VirtualService as the calls of one model meet it. Law: routes are tried in order; one without conditions ends it.

Read from data, files' or a live object's, and only what weights depend on: what else a route says is no matter here.
A call is known by its model and version alone. Whether it meets a condition on its path or its caller is left open; a
condition on any other header, or on a query parameter, it does not meet.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from mesh.istio.names import qualified
from mesh.istio.re2 import matches
from mesh.istio.strings import AbsenceMatch, StringMatch
from mesh.of_model import Candidate
from protos.contract import MODEL_NAME

_NO_CONDITION: Final = frozenset({"name", "gateways", "statPrefix", "stat_prefix", "ignoreUriCase", "ignore_uri_case"})
_ON_HEADERS: Final = frozenset({"headers", "withoutHeaders", "without_headers", "queryParams", "query_params"})


@dataclass(frozen=True)
class Destination:
    """Where a part of a route's calls goes. `weight` None: none is written."""

    host: str
    subset: str
    port: int | None
    weight: int | None

    @property
    def label(self) -> str:
        """What tells it from its like: the subset, or the host's first label."""
        return self.subset or self.host.partition(".")[0]

    @property
    def place(self) -> tuple[str, str, int | None]:
        """Where it is, whatever its weight."""
        return self.host, self.subset, self.port


@dataclass(frozen=True)
class Alternative:
    """One of a route's matches: headers that a call must have (a query parameter stands there as `?NAME`), or must not.

    `open`: it has conditions on more than these.
    """

    headers: Mapping[str, StringMatch]
    without: Mapping[str, AbsenceMatch]
    open: bool

    def may_hold(self, call: Mapping[str, str]) -> bool:
        """Whether a call with these headers and no other may be one that matches."""
        wanted = all(name in call and holds(text, call[name]) for name, text in self.headers.items())
        return wanted and not any(_excludes(text, call.get(name)) for name, text in self.without.items())

    @property
    def chooses_by(self) -> tuple[str, ...]:
        """The headers, beside the model's name, that a call must have."""
        return tuple(name for name in self.headers if name != MODEL_NAME)


@dataclass(frozen=True)
class Route:
    """One of `spec.http`; `index` is its place there."""

    index: int
    name: str
    alternatives: tuple[Alternative, ...]
    destinations: tuple[Destination, ...]


@dataclass(frozen=True)
class Routes:
    """A VirtualService's routes, and whose they are."""

    whose: Candidate
    http: tuple[Route, ...]

    def met(self, call: Mapping[str, str]) -> Iterator[tuple[Route, tuple[Alternative, ...]]]:
        """Every route that a call with these headers may get, with the matches that may let it in."""
        for route in self.http:
            found = tuple(one for one in route.alternatives if one.may_hold(call))
            if found:
                yield route, found
            if not all(one.open for one in found):
                return


def holds(text: StringMatch, value: str) -> bool:
    """Whether a header's value is as wanted."""
    if text.exact is not None:
        return value == text.exact
    if text.prefix is not None:
        return value.startswith(text.prefix)
    return text.regex is None or matches(text.regex, value)


def _excludes(text: AbsenceMatch, value: str | None) -> bool:
    """Whether a header, or its absence, is what must not be. Envoy reads a header that is missing as an empty one."""
    return value is not None if text.present else holds(text, value or "")


def read(data: Mapping[str, Any]) -> Routes:
    """The routes of what is known to be a VirtualService."""
    metadata, spec = data.get("metadata") or {}, data.get("spec") or {}
    namespace = str(metadata.get("namespace") or "default")
    http = tuple(_route(index, one, namespace) for index, one in enumerate(spec.get("http") or ()))
    hosts = tuple(qualified(str(host), namespace) for host in spec.get("hosts") or ())
    return Routes(Candidate(namespace, str(metadata.get("name")), hosts, _models(http)), http)


def _models(http: Sequence[Route]) -> frozenset[str]:
    named = (one.headers.get(MODEL_NAME) for route in http for one in route.alternatives)
    return frozenset(text.exact for text in named if text is not None and text.exact is not None)


def _route(index: int, data: Mapping[str, Any], namespace: str) -> Route:
    alternatives = tuple(map(_alternative, data.get("match") or ({},)))
    destinations = tuple(_destination(one, namespace) for one in data.get("route") or ())
    return Route(index, str(data.get("name") or f"http[{index}]"), alternatives, destinations)


def _alternative(data: Mapping[str, Any]) -> Alternative:
    def part(name: str, other: str) -> Mapping[str, Any]:
        return data.get(name) or data.get(other) or {}

    texts = {name.lower(): StringMatch.read(text or {}) for name, text in (data.get("headers") or {}).items()}
    parameters = part("queryParams", "query_params")
    headers = {name: text for name, text in texts.items() if not name.startswith(":")}
    headers |= {f"?{name}": StringMatch.read(text or {}) for name, text in parameters.items()}
    without = part("withoutHeaders", "without_headers")
    beyond = {name for name, value in data.items() if value and name not in _NO_CONDITION | _ON_HEADERS}
    return Alternative(
        headers,
        {name.lower(): AbsenceMatch.read(text or {}) for name, text in without.items()},
        open=bool(beyond) or len(texts) != len(headers.keys() & texts.keys()) or "mesh" not in _gateways(data),
    )


def _gateways(data: Mapping[str, Any]) -> Sequence[str]:
    return data.get("gateways") or ("mesh",)


def _destination(data: Mapping[str, Any], namespace: str) -> Destination:
    to, weight = data["destination"], data.get("weight")
    port = (to.get("port") or {}).get("number")
    return Destination(
        host=qualified(str(to["host"]), namespace),
        subset=str(to.get("subset") or ""),
        port=None if port is None else int(port),
        weight=None if weight is None else int(weight),
    )
