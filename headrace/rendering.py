"""From the gateway's settings to what Istio's resources follow from. Law: nothing secret crosses over.

`mesh.render` does not know of the gateway; what it needs of the settings is put into its own words here.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Final

from gateway import settings
from gateway.keys import parse_jwk
from mesh.express.rules import Rules
from mesh.render.source import Issuer, RenderError, Source

_FILE: Final = "file:"
_PUBLIC: Final = ("kty", "kid", "use", "alg", "n", "e", "crv", "x", "y")  # RFC 7517, RFC 7518 section 6, RFC 8037


def source_of(loaded: settings.Settings, *, express: bool = False) -> Source:
    """What the resources follow from, in mesh.render's own words; with the `express` lane at an ingress gateway.

    Raises RenderError.
    """
    issuers = tuple(_issuer(issuer) for issuer in loaded.issuers)
    upstream = loaded.upstream
    rules = _rules(loaded) if express else None
    return Source(
        loaded.catalog, loaded.mesh, issuers, upstream.endpoints, upstream.mode == "xds", rules, loaded.telemetry.otlp
    )


def _rules(loaded: settings.Settings) -> Rules:
    """Calls that are sampled are Python's, whose spans say what Envoy's cannot. Raises RenderError."""
    if loaded.listen.tls is not None:
        what = "is the gateway's own, and an ingress gateway does not speak it: mesh.ingress.credential names a secret"
        raise RenderError([f"listen.tls: {what}"])
    from headrace.express import rules  # noqa: PLC0415 - gRPC's server, for this alone

    return replace(rules(loaded), tracing="python" if loaded.telemetry.otlp else "")


def _issuer(issuer: settings.Issuer) -> Issuer:
    """Keys from a file are written into the resources: a sidecar cannot read ours."""
    if issuer.jwks is None:
        return Issuer(issuer.issuer, issuer.audiences)
    if issuer.jwks.startswith(_FILE):
        return Issuer(issuer.issuer, issuer.audiences, jwks=_public(Path(issuer.jwks.removeprefix(_FILE))))
    return Issuer(issuer.issuer, issuer.audiences, jwks_uri=issuer.jwks)


def _public(file: Path) -> str:
    """The keys of a JWK Set that the gateway would use, without what is not for others to know."""
    usable = [key for key in json.loads(file.read_bytes())["keys"] if isinstance(key, dict) and parse_jwk(key)]
    return json.dumps({"keys": [{name: key[name] for name in _PUBLIC if name in key} for key in usable]})
