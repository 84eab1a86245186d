"""What a user watches. Law: only a terminal that can redraw a line is shown signs of life; a closed pipe is an error.

rich ends the whole process when its reader leaves, in the middle of whatever runs; here that is an exception like any
other, so that what was started is ended.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from contextlib import AbstractContextManager

import rich.console
from rich.segment import Segment

from headrace.printable import printable


class Console(rich.console.Console):
    """Standard output, without rich's colouring of numbers and its pictures, and with no text that a terminal obeys."""

    def __init__(self) -> None:
        super().__init__(highlight=False, emoji=False)

    def render(
        self, renderable: rich.console.RenderableType, options: rich.console.ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """As rich does, each text printable."""
        for text, style, control in super().render(renderable, options):
            yield Segment(text if control else printable(text), style, control)

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
