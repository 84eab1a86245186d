"""What is rendered. Law: all that the resources follow from is here, frozen; nothing else is looked at."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from mesh.catalog import Catalog, Mesh
from mesh.express.rules import Rules
from mesh.render.collector import Collector, collector

Endpoints = Mapping[str, Mapping[str, tuple[str, ...]]]
"""model -> version -> addresses of its copies on this machine, `HOST:PORT`."""


class RenderError(Exception):
    """A catalog that cannot be put in Istio's words; one sentence for each mistake, which says what to change."""

    def __init__(self, mistakes: Iterable[str]) -> None:
        self.mistakes = tuple(mistakes)
        super().__init__("\n".join(self.mistakes))


@dataclass(frozen=True)
class Issuer:
    """Whose tokens the workers' sidecars believe.

    Its keys are in `jwks` (a JWK Set, public parts alone), or at the address `jwks_uri`; with neither they are found by
    OpenID discovery.
    """

    name: str
    audiences: tuple[str, ...]
    jwks_uri: str | None = None
    jwks: str | None = None


@dataclass(frozen=True)
class Source:
    """The models, who the gateway is to the mesh, whose tokens count, and where copies listen on this machine.

    Without any endpoints the copies are a cluster's to find. `proxyless`: the gateway has no sidecar, and gRPC's own
    xDS client does what it can of what is written. `express`: what Istio's ingress gateway is told where it runs the
    express lane. `otlp`: where the gateway sends spans.
    """

    catalog: Catalog
    mesh: Mesh
    issuers: tuple[Issuer, ...]
    endpoints: Endpoints = field(default_factory=dict)
    proxyless: bool = False
    express: Rules | None = None
    otlp: str | None = None

    @property
    def collector(self) -> Collector | None:
        """Where the spans of sidecars go."""
        return collector(self.otlp, self.mesh.gateway.namespace)
