"""Texts on a terminal. Law: what is shown may come from a file, a mesh or a caller, and moves no cursor."""

from __future__ import annotations

from typing import Final

_SHOWN: Final = "\N{REPLACEMENT CHARACTER}"
_CONTROL: Final = {code: _SHOWN for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) not in "\t\n"}


def printable(text: str) -> str:
    """The text, without what a terminal would obey."""
    return text.translate(_CONTROL)
