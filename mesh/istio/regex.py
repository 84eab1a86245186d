"""Whether a pattern is RE2's. Law: a pattern that Envoy would refuse does not reach it.

Python has no RE2: what Python's `re` alone knows (lookaround, back references, atomic groups) is refused here, what RE2
alone knows is put in Python's words, and `re` judges the rest.
"""

from __future__ import annotations

import re
from typing import Final

_ONLY_PYTHON: Final = re.compile(r"\(\?(?:[=!>#(]|<[=!]|P=)|(?<![\\])[*+?}]\+|\\[1-9Z]")
_ONLY_RE2: Final = (
    (re.compile(r"\\[pP](?:[A-Z]|\{\^?\w+\})"), r"\\w"),
    (re.compile(r"\[:\^?[a-z]+:\]"), "a"),
    (re.compile(r"\\z"), r"\\Z"),
    (re.compile(r"\\C"), "."),
    (re.compile(r"\\Q(.*?)(?:\\E|$)"), "q"),
    (re.compile(r"\(\?<(\w+)>"), r"(?P<\1>"),
)


def mistake_in_regex(pattern: str) -> str | None:
    """What is wrong with a pattern, or None."""
    if not pattern:
        return "must not be empty"
    if len(pattern.encode()) > 1024:
        return "a pattern has at most 1024 bytes"
    if _ONLY_PYTHON.search(pattern.replace("\\\\", "")):
        return f"{pattern!r} is no RE2 pattern: lookaround, back references and possessive matches are unknown to it"
    for only, ours in _ONLY_RE2:
        pattern = only.sub(ours, pattern)
    try:
        re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        return f"{pattern!r} is no RE2 pattern: {error}"
    return None
