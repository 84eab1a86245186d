"""A command's configuration. Law: one that cannot be used ends every command in the same words."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from headrace.failure import CommandError

if TYPE_CHECKING:
    from gateway.settings import Settings


@contextlib.contextmanager
def usable() -> Iterator[None]:
    """While inside, settings are loaded. Raises CommandError: they cannot be used."""
    from gateway.settings import SettingsError  # noqa: PLC0415 - gRPC

    try:
        yield
    except SettingsError as error:
        raise CommandError(f"the configuration cannot be used\n{error}") from None


def good(path: Path, settings: Settings) -> str:
    """What is said of one that can be used."""
    counts = ((settings.issuers, "issuer"), (settings.grants, "grant"), (settings.models, "model"))
    said = ", ".join(f"{len(found)} {what}{'' if len(found) == 1 else 's'}" for found, what in counts)
    return f"{path} is good: {said}"
