"""What the audit says of a call. Law: who asked for what, when, from where, and what was decided; nothing it sent.

Allowed inference may be sampled. What was refused, and all else that is allowed, is always told; whether the process
lives anybody may ask, and nothing is decided.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from typing import Final
from urllib.parse import unquote

import grpc

from gateway.access_log import Line, Told
from gateway.ended import Ended, Observer
from gateway.logged import short
from gateway.rpcs import Action
from protos import tracing
from protos.contract import PYTHON_LANE
from protos.errors import Reason

ALLOWED: Final = "allowed"
REFUSED: Final = "refused"
UNDECIDED: Final = "undecided"
"""Its caller left, its time was up, or we failed, before it was decided."""

_FAILURES: Final = {Reason.MODEL_NOT_READY, Reason.DEADLINE, Reason.INTERNAL}
_CALLER: Final = f'"{tracing.CALLER}":"'.encode()


def to(write: Callable[[Told], None], sample: float) -> Observer:
    """Has the line of each call written, and of such a share of allowed inference."""
    return _having(line, write, sample)


def of_messages(write: Callable[[Told], None], sample: float) -> Observer:
    """The same for messages of streams that go on: one that is allowed has no status yet."""
    return _having(line_of_message, write, sample)


def _having(made: Callable[[Ended, str], Line], write: Callable[[Told], None], sample: float) -> Observer:
    def observe(ended: Ended) -> None:
        decided = decision(ended)
        if _told(ended, decided, sample):
            write(partial(made, ended, decided))

    return observe


def _told(ended: Ended, decided: str, sample: float) -> bool:
    if ended.rpc.open:
        return False
    sampled = decided == ALLOWED and ended.rpc.action is Action.INFER
    return not sampled or int(ended.request_id[:8], 16) < sample * 2**32


def decision(ended: Ended) -> str:
    """What was decided: a call that a worker has had was allowed, whatever came of it."""
    by_worker = ended.reason == Reason.OVERLOADED and ended.upstream
    if ended.reason and ended.reason not in _FAILURES and not by_worker:
        return REFUSED
    return ALLOWED if ended.grant or ended.status is grpc.StatusCode.OK else UNDECIDED


def line(ended: Ended, decided: str) -> Line:
    """The line of the call."""
    return Line(ended.began, _fields(ended, decided))


def line_of_message(ended: Ended, decided: str) -> Line:
    """The line of a message of a stream that goes on: when it was decided, and no status where it is allowed."""
    left_out = tracing.RPC_STATUS if decided == ALLOWED else ""
    fields = {name: value for name, value in _fields(ended, decided).items() if name != left_out}
    return Line(ended.began + int(ended.duration * 1e9), fields)


def _fields(ended: Ended, decided: str) -> Mapping[str, str]:
    told = {
        **(who(ended.caller) if ended.caller else {}),
        tracing.GRANT: ended.grant,
        tracing.MODEL: short(ended.model),
        tracing.VERSION_ASKED: short(ended.version_asked),
        tracing.VERSION_SERVED: short(ended.version_served),
        tracing.PEER_ADDRESS: short(ended.peer),
        tracing.REASON: ended.reason,
        tracing.TRACE_ID: ended.trace_id,
    }
    always = {
        tracing.DECISION: decided,
        tracing.LANE: PYTHON_LANE,
        tracing.REQUEST_ID: ended.request_id,
        tracing.RPC_METHOD: ended.rpc.full_name,
        tracing.RPC_STATUS: ended.status.name,
    }
    return always | {name: value for name, value in told.items() if value}


def with_who(told: bytes) -> bytes:
    """A line of the Envoy's, which knows the caller's name alone, with issuer and subject."""
    _, found, rest = told.partition(_CALLER)
    caller = rest.partition(b'"')[0]
    return told[:-1] + _members(caller) + b"}" if found else told


@lru_cache(4096)
def _members(caller: bytes) -> bytes:
    told = {name: value for name, value in who(caller.decode()).items() if name != tracing.CALLER}
    return b"".join(f",{json.dumps(name)}:{json.dumps(value)}".encode() for name, value in told.items())


@lru_cache(4096)
def who(name: str) -> Mapping[str, str]:
    """What is told of a caller; of a long name no more than fits."""
    subject, at, issuer = name.rpartition("@")
    parts = {tracing.ISSUER: issuer, tracing.SUBJECT: subject} if at else {}
    told = {part: short(_unquoted(value)) for part, value in parts.items()}
    return {tracing.CALLER: short(name), **told}


def _unquoted(value: str) -> str:
    """As it was before `Caller.name` quoted it; of a name that Envoy has cut within a character, all but that."""
    try:
        return unquote(value, errors="surrogatepass")
    except UnicodeDecodeError:
        return unquote(value)
