r"""RE2 patterns for Python's `re`. Law: on ASCII, which is all that paths and headers of gRPC hold, both match alike.

A pattern that `regex.mistake_in_regex` lets through is written in Python's words: RE2's classes of characters, quoted
parts and names of groups. `\d`, `\w`, `\s` and `\b` are ASCII's, as in RE2.
Source: https://github.com/google/re2/wiki/Syntax.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from typing import Final

_ASCII: Final = frozenset(map(chr, range(128)))
_NO_ASCII: Final = "\\U00000080-\\U0010ffff"
_POSIX: Final = {
    "alnum": "0-9A-Za-z",
    "alpha": "A-Za-z",
    "ascii": r"\x00-\x7f",
    "blank": r"\t ",
    "cntrl": r"\x00-\x1f\x7f",
    "digit": "0-9",
    "graph": "!-~",
    "lower": "a-z",
    "print": " -~",
    "punct": r"!-/:-@\[-`{-~",
    "space": r"\t-\r ",
    "upper": "A-Z",
    "word": "0-9A-Za-z_",
    "xdigit": "0-9A-Fa-f",
}
_TOKEN: Final = re.compile(
    r"\\Q(?P<quoted>.*?)(?:\\E|$)"
    r"|\\(?P<negated>[pP])(?:\{(?P<not>\^?)(?P<name>\w+)\}|(?P<letter>[A-Z]))"
    r"|\[:(?P<without>\^?)(?P<posix>[a-z]+):\]"
    r"|(?P<group>\(\?<)(?=\w)"
    r"|\\.|.",
    re.DOTALL,
)
_WORDS: Final = {"\\z": "\\Z", "\\C": "(?s:.)"}


def matches(pattern: str, text: str) -> bool:
    """Whether a pattern matches the whole of a text (RE2::FullMatch)."""
    return _compiled(pattern).fullmatch(text) is not None


@lru_cache(maxsize=256)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(translated(pattern), re.ASCII)


def translated(pattern: str) -> str:
    """The pattern in Python's words."""
    written: list[str] = []
    opened: int | None = None  # where in the pattern the open class of characters began
    for token in _TOKEN.finditer(pattern):
        text = token[0]
        if opened is None:
            opened = token.start() if text == "[" else None
            written.append(_outside(token))
            continue
        # As the first character of a class, ] is one of its characters.
        first = pattern[opened + 1 : token.start()] in ("", "^")
        if text == "]" and not first:
            opened = None
            written.append(text)
        else:
            written.append(_inside(token))
    return "".join(written)


def _outside(token: re.Match[str]) -> str:
    if token["quoted"] is not None:
        return re.escape(token["quoted"])
    if token["group"]:
        return "(?P<"
    return f"[{_property(token)}]" if token["negated"] else _WORDS.get(token[0], token[0])


def _inside(token: re.Match[str]) -> str:
    if token["posix"]:
        characters = _POSIX[token["posix"]]
        return _class(frozenset(re.findall(f"[^{characters}]", "".join(_ASCII)))) if token["without"] else characters
    if token["negated"]:
        return _property(token)
    return f"\\{token[0]}" if token[0] in "[&~|" else token[0]  # of which Python may make sets of sets one day


def _property(token: re.Match[str]) -> str:
    """The characters of a Unicode category or script; of scripts, ASCII has Latin and what is common to all."""
    name = token["letter"] or token["name"]
    letters = {one for one in _ASCII if one.isalpha()}
    scripts = {"Any": _ASCII, "Latin": letters, "Common": _ASCII - letters}
    found = scripts.get(name) or {one for one in _ASCII if unicodedata.category(one).startswith(name)}
    if (token["negated"] == "P") != (token["not"] == "^"):
        return _class(_ASCII - found) + _NO_ASCII
    return _class(frozenset(found))


def _class(characters: frozenset[str]) -> str:
    """The inside of a class; of no character of ASCII, one that no call holds."""
    return "".join(f"\\x{ord(one):02x}" for one in sorted(characters)) or "\\U0010ffff"
