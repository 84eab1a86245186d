"""The gateway's surroundings while it is measured: an issuer's key, a caller's token, a configuration.

Law: all that costs a call something in production is on: a token, a grant with a claim, sampled traces.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

from loadtest.payload import MODEL, model

_ISSUER = "https://bench.example/"
_AUDIENCE = "headrace"
_KEY_ID = "bench"
_VALID_FOR = 24 * 3600  # seconds

LANES = {"express": True, "gateway": False}
"""Ours by name, and whether an Envoy is in front."""


@dataclass(frozen=True, slots=True)
class Lane:
    """A gateway of a mesh: whether an Envoy is in front, and with how many processes of ours behind it.

    Where spans go, whether it counts, and how many models there are, each with its caller.
    """

    express: bool
    collector: str | None = None
    metrics: bool = True
    models: int = 1
    processes: int = 1


def write(folder: Path, backend: str, collector: str) -> tuple[Path, str]:
    """The configuration file, written under `folder` with all that it names, and a token that it grants inference.

    `backend` and `collector` are `HOST:PORT`.
    """
    upstream = {"mode": "direct", "endpoints": {MODEL: {"1": [backend]}}}
    config, (token,) = _write(folder, upstream, Lane(express=False, collector=collector))
    return config, token


def write_lane(folder: Path, sidecar: str, lane: Lane) -> tuple[Path, Sequence[str]]:
    """The same, for a gateway beside a sidecar; the token at an index is for the model of that index."""
    return _write(folder, {"mode": "mesh", "proxy": sidecar}, lane)


def write_shared(
    folder: Path,
    backend: str,
    limits: Mapping[str, object],
    admission: Mapping[str, object] | None,
    callers: Sequence[str],
) -> tuple[Path, Sequence[str]]:
    """A gateway whose callers share one model within these limits, and their tokens."""
    key, jwks = _key(folder)
    upstream = {"mode": "direct", "endpoints": {MODEL: {"1": [backend]}}}
    told = _config(jwks, upstream, Lane(express=False))
    told["grants"] = [{**_grant(MODEL), "limits": limits}]
    told["models"] = [{**_model(MODEL), "admission": admission}]
    config = folder / "headrace.yaml"
    config.write_text(json.dumps(told))
    return config, [_token(key, MODEL, caller) for caller in callers]


def write_watched(folder: Path, worker: str, admin: str, collector: str | None, *, express: bool) -> tuple[Path, str]:
    """A gateway of which everything is seen, or, without a collector, nothing; and a caller's token."""
    key, jwks = _key(folder)
    upstream = {"mode": "direct", "endpoints": {MODEL: {"1": [worker]}}}
    told = _config(jwks, upstream, Lane(express=express, collector=collector))
    told["listen"] = {"address": "127.0.0.1:0", "admin": admin, "express": "on" if express else "off"}
    if collector:
        told["telemetry"] = {"otlp": f"http://{collector}", "sample": 0.1, "access_log": "access.log"}
        told["audit"] = {"file": "audit.jsonl"}
    else:
        told["telemetry"] = {"metrics": False}
    config = folder / "headrace.yaml"
    config.write_text(json.dumps(told))
    return config, _token(key, MODEL)


def _write(folder: Path, upstream: Mapping[str, object], lane: Lane) -> tuple[Path, Sequence[str]]:
    key, jwks = _key(folder)
    config = folder / "headrace.yaml"
    config.write_text(json.dumps(_config(jwks, upstream, lane)))  # which is YAML
    return config, [_token(key, model(index)) for index in range(lane.models)]


def _key(folder: Path) -> tuple[ec.EllipticCurvePrivateKey, Path]:
    """An issuer's key, and where its JWK Set is."""
    key = ec.generate_private_key(ec.SECP256R1())
    public = {**json.loads(ECAlgorithm.to_jwk(key.public_key())), "kid": _KEY_ID, "alg": "ES256", "use": "sig"}
    jwks = folder / "jwks.json"
    jwks.write_text(json.dumps({"keys": [public]}))
    return key, jwks


def _token(key: ec.EllipticCurvePrivateKey, name: str, caller: str = "") -> str:
    now = int(time.time())
    said = {"iss": _ISSUER, "aud": _AUDIENCE, "sub": caller or name, "scope": _scope(name)}
    claims = {**said, "iat": now, "exp": now + _VALID_FOR}
    return jwt.encode(claims, key, algorithm="ES256", headers={"kid": _KEY_ID})


def _scope(name: str) -> str:
    return f"infer:{name}"


def _config(jwks: Path, upstream: Mapping[str, object], lane: Lane) -> dict[str, object]:
    issuer = {
        "issuer": _ISSUER,
        "audiences": [_AUDIENCE],
        "jwks": f"file:{jwks}",
        "algorithms": ["ES256"],
        "leeway": "5s",
    }
    names = [model(index) for index in range(lane.models)]
    told = {"otlp": f"http://{lane.collector}", "sample": 0.1, "service": "headrace-gateway"}
    return {
        "listen": {
            "address": "127.0.0.1:0",
            "admin": "127.0.0.1:0",
            "express": "on" if lane.express else "off",
            "processes": lane.processes,
        },
        "issuers": [issuer],
        "grants": [_grant(name) for name in names],
        "models": [_model(name) for name in names],
        "upstream": upstream,
        "telemetry": (told if lane.collector else {}) | {"metrics": lane.metrics},
    }


def _grant(name: str) -> dict[str, object]:
    to = {"issuer": _ISSUER, "claims": {"scope": _scope(name)}}
    return {"to": to, "models": [name], "actions": ["infer", "inspect"]}


def _model(name: str) -> dict[str, object]:
    host = f"{name}.models.svc.cluster.local:8001"
    return {"name": name, "host": host, "versions": {"1": {"version": "v1"}}, "timeout": "30s"}
