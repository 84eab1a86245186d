"""What a user watches. Law: only a terminal that can redraw a line is shown signs of life; a closed pipe is an error.

rich ends the whole process when its reader leaves, in the middle of whatever runs; here that is an exception like any
other, so that what was started is ended.
"""

from __future__ import annotations

import contextlib
from contextlib import AbstractContextManager

import rich.console


class Console(rich.console.Console):
    """Standard output, without rich's colouring of numbers and the like."""

    def __init__(self) -> None:
        super().__init__(highlight=False)

    def on_broken_pipe(self) -> None:
        """Raise BrokenPipeError."""
        raise BrokenPipeError


def busy(console: rich.console.Console, words: str) -> AbstractContextManager[object]:
    """A spinner with these words while inside."""
    if not live(console):
        return contextlib.nullcontext()
    return console.status(words, spinner="line" if console.options.ascii_only else "dots")


def live(console: rich.console.Console) -> bool:
    """Whether a line can be drawn again."""
    return console.is_terminal and not console.is_dumb_terminal
