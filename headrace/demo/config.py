"""The demo's `headrace.yaml`. Law: what it says is what a user would write for the same workers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import yaml

from headrace.demo.digits import MODEL
from headrace.demo.issuer import AUDIENCE, SCOPE
from headrace.signing import ALGORITHM

AUDIT: Final = "audit.jsonl"
"""Beside the configuration."""
CANARY_SHARE: Final = 10  # percent of the calls that pin no version
HOST: Final = f"{MODEL}.models.svc.cluster.local:8001"

# Quick to eject and to take back, so that one can watch it.
_MESH: Final[Mapping[str, Any]] = {
    "retries": {"attempts": 2, "per_try": "500ms"},
    "ejection": {"errors": 3, "interval": "250ms", "time": "2s", "most": "50%"},
}


def gateway_yaml(
    issuer: str, workers: Mapping[str, Sequence[str]], otlp: str, *, mesh: bool = False, proxy: str | None = None
) -> str:
    """The gateway's configuration; `workers` gives each version the addresses of its copies.

    With `mesh` they are behind sidecars, the gateway's own at `proxy`.
    """
    upstream: dict[str, Any] = {"mode": "mesh" if mesh else "direct"} | ({"proxy": proxy} if proxy else {})
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
                "host": HOST,
                "versions": {"1": {"version": "v1"}, "2": {"version": "v2"}},
                "aliases": {"stable": "1", "canary": "2"},
                "traffic": {"1": 100 - CANARY_SHARE, "2": CANARY_SHARE},
                "timeout": "5s",
                **(_MESH if mesh else {}),
            }
        ],
        "upstream": upstream | {"endpoints": {MODEL: {version: list(copies) for version, copies in workers.items()}}},
        # The collector takes spans alone; and the log's last words are for people.
        "telemetry": {
            "otlp": otlp,
            "sample": 1.0,
            "service": "headrace-gateway",
            "logs": False,
            "log_format": "text",
        },
        "audit": {"file": AUDIT},
    }
    return yaml.safe_dump(settings, sort_keys=False)
