"""What a user is told. Law: a command that cannot do its work raises `CommandError`, one sentence that says what to do.

`headrace.cli` alone prints it, on standard error.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

_OURS = frozenset({"gateway", "headrace", "mesh", "protos", "workers"})


class CommandError(Exception):
    """The command failed; the text is for the user."""


@contextlib.contextmanager
def extra(name: str) -> Iterator[None]:
    """While inside, an import that fails says which extra of headrace brings the package. Raises CommandError."""
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package in _OURS:
            raise
        raise CommandError(f"this needs the package {package}: run pip install 'headrace[{name}]'") from None
