"""The launcher's private folder. Law: it goes with the launcher; what a killed one has left, the next one removes.

A folder is its launcher's while the file `lock` in it is locked (flock(2), which ends with the process). The python
backend keeps tensors in shared memory, under names that begin with the folder's.
"""

from __future__ import annotations

import contextlib
import fcntl
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_PREFIX: Final = "headrace-triton-"
_SHARED: Final = Path("/dev/shm")  # noqa: S108 - where shm_open(3) has its files


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """A folder while inside."""
    _sweep(Path(tempfile.gettempdir()))
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
    try:
        with (folder / "new").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            (folder / "new").rename(folder / "lock")  # only now others ask whose it is
            yield folder
    finally:
        _remove(folder)


def _sweep(parent: Path) -> None:
    for folder in parent.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError), (folder / "lock").open() as lock:  # another's, or it is alive
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _remove(folder)


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    for region in _SHARED.glob(f"{folder.name}-*"):
        region.unlink(missing_ok=True)
