"""`headrace ARGUMENTS` in this process: as a process of its own would, without the second that one takes to come up."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from headrace import cli


@dataclass(frozen=True)
class Done:
    """What became of it."""

    returncode: int
    stdout: str
    stderr: str


def headrace(*arguments: str, folder: Path | None = None, environ: Mapping[str, str] = {}) -> Done:
    """What it prints, in a folder, with more in the environment; for tests that are no coroutines."""
    out, err = io.StringIO(), io.StringIO()
    with (
        mock.patch.dict(os.environ, {"COLUMNS": "80", **environ}),
        contextlib.chdir(folder or Path.cwd()),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        code = cli.run(arguments)
    return Done(code, out.getvalue(), err.getvalue())
