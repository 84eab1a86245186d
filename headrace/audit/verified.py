"""Whether an audit is as it was written. Law: the first line that is wrong is named, and after it nothing is believed.

It is found: a line that was changed, taken away, put in or moved, and a file that is missing between others. That lines
are missing at the end, or that the whole chain was made anew, is found by what is expected: a line's number and hash
that somebody has kept elsewhere.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Final

from gateway.audit_chain import BEGINNING, Link, follows, link_of
from headrace.audit.files import File
from protos import tracing

_STEP: Final = 4096  # lines between words of how far it is
_ABOUT: Final = f'{{"{tracing.AUDIT}":'.encode()


@dataclass(frozen=True)
class Wrong:
    """What is wrong, and where: `at` counts a file's lines from 1, 0 where it is none of them."""

    what: str
    path: Path | None = None
    at: int = 0


@dataclass
class Verified:
    """What was found. `before`: the line before the first; `lost`: calls that the audit itself says it lacks.

    `torn`: pieces that are no lines, and of which the audit says so; `open`: bytes at the end without an end of a line;
    `begun`: processes that have not said that they have ended, by their pids, with the lines in which they began.
    """

    before: Link = BEGINNING
    last: Link = BEGINNING
    lines: int = 0
    lost: int = 0
    torn: int = 0
    open: int = 0
    begun: dict[int, list[int]] = field(default_factory=dict)
    wrong: Wrong | None = None
    expected: set[Link] = field(default_factory=set)

    @property
    def running(self) -> list[int]:
        """The lines of those that have begun and not ended, as far as is known."""
        return sorted(line for lines in self.begun.values() for line in lines)


def verify(files: Sequence[File], expect: Sequence[Link], read: Callable[[int], None]) -> Verified:
    """Look at the files, which are in order; `read` is told of bytes that were read. Raises OSError."""
    found = Verified(expected=set(expect))
    for index, file in enumerate(files):
        found.wrong = _begins(file, files[index - 1] if index else None, found) or _of_file(file, found, read)
        if found.open and index + 1 < len(files) and found.wrong is None:
            found.wrong = Wrong("ends in a piece of a line", file.path)
        if found.wrong:
            return found
    found.wrong = _not_there(found)
    return found


def _begins(file: File, before: File | None, found: Verified) -> Wrong | None:
    """Take up the chain where the file says that it begins."""
    with file.open() as lines:
        previous = _previous(lines.readline())
    if previous is None:
        return Wrong("does not begin with the first line of an audit's file", file.path, 1)
    if before is None:
        found.before = found.last = previous
        _seen(previous, found)
    elif previous.seq > found.last.seq:
        what = f"{_lines(found.last.seq + 1, previous.seq)} missing, between {before.path.name} and {file.path.name}"
        return Wrong(what, file.path)
    elif previous != found.last:
        return Wrong(f"does not go on from the end of {before.path.name}: line {found.last.seq}", file.path, 1)
    return None


def _of_file(file: File, found: Verified, read: Callable[[int], None]) -> Wrong | None:
    piece = bytearray()  # that is no line
    lines = _counted(file, read)
    ahead = next(lines, None)
    while ahead is not None:
        (at, line), ahead = ahead, next(lines, None)
        whole, end = line.removesuffix(b"\n"), line.endswith(b"\n")
        if not end and ahead is None and link_of(whole) is None:
            found.open = len(piece) + len(line)
        elif link_of(whole) is None:
            piece += line
        elif not follows(whole, found.last) or not _told(piece, whole, found):
            after = ahead[1].removesuffix(b"\n") if ahead else b""
            return Wrong(_why(whole, after, found.last) if not piece else _unknown(found.last), file.path, at)
        else:
            piece.clear()
            _take(whole, found)
    if piece and not found.open:
        return Wrong(_unknown(found.last), file.path)
    return None


def _counted(file: File, read: Callable[[int], None]) -> Iterator[tuple[int, bytes]]:
    with file.open() as lines:
        done = 0
        for at, line in enumerate(lines, start=1):
            yield at, line
            done += len(line)
            if at % _STEP == 0:
                read(done)
                done = 0
        read(done)


def _why(line: bytes, after: bytes, last: Link) -> str:
    """What is wrong with a line that does not follow."""
    link, wanted = link_of(line), last.seq + 1
    next_one = link_of(after)
    if link is None or link.seq == wanted:
        return f"line {wanted} was {'put in' if follows(after, last) else 'changed, or the one before it'}"
    if next_one is not None and next_one.seq == wanted:
        return f"line {link.seq} was {'put in' if link.seq <= last.seq else 'moved'}: it stands where {wanted} should"
    if link.seq > wanted:
        return f"{_lines(wanted, link.seq - 1)} missing"
    return f"line {link.seq} was put in, or moved: it stands where {wanted} should"


def _unknown(last: Link) -> str:
    return f"what comes after line {last.seq} is no line of an audit"


def _told(piece: bytearray, line: bytes, found: Verified) -> bool:
    """Whether there is no piece, or the line tells of it."""
    if not piece:
        return True
    told = _about(line).get("torn")
    found.torn += 1
    # Where it had no end, it was given one with the line that tells of it.
    return any(told == {"bytes": len(one), "sha256": sha256(one).hexdigest()} for one in (piece, piece[:-1]))


def _take(line: bytes, found: Verified) -> None:
    link = link_of(line)
    if link is None:
        raise ValueError("no line of an audit")
    if line.startswith(_ABOUT):
        _say(_about(line), link, found)
    found.last = link
    found.lines += 1
    _seen(link, found)


def _say(told: dict[str, object], link: Link, found: Verified) -> None:
    """What the audit says of itself."""
    if isinstance(lost := told.get("lost"), int):
        found.lost += lost
    if not isinstance(pid := told.get("pid"), int):
        return
    begun = found.begun.setdefault(pid, [])
    match told.get(tracing.AUDIT):
        case "start":
            begun.append(link.seq)
        case "stop" if begun:
            begun.pop()


def _seen(link: Link, found: Verified) -> None:
    found.expected.discard(link)


def _not_there(found: Verified) -> Wrong | None:
    """Of what is expected, the first that was not found."""
    for link in sorted(found.expected, key=lambda one: one.seq):
        if link.seq > found.last.seq:
            return Wrong(f"{_lines(found.last.seq + 1, link.seq)} missing at the end")
        if link.seq < found.before.seq:
            return Wrong(f"line {link.seq} is in no file here: they begin at line {found.before.seq + 1}")
        return Wrong(f"line {link.seq} is another one than expected: the chain was made anew, there or before")
    return None


def _previous(line: bytes) -> Link | None:
    told = _about(line).get("previous")
    if not isinstance(told, dict) or not isinstance(told.get("seq"), int) or not isinstance(told.get("chain"), str):
        return None
    return Link(told["seq"], told["chain"])


def _about(line: bytes) -> dict[str, object]:
    """A line about the audit itself; empty for any other."""
    try:
        told = json.loads(line) if line.startswith(_ABOUT) else {}
    except (ValueError, RecursionError):
        return {}
    return told if isinstance(told, dict) else {}


def _lines(first: int, last: int) -> str:
    return f"line {first} is" if first == last else f"lines {first} to {last} are"
