"""What a user is told. Law: a command that cannot do its work raises `CommandError`, one sentence that says what to do.

`headrace.cli` alone prints it, on standard error.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Final

_DISTRIBUTIONS: Final[Mapping[str, str]] = {"PIL": "Pillow", "sklearn": "scikit-learn"}  # where the names differ
_OURS = frozenset({"gateway", "headrace", "loadtest", "mesh", "protos", "workers"})


class CommandError(Exception):
    """The command failed; the text is for the user."""


@contextlib.contextmanager
def extra(name: str, command: str) -> Iterator[None]:
    """While inside, an import that fails says which extra brings what the command needs. Raises CommandError."""
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package in _OURS:
            raise
        needed = _DISTRIBUTIONS.get(package, package)
        raise CommandError(f"{command} needs the package {needed}: run pip install 'headrace[{name}]'") from None
