"""Where a running mesh keeps its files, and is found. Law: they are this user's alone, and a mesh runs once.

Each folder of resources has a place of its own, under XDG_RUNTIME_DIR or the temporary folder. A lock, which the kernel
gives back whatever becomes of the process, says whether its mesh runs.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator, Mapping
from hashlib import blake2s
from pathlib import Path
from typing import Final

from mesh.local.failure import MeshError

_LOCK: Final = "lock"


def place_of(folder: Path, environ: Mapping[str, str]) -> Path:
    """The place of the mesh of a folder, whether it runs or not."""
    runtime = environ.get("XDG_RUNTIME_DIR", "")
    home = Path(runtime) / "headrace" if runtime and Path(runtime).is_dir() else None
    home = home or Path(tempfile.gettempdir()) / f"headrace-{os.getuid()}"
    return home / f"mesh-{blake2s(os.fsencode(folder.resolve()), digest_size=8).hexdigest()}"


@contextlib.contextmanager
def taken(place: Path, folder: Path) -> Iterator[None]:
    """While inside, the place is ours: empty at first, and gone afterwards. Raises MeshError: the mesh runs already."""
    for each in (place.parent, place):
        with contextlib.suppress(FileExistsError):
            each.mkdir(mode=0o700)
        _check(each)
    lock = os.open(place / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        if not _locked(lock, place / _LOCK):
            raise MeshError(f"the mesh of {folder} runs already")
        _empty(place)
        try:
            yield
        finally:
            _leave(place)
    finally:
        os.close(lock)


def _locked(lock: int, path: Path) -> bool:
    """Whether we have the lock now; not one whose file its last owner took away meanwhile."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.fstat(lock).st_ino == path.stat().st_ino
    except (BlockingIOError, FileNotFoundError):
        return False


def runs(place: Path) -> bool:
    """Whether a mesh runs there."""
    try:
        lock = os.open(place / _LOCK, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False


def _empty(place: Path) -> None:
    """Take away what is there, but for the lock: a mesh that was killed has left it."""
    for path in place.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name != _LOCK:
            path.unlink()


def _leave(place: Path) -> None:
    _empty(place)
    (place / _LOCK).unlink()
    with contextlib.suppress(OSError):  # others may be there
        place.rmdir()
        place.parent.rmdir()


def _check(path: Path) -> None:
    """Raises MeshError where another user could look in or write."""
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or stat.S_IMODE(found.st_mode) & 0o077:
        raise MeshError(f"{path} is not private to you (a folder of mode 700); remove it, or set XDG_RUNTIME_DIR")
