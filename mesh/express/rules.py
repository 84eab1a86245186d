"""What the lane's script is told. Law: the script has no word of its own that the Python lane has, too.

Source of the syntax: https://www.lua.org/manual/5.1/manual.html, section 2.1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Final, Literal

from mesh.express.lines import NOTED
from mesh.express.traced import TRACED

Lua = str | int | float | bool | Sequence["Lua"] | Mapping[str, "Lua"]

PLACEHOLDER: Final = "\x7e" * 32
"""Where a request's id goes in a refusal; as long as an id."""
PYTHON: Final = "python"
"""The cluster of the Python lane."""
ASKED: Final = "asked"
"""The cluster that the lane's questions go to; they wait behind no caller's message."""

_PASSES, _DROPPED, _DECIDED = 1, 2, 3
_FRESH: Final = 250  # milliseconds after which the generation is asked for anew
_STALE: Final = 900  # milliseconds after which, without an answer, lessons are not believed
_ASK_WITHIN: Final = 500  # milliseconds in which it is told
_APART: Final = 4096  # kinds of calls, by their names, that are counted apart
_NO_MESSAGE: Final = "\0" * 5  # one without a byte, as gRPC frames it
MESSAGE_WITHIN: Final = 30
"""Seconds in which a message must have come."""
_LONGEST_TOKEN: Final = 16 * 1024 + len("Bearer ")  # characters
_LONGEST_LINE: Final = 500  # characters of a worker's words in our log
# What a call cannot be without, what the script looks at or the route takes away.
_OF_CALLS: Final = (
    *(":authority", ":method", ":path", ":scheme", "authorization", "content-length", "content-type", "grpc-timeout"),
    *("te", "traceparent", "tracestate", "user-agent", "x-forwarded-proto"),
)
# What an answer cannot be without, and what gRPC says of it.
_OF_ANSWERS: Final = (
    *(":status", "content-length", "content-type", "grpc-accept-encoding", "grpc-encoding", "grpc-message"),
    *("grpc-status", "grpc-status-details-bin"),
)
_NOT_FOR_CALLERS: Final = ("authorization", "te", "x-forwarded-proto")


_TOO_LONG: Final = {
    ":status": "200",
    "content-type": "application/grpc",
    "grpc-status": "3",
    "grpc-message": "a key of the metadata is too long",
}


@dataclass(frozen=True)
class Refusal:
    """A status with its text and its google.rpc.Status; in both, PLACEHOLDER stands for the request's id."""

    status: int
    message: str
    details: bytes


@dataclass(frozen=True)
class Words:
    """By which of a worker's words, or of the mesh's, a failure is told from others."""

    out_of_time: Sequence[str]
    full: Sequence[str]
    denied: str
    of_tokens: Sequence[str]
    longest: int  # characters of a worker's that are passed on


@dataclass(frozen=True)
class Metadata:
    """What of a caller's metadata goes on: not these keys, nor what begins so; of the rest so much, `each` added."""

    dropped: Sequence[str]
    prefixes: Sequence[str]
    entries: int
    bytes: int
    each: int


@dataclass(frozen=True)
class Rules:
    """What the Python lane would say and do.

    `asked`: the cluster at which the generation is asked for; `path`: of the RPC that may be carried; `ask_path`: of
    the one that tells the generation; `sample`: the share of calls that are sampled for a trace; `tracing`: by whom, if
    at all; `leeway`: milliseconds that a worker is given beyond the caller's deadline; `lease`: in which calls must be
    carried that were counted in advance.
    """

    asked: str
    path: str
    ask_path: str
    sample: float
    tracing: Literal["lane", "python", ""]
    leeway: int
    lease: int
    metadata: Metadata
    words: Words
    deadline: Refusal
    overloaded: Refusal
    not_ready: Refusal
    internal: Refusal
    too_large: Refusal


def script(rules: Rules) -> str:
    """The source of the lane's filter."""
    return _script(("remembered.lua", "lessons.lua", "message.lua", "metadata.lua", "lane.lua"), _of_lane(rules))


def script_of_answers(rules: Rules) -> str:
    """The source of the filter that the answers to carried calls go through."""
    return _script(("remembered.lua", "answers.lua"), _of_answers(rules))


def _script(names: Sequence[str], told: Mapping[str, Lua]) -> str:
    folder = resources.files("mesh.express")
    return "\n".join([f"local RULES = {literal(told)}", *(folder.joinpath(name).read_text() for name in names)])


def _of_lane(rules: Rules) -> Mapping[str, Lua]:
    metadata = rules.metadata
    return {
        "path": rules.path,
        "ask_path": rules.ask_path,
        "ask_within": _ASK_WITHIN,
        "too_long": _TOO_LONG,
        "asked": rules.asked,
        "no_message": _NO_MESSAGE,
        "sample": rules.sample,
        "tracing": rules.tracing,
        "traced": TRACED,
        "leeway": rules.leeway,
        "lease": rules.lease,
        "apart": _APART,
        "fresh": _FRESH,
        "stale": _STALE,
        "nothing": {},
        "message_within": MESSAGE_WITHIN * 1000,
        "longest_token": _LONGEST_TOKEN,
        "kinds": dict.fromkeys(metadata.dropped, _DROPPED) | dict.fromkeys(_OF_CALLS, _DECIDED),
        "prefixes": metadata.prefixes,
        "most_entries": metadata.entries,
        "most_bytes": metadata.bytes,
        "each": metadata.each,
        "too_large": _refusal(rules.too_large),
    }


def _of_answers(rules: Rules) -> Mapping[str, Lua]:
    words = rules.words
    refusals = ("deadline", "overloaded", "not_ready", "internal")
    return {
        "told": dict.fromkeys(_OF_ANSWERS, True),
        "dropped": dict.fromkeys((*rules.metadata.dropped, *_NOT_FOR_CALLERS), True),
        "prefixes": rules.metadata.prefixes,
        "out_of_time": words.out_of_time,
        "full": words.full,
        "denied": words.denied,
        "of_tokens": words.of_tokens,
        "longest": words.longest,
        "longest_line": _LONGEST_LINE,
        "noted": NOTED,
        "placeholder": PLACEHOLDER,
        "refusals": {name: _refusal(getattr(rules, name)) for name in refusals},
    }


def _refusal(refusal: Refusal) -> Mapping[str, Lua]:
    details = refusal.details.decode("latin-1")
    return {"status": str(refusal.status), "message": refusal.message, "details": details}


def literal(value: Lua) -> str:
    """A value as Lua's source has it; a text is its characters' numbers as bytes."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str):
        return '"' + "".join(_character(each) for each in value) + '"'
    if isinstance(value, Mapping):
        return "{" + ",".join(f"[{literal(key)}]={literal(one)}" for key, one in value.items()) + "}"
    return "{" + ",".join(map(literal, value)) + "}"


def _character(character: str) -> str:
    plain = character.isascii() and character.isprintable() and character not in '"\\'
    return character if plain else f"\\{character.encode('latin-1')[0]:03d}"
