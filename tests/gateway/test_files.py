from __future__ import annotations

import subprocess
import sys

import pytest

from gateway import files

resource = pytest.importorskip("resource")
SHOW = (
    "import resource; from gateway import files; files.allow_many(); print(*resource.getrlimit(resource.RLIMIT_NOFILE))"
)


def shown(limits: tuple[int, int]) -> tuple[int, ...]:
    """The limits of a process that had these, and has asked for many files."""

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)

    done = subprocess.run([sys.executable, "-c", SHOW], preexec_fn=limited, capture_output=True, text=True, check=True)
    return tuple(map(int, done.stdout.split()))


def test_as_many_files_as_there_may_be() -> None:
    assert shown((256, 4096)) == (4096, 4096)


def test_but_not_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _which: (1024, resource.RLIM_INFINITY))
    monkeypatch.setattr(resource, "setrlimit", lambda _which, limits: asked.append(limits))
    files.allow_many()
    assert asked == [(1024 * 1024, resource.RLIM_INFINITY)]
