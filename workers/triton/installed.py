"""Which Triton is run, and what it needs around it. Law: what is installed is never written to.

The wheel of nvidia-pytriton holds the server with the python backend alone, and for each Python a stub: the process
that runs a model's code. The backend looks for its stub in its own folder, so that folder is made anew, of links.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import sys
import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from workers.errors import StartError

_STUB: Final = "triton_python_backend_stub"
_USUAL: Final = Path("/opt/tritonserver/backends")
_NAMED: Final = "name a server of your own with --server"
_LIBRARIES: Final = "LD_LIBRARY_PATH"


@dataclass(frozen=True, slots=True)
class Server:
    """A Triton server: its program, its folder of backends, their names, and libraries that it does not find itself."""

    program: Path
    folder: Path
    backends: frozenset[str]
    libraries: tuple[Path, ...] = ()


def find(asked: Path | None, scratch: Path) -> Server:
    """The server asked for, or the extra's, whose folder of backends is made in `scratch`. Raises StartError."""
    return _of_extra(scratch / "backends") if asked is None else _full(asked)


def environment(server: Server, outer: Mapping[str, str]) -> dict[str, str]:
    """The server's environment: ours, in which its stubs find this Python and its packages."""
    first = {
        "PATH": [Path(sys.executable).parent],
        _LIBRARIES: [*server.libraries, Path(sysconfig.get_config_var("LIBDIR") or "/usr/lib")],
    }
    made = {key: os.pathsep.join([*map(str, paths), *filter(None, [outer.get(key)])]) for key, paths in first.items()}
    return {**outer, **made}


def _full(program: Path) -> Server:
    if not os.access(program, os.X_OK) or program.is_dir():
        raise StartError(f"{program} is no program that can be run: --server names a tritonserver")
    beside = program.resolve().parent.parent / "backends"
    folder = next((each for each in (beside, _USUAL) if each.is_dir()), None)
    if folder is None:
        raise StartError(f"there are no backends for {program}: neither {beside} nor {_USUAL} is there")
    return Server(program, folder, frozenset(entry.name for entry in folder.iterdir() if entry.is_dir()))


def _of_extra(folder: Path) -> Server:
    if sys.platform != "linux" or platform.machine() != "x86_64":
        raise StartError(f"the extra triton has a server for Linux on x86-64 alone: {_NAMED}")
    found = importlib.util.find_spec("pytriton")  # to import it starts more than is needed
    if found is None or found.origin is None:
        raise StartError(f"there is no Triton here: run pip install 'headrace[triton]', or {_NAMED}")
    package = Path(found.origin).parent
    wheel = package / "tritonserver"
    stub = wheel / "python_backend_stubs" / f"{sys.version_info.major}.{sys.version_info.minor}" / _STUB
    if not stub.is_file():
        there = ", ".join(sorted(each.parent.name for each in stub.parent.parent.glob(f"*/{_STUB}"))) or "none"
        raise StartError(
            f"this Triton has no stub for Python {stub.parent.name} (it has {there}): use such a Python, or {_NAMED}"
        )
    python = folder / "python"
    python.mkdir(parents=True)
    for file in (*(wheel / "backends" / "python").iterdir(), stub):
        if file.is_file():
            (python / file.name).symlink_to(file)
    libraries = (package.parent / "nvidia_pytriton.libs", wheel / "external_libs")
    program = wheel / "bin" / "tritonserver"
    return Server(program, folder, frozenset({"python"}), tuple(each for each in libraries if each.is_dir()))
