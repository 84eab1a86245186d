"""Where a running mesh keeps its files, and is found. Law: they are this user's alone, and a mesh runs once.

Each folder of resources has a place of its own, under XDG_RUNTIME_DIR or the temporary folder. A lock on it, which the
kernel gives back whatever becomes of the process, says whether its mesh runs; systemd-tmpfiles leaves alone what is
locked.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator, Mapping
from hashlib import blake2s
from pathlib import Path
from typing import Final

from mesh.local.failure import MeshError

_TRIES: Final = 10
_PAUSE: Final = 0.02  # seconds between them: another command may be looking whether the mesh runs
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def place_of(folder: Path, environ: Mapping[str, str]) -> Path:
    """The place of the mesh of a folder, whether it runs or not."""
    runtime = Path(environ.get("XDG_RUNTIME_DIR", ""))
    if runtime.is_absolute() and runtime.is_dir():  # as its specification wants it
        home = runtime / "headrace"
    else:
        home = Path(tempfile.gettempdir()) / f"headrace-{os.getuid()}"
    return home / f"mesh-{blake2s(os.fsencode(folder.resolve()), digest_size=8).hexdigest()}"


def bootstrap_of(place: Path) -> Path:
    """Where the caller without a sidecar finds gRPC's bootstrap."""
    return place / "bootstrap.json"


@contextlib.contextmanager
def taken(place: Path, folder: Path) -> Iterator[None]:
    """While inside, the place is ours: empty at first, and gone afterwards. Raises MeshError: the mesh runs already."""
    try:
        lock = _lock(place)
    except OSError as error:
        what = "the files of the mesh cannot be kept there; choose another place with XDG_RUNTIME_DIR"
        raise MeshError(f"{error.filename}: {error.strerror}: {what}") from None
    if lock is None:
        raise _runs_already(folder)
    try:
        _empty(place)  # a mesh that was killed has left its files
        yield
    finally:
        with contextlib.suppress(OSError):  # it may be gone, and others may be beside it
            _empty(place)
            place.rmdir()
            place.parent.rmdir()
        os.close(lock)


def alone(folder: Path, environ: Mapping[str, str]) -> None:
    """Raises MeshError: the mesh of the folder runs."""
    if runs(place_of(folder, environ)):
        raise _runs_already(folder)


def _runs_already(folder: Path) -> MeshError:
    return MeshError(f"the mesh of {folder} runs already: end it, or use another folder")


def runs(place: Path) -> bool:
    """Whether a mesh of this user's runs there. Raises MeshError: another user could have put anything there."""
    for each in (place.parent, place):
        with contextlib.suppress(FileNotFoundError):
            _check(each)
    try:
        lock = os.open(place, _FOLDER)
    except OSError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False


def _lock(place: Path) -> int | None:
    """A handle with the lock, or None: another has it. Raises MeshError, OSError."""
    for _ in range(_TRIES):
        with contextlib.suppress(FileNotFoundError):  # a mesh that ends takes them away
            for each in (place.parent, place):
                with contextlib.suppress(FileExistsError):
                    each.mkdir(mode=0o700)
                _check(each)
            lock = os.open(place, _FOLDER)
            if _locked(lock, place):
                return lock
            os.close(lock)
        time.sleep(_PAUSE)
    return None


def _locked(lock: int, place: Path) -> bool:
    """Whether we have the lock now, and not one of a folder that its last owner has taken away meanwhile."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.path.samestat(os.fstat(lock), place.stat())
    except (BlockingIOError, FileNotFoundError):
        return False


def _empty(place: Path) -> None:
    for path in place.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def _check(path: Path) -> None:
    """Raises MeshError where another user could look in or write."""
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or stat.S_IMODE(found.st_mode) & 0o077:
        raise MeshError(f"{path} is not private to you (a folder of mode 700); remove it, or set XDG_RUNTIME_DIR")
