"""How options are read. Law: a value that cannot be is a usage error, before anything starts."""

from __future__ import annotations

import typer

from protos import units


def seconds(value: str, option: str) -> float:
    """`30s` -> 30.0."""
    try:
        return units.seconds(value)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=option) from None


def size(value: str) -> int:
    """`64MiB`, as a parser of Typer's."""
    try:
        return units.size(value)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def address(value: str) -> str:
    """`HOST:PORT`, as a parser of Typer's."""
    try:
        return units.address(value)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
