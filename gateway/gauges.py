"""What the gateway is asked for when someone looks. Law: nothing is worked out before.

What one process alone can say of the gateway is told by the first.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from importlib.metadata import version
from typing import Final

from cryptography import x509

from gateway.admission import Admission
from gateway.audit import Audit
from gateway.in_force import InForce
from gateway.metrics import (
    ACTIVE,
    AUDIT_FAILING,
    BUILD,
    EXPIRY,
    GENERATION,
    JWKS_AGE,
    JWKS_KEYS,
    LIMIT,
    READY,
    REFUSED,
    RUNNING,
    TOKENS,
)
from gateway.readiness import Readiness
from gateway.settings import Tls
from gateway.verify import Result, TrustedIssuer, Verifier
from mesh.catalog import Catalog
from protos.contract import PYTHON_LANE
from protos.metrics import process
from protos.metrics.instruments import Registry
from protos.metrics.shared import of_dropped
from protos.metrics.snapshot import Labels

_RESULTS: Final[tuple[Result, ...]] = ("cached", "verified", "refused")


def of_each(
    registry: Registry,
    running: Callable[[], int],
    admission: Admission,
    verifier: Verifier,
    catalog: Callable[[], Catalog],
) -> None:
    """What every process has, of which the sum is told; `running`: how many calls are under way."""

    def admitted(number: Callable[[str], int]) -> Callable[[], dict[Labels, float]]:
        return lambda: {(model,): number(model) for model in admission.told() if model in catalog()}

    registry.asked(ACTIVE, lambda: {(PYTHON_LANE,): running()})
    registry.asked(LIMIT, admitted(lambda model: admission.told()[model].limit))
    registry.asked(RUNNING, admitted(lambda model: admission.told()[model].running))
    registry.asked(TOKENS, lambda: _tokens(verifier))
    of_dropped(registry)
    process.of_itself(registry)


def _tokens(verifier: Verifier) -> dict[Labels, float]:
    return {(result,): verifier.results[result] for result in _RESULTS}


def of_audit(registry: Registry, audit: Audit) -> None:
    """What every process that audits has."""
    registry.asked(AUDIT_FAILING, lambda: {(): audit.failing})


def of_one(
    registry: Registry, tls: Tls | None, issuers: Iterable[TrustedIssuer], in_force: InForce, readiness: Readiness
) -> None:
    """What one process says for all."""
    known = tuple(issuers)
    expiry = {} if tls is None else expiries(tls)
    build: dict[Labels, float] = {(version("headrace"),): 1.0}
    registry.asked(JWKS_AGE, lambda: {(one.issuer,): one.keys.age for one in known})
    registry.asked(JWKS_KEYS, lambda: {(one.issuer,): len(one.keys.current.keys) for one in known})
    registry.asked(EXPIRY, lambda: expiry)
    registry.asked(GENERATION, lambda: {(): in_force.taken})
    registry.asked(REFUSED, lambda: {(): in_force.refused})
    registry.asked(READY, lambda: {(): readiness.ready})
    registry.asked(BUILD, lambda: build)


def expiries(tls: Tls) -> dict[Labels, float]:
    """When the certificates expire that are in use: both lanes read the files at the start, and then no more."""
    files = {"server": tls.certificate, "client_ca": tls.client_ca}
    found = {name: x509.load_pem_x509_certificates(path.read_bytes()) for name, path in files.items() if path}
    return {
        (name,): min((one.not_valid_after_utc.timestamp() for one in chain), default=math.nan)
        for name, chain in found.items()
    }
