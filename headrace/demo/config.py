"""The demo's `headrace.yaml`. Law: what it says is what a user would write for the same two workers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from headrace.demo.digits import MODEL
from headrace.demo.issuer import ALGORITHM, AUDIENCE, SCOPE

CANARY_SHARE = 10  # percent of the calls that pin no version


def gateway_yaml(issuer: str, workers: Mapping[str, str], otlp: str) -> str:
    """The gateway's configuration; `workers` gives each version the address of its worker."""
    settings: dict[str, Any] = {
        "listen": {"address": "127.0.0.1:0", "admin": "127.0.0.1:0", "notice": "50ms", "drain": "2s"},
        "issuers": [{"issuer": issuer, "audiences": [AUDIENCE], "algorithms": [ALGORITHM], "leeway": "5s"}],
        "grants": [
            {
                "to": {"issuer": issuer, "claims": {"scope": SCOPE}},
                "models": [MODEL],
                "actions": ["infer", "inspect"],
            }
        ],
        "models": [
            {
                "name": MODEL,
                "host": f"{MODEL}.models.svc.cluster.local:8001",
                "versions": {"1": {"version": "v1"}, "2": {"version": "v2"}},
                "aliases": {"stable": "1", "canary": "2"},
                "traffic": {"1": 100 - CANARY_SHARE, "2": CANARY_SHARE},
                "timeout": "5s",
            }
        ],
        "upstream": {
            "mode": "direct",
            "endpoints": {MODEL: {version: [address] for version, address in workers.items()}},
        },
        "telemetry": {"otlp": otlp, "sample": 1.0, "service": "headrace-gateway"},
    }
    return yaml.safe_dump(settings, sort_keys=False)
