"""How other commands find the running demo. Law: what holds its secret is readable by this user alone.

A file `demo.json` (mode 0600) in a folder of ours (0700) under `XDG_RUNTIME_DIR`, or the temporary folder. A folder or
file that others own or may read is refused: whoever could write it could take our images and tokens.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

from headrace.failure import CommandError

_FILE: Final = "demo.json"
START: Final = "start one with: headrace demo --stay"


@dataclass(frozen=True)
class State:
    """A running demo: its process, the gateway's addresses, the issuer, its secret, and where its pictures are.

    `traces` is where it is asked for traces; `workers` are the addresses of their metrics.
    """

    pid: int
    gateway: str
    admin: str
    issuer: str
    secret: str
    samples: str
    traces: str
    workers: list[str] = field(default_factory=list)


def folder(environ: Mapping[str, str]) -> Path:
    """Where the state file is."""
    runtime = environ.get("XDG_RUNTIME_DIR", "")
    if runtime and Path(runtime).is_dir():
        return Path(runtime) / "headrace"
    return Path(tempfile.gettempdir()) / f"headrace-{os.getuid()}"


@contextlib.contextmanager
def published(state: State, where: Path) -> Iterator[None]:
    """While inside, `where` holds the state, unless a demo that started later has put its own there."""
    with contextlib.suppress(FileExistsError):
        where.mkdir(mode=0o700)
    _check(where, stat.S_ISDIR, 0o700)
    file = where / _FILE
    _write(file, state)
    try:
        yield
    finally:
        with contextlib.suppress(CommandError, OSError):
            if read(where).pid == state.pid:
                file.unlink()
                where.rmdir()


def find(where: Path) -> State:
    """The state of a demo that still runs. Raises CommandError."""
    state = read(where)
    try:
        os.kill(state.pid, 0)
    except (ProcessLookupError, PermissionError):
        raise CommandError(f"the demo that wrote {where / _FILE} is gone; {START}") from None
    return state


def read(where: Path) -> State:
    """The state as written. Raises CommandError."""
    file = where / _FILE
    try:
        _check(where, stat.S_ISDIR, 0o700)
        _check(file, stat.S_ISREG, 0o600)
        return State(**json.loads(file.read_bytes()))
    except FileNotFoundError:
        raise CommandError(f"no demo is running; {START}") from None
    except (OSError, ValueError, TypeError):
        raise CommandError(f"{file} is not readable as a demo's state; remove it, then {START}") from None


def _write(file: Path, state: State) -> None:
    """Write by rename, so that a reader sees all of it or nothing."""
    handle, name = tempfile.mkstemp(dir=file.parent)  # made with mode 0600
    with os.fdopen(handle, "w", encoding="utf-8") as opened:
        json.dump(asdict(state), opened)
    Path(name).replace(file)


def _check(path: Path, is_kind: Callable[[int], bool], mode: int) -> None:
    """Raises CommandError where the path is another user's, open to others, a link, or of another kind."""
    found = path.lstat()
    if not is_kind(found.st_mode) or found.st_uid != os.getuid() or stat.S_IMODE(found.st_mode) & ~mode:
        raise CommandError(f"{path} is not private to you (mode {mode:o}, no link); remove it, or set XDG_RUNTIME_DIR")
