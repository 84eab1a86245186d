"""The ways to one real Triton: directly, and through a gateway by each of its lanes and through a mesh."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gateway.server import serving
from gateway.settings import load
from headrace.express import front
from headrace.rendering import source_of
from mesh.render import folder
from mesh.render.files import render
from tests.envoy import ENVOY
from tests.gateway.tokens import Issuer
from tests.gateway.world import in_thread
from tests.headrace.mesh import up_scene

MODELS = (
    "add",
    "fp16",
    "bf16",
    "bytes",
    "slow",
    "late",
    "count",
    "workers",
    "sum",
    "hasty",
    "ghost",
)  # Triton has no ghost
LABELS = {"app": "triton"}
HOST = "triton.models.svc.cluster.local:8001"


@dataclass
class Door:
    """An address to call Triton at, and what to send along; `folder` is the gateway's, None where there is none."""

    address: str
    headers: dict[str, str]
    bounded: dict[str, str] = field(default_factory=dict)  # of a caller whose calls get no better level than 3
    folder: Path | None = None


def configuration(issuer: Issuer, triton: str, **upstream: Any) -> dict[str, Any]:
    """All models on one Triton, whose callers may do anything; `versions` has two, which share their copy."""
    versions: dict[str, dict[str, Any]] = {name: {"1": LABELS} for name in MODELS} | {"versions": {"1": {}, "2": {}}}
    return {
        "listen": {"address": "127.0.0.1:0", "admin": None, "notice": "1ms"},
        "issuers": [
            {"issuer": issuer.name, "audiences": ["headrace"], "jwks": "file:jwks.json", "algorithms": ["ES256"]}
        ],
        "grants": [
            {
                "to": {"issuer": issuer.name, "claims": {"sub": "tester"}},
                "models": ["*"],
                "actions": ["infer", "inspect", "manage"],
            },
            {
                "to": {"issuer": issuer.name, "claims": {"sub": "bounded"}},
                "models": ["hasty"],
                "actions": ["infer"],
                "limits": {"priority": 3},
            },
        ],
        "models": [
            {
                "name": name,
                "host": HOST,
                "versions": of_model,
                "sequence": name == "sum",
                **({"timeout_parameter": True, "retries": {"attempts": 0}} if name == "hasty" else {}),
                **({"traffic": {"1": 0, "2": 100}} if len(of_model) > 1 else {}),
            }
            for name, of_model in versions.items()
        ],
        "upstream": {
            "endpoints": {name: {each: [triton] for each in of_model} for name, of_model in versions.items()},
            **upstream,
        },
    }


@contextlib.contextmanager
def doors(triton: str, scratch: Path) -> Iterator[dict[str, Door]]:
    """Every way there is, by its name."""
    issuer = Issuer()
    headers, bounded = ({"authorization": f"Bearer {issuer.token(sub=who)}"} for who in ("tester", "bounded"))
    made = {"direct": Door(triton, {})}
    with contextlib.ExitStack() as stack:
        for name in ("python", *(["express", "mesh"] if ENVOY else [])):
            place = scratch / name
            place.mkdir()
            (place / "jwks.json").write_bytes(issuer.jwks())
            config = configuration(issuer, triton)
            if name == "mesh":
                config["upstream"]["mode"] = "mesh"
                for model in config["models"]:
                    model["copies"] = dict.fromkeys(model["versions"], 1)
                config["upstream"]["proxy"] = stack.enter_context(_mesh(config, place))
            (place / "headrace.yaml").write_text(json.dumps(config))
            address = stack.enter_context(_gateway(place, express=name == "express"))
            made[name] = Door(address, headers, bounded, place)
        yield made


@contextlib.contextmanager
def _mesh(config: dict[str, Any], place: Path) -> Iterator[str]:
    """Sidecars beside Triton and the gateway; the value is where the gateway's takes its calls."""
    path = place / "unmeshed.yaml"
    path.write_text(json.dumps(config))
    folder.apply(place / "istio", folder.changes(render(source_of(load(path, {})), {}), {}))
    with up_scene.running(place / "istio") as mesh:
        yield mesh.address


@contextlib.contextmanager
def _gateway(place: Path, *, express: bool) -> Iterator[str]:
    """A gateway in a thread of its own."""
    settings = load(place / "headrace.yaml", {})
    made = front(settings, place, Path(ENVOY or "")) if express else None
    with in_thread(lambda: serving(settings, environ={}, front=made)) as addresses:
        yield addresses.grpc
