"""Commands whose help shows no type beside `--help`. Law: what takes no value is shown with none.

Typer writes `<bool>` there, and for its own option has no setting; for ours an empty metavar does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from typer.core import TyperCommand, TyperGroup, TyperOption

if TYPE_CHECKING:
    from typer._click.core import Context


class Command(TyperCommand):
    """A command."""

    def get_help_option(self, ctx: Context) -> TyperOption | None:
        """`--help`, as Typer makes it."""
        return _plain(super().get_help_option(ctx))


class Group(TyperGroup):
    """A command with commands of its own."""

    def get_help_option(self, ctx: Context) -> TyperOption | None:
        """`--help`, as Typer makes it."""
        return _plain(super().get_help_option(ctx))


def _plain(option: TyperOption | None) -> TyperOption | None:
    if option is not None:
        option.metavar = ""
    return option
