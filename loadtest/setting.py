"""The gateway's surroundings while it is measured: an issuer's key, a caller's token, a configuration.

Law: all that costs a call something in production is on: a token, a grant with a claim, sampled traces.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

import jwt
import yaml
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

from loadtest.payload import MODEL

_ISSUER = "https://bench.example/"
_AUDIENCE = "headrace"
_SCOPE = "infer:bench"
_KEY_ID = "bench"
_VALID_FOR = 24 * 3600  # seconds


def write(folder: Path, backend: str, collector: str) -> tuple[Path, str]:
    """The configuration file, written under `folder` with all that it names, and a token that it grants inference.

    `backend` and `collector` are `HOST:PORT`.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    public = {**json.loads(ECAlgorithm.to_jwk(key.public_key())), "kid": _KEY_ID, "alg": "ES256", "use": "sig"}
    jwks = folder / "jwks.json"
    jwks.write_text(json.dumps({"keys": [public]}))
    config = folder / "headrace.yaml"
    config.write_text(yaml.safe_dump(_config(jwks, backend, collector)))
    now = int(time.time())
    claims = {"iss": _ISSUER, "aud": _AUDIENCE, "sub": "bench", "scope": _SCOPE, "iat": now, "exp": now + _VALID_FOR}
    return config, jwt.encode(claims, key, algorithm="ES256", headers={"kid": _KEY_ID})


def _config(jwks: Path, backend: str, collector: str) -> dict[str, object]:
    issuer = {
        "issuer": _ISSUER,
        "audiences": [_AUDIENCE],
        "jwks": f"file:{jwks}",
        "algorithms": ["ES256"],
        "leeway": "5s",
    }
    grant = {
        "to": {"issuer": _ISSUER, "claims": {"scope": _SCOPE}},
        "models": [MODEL],
        "actions": ["infer", "inspect"],
    }
    model = {
        "name": MODEL,
        "host": "bench.models.svc.cluster.local:8001",
        "versions": {"1": {"version": "v1"}},
        "timeout": "30s",
    }
    return {
        "listen": {"address": "127.0.0.1:0", "admin": "127.0.0.1:0"},
        "issuers": [issuer],
        "grants": [grant],
        "models": [model],
        "upstream": {"mode": "direct", "endpoints": {MODEL: {"1": [backend]}}},
        "telemetry": {"otlp": f"http://{collector}", "sample": 0.1, "service": "headrace-gateway"},
    }
