"""The clients in docs/examples, made as its README says. Law: what is made lies in a cache, and never in the checkout.

A client is made anew where its folder, the protos or the README's commands for it differ from what was made last.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

TOP = Path(__file__).parent.parent.parent
EXAMPLES = TOP / "docs" / "examples"
README = (EXAMPLES / "README.md").read_text()
TOOLS = {  # by folder, what must be there to make and run its client
    "python-tritonclient": (),
    "python-stubs": (),
    "go": ("go",),
    "node": ("node", "npm"),
    "java": ("java", "javac", "mvn"),
}
SOURCES = {".py", ".go", ".js", ".java"}


@dataclass(frozen=True)
class Client:
    """The command that runs it, but for its arguments, and the folder to run it in."""

    command: tuple[str, ...]
    folder: Path


def commands(name: str) -> list[str]:
    """The README's commands for a client: those that make it, and the last to run it."""
    (block,) = re.findall(rf"^```sh\ncd docs/examples/{name}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    return block.replace("\\\n", "").splitlines()


def sources(name: str) -> list[Path]:
    """The client's program, without what tells how to build it."""
    return [path for path in _files(EXAMPLES / name) if path.suffix in SOURCES]


def missing(name: str) -> list[str]:
    """The programs that it takes to make this client, and that are not there."""
    return [tool for tool in TOOLS[name] if not shutil.which(tool)]


def made(name: str) -> Client:
    """The client, made if it is not yet there; takes minutes where its packages must come, too."""
    *making, running = commands(name)
    files = [*_files(EXAMPLES / name), *sorted((TOP / "protos").glob("*.proto"))]
    content = hashlib.sha256(repr(making).encode())
    for path in files:
        content.update(f"{path.relative_to(TOP)}\0".encode() + path.read_bytes())
    room = _cache() / f"{name}-{content.hexdigest()[:16]}"
    room.mkdir(parents=True, exist_ok=True)
    folder = room / "docs" / "examples" / name
    with (room / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (room / "made").exists():
            for copied in (folder, room / "protos"):
                shutil.rmtree(copied, ignore_errors=True)
            for path in files:
                copy = room / path.relative_to(TOP)
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, copy)
            _run("\n".join(making), folder, _with_protoc(room / "bin"))
            (room / "made").touch()
    return Client(tuple(shlex.split(running)[:-3]), folder)


def _run(script: str, folder: Path, path: str) -> None:
    environment = {**os.environ, "PATH": path}
    command = ["bash", "-euo", "pipefail", "-c", script]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"


def _with_protoc(folder: Path) -> str:
    """A PATH that has a protoc: grpcio-tools' own."""
    folder.mkdir(exist_ok=True)
    protoc = folder / "protoc"
    protoc.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m grpc_tools.protoc "$@"\n')
    protoc.chmod(0o755)
    return f"{folder}{os.pathsep}{os.environ['PATH']}"


def _files(folder: Path) -> list[Path]:
    """Those that a user gets, without what was made in the folder by hand."""
    lines = (EXAMPLES / ".gitignore").read_text().splitlines()
    ignored = [line.strip("/") for line in lines if not line.startswith("#")]
    found = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return [
        path
        for path in found
        if not any(fnmatch(part, name) for part in path.relative_to(folder).parts for name in ignored)
    ]


def _cache() -> Path:
    """Beside what tools.sh builds, where `.ci/run` has it."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(os.environ.get("HEADRACE_TOOLS") or cache / "headrace" / "tools") / "clients"
