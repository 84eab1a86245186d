"""What a user is told. Law: a command that cannot do its work raises `CommandError`, one sentence that says what to do.

`headrace.cli` alone prints it, on standard error.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Final

_DISTRIBUTIONS: Final[Mapping[str, str]] = {  # where the names differ
    "PIL": "Pillow",
    "sklearn": "scikit-learn",
    "yaml": "PyYAML",
}
_OURS = frozenset({"gateway", "headrace", "loadtest", "mesh", "protos", "workers"})


class CommandError(Exception):
    """The command failed; the text is for the user."""


@contextlib.contextmanager
def extra(name: str, command: str) -> Iterator[None]:
    """While inside, an import that fails says which extra brings what the command needs. Raises CommandError."""
    try:
        yield
    except ModuleNotFoundError as error:
        if is_ours(error):
            raise
        needed = package_of(error)
        raise CommandError(f"{command} needs the package {needed}: run pip install 'headrace[{name}]'") from None


def is_ours(error: Exception) -> bool:
    """Whether it is a module of ours that is not there: a defect."""
    return isinstance(error, ModuleNotFoundError) and _top(error) in _OURS


def package_of(error: ModuleNotFoundError) -> str:
    """What to install for the module that is not there."""
    return _DISTRIBUTIONS.get(_top(error), _top(error))


def _top(error: ModuleNotFoundError) -> str:
    return (error.name or "").partition(".")[0]
