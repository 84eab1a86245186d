"""What the access log says of a call. Law: one line for each, with what the caller was told."""

from __future__ import annotations

import json
from functools import partial

from gateway.access_log import AccessLog, Line
from gateway.ended import Ended, Observer
from protos import tracing
from protos.contract import PYTHON_LANE


def to(log: AccessLog) -> Observer:
    """Leaves the line of each call there."""
    return lambda ended: log.write(partial(line, ended))


def line(ended: Ended) -> Line:
    """The line of the call."""
    told = {
        tracing.MODEL: short(ended.model),
        tracing.VERSION_ASKED: short(ended.version_asked),
        tracing.CALLER: short(ended.caller),
        tracing.GRANT: ended.grant,
        tracing.REASON: ended.reason,
        tracing.TRACE_ID: ended.trace_id,
        tracing.PEER_ADDRESS: short(ended.peer),
    }
    always: dict[str, str | int] = {
        tracing.LANE: PYTHON_LANE,
        tracing.RPC_METHOD: ended.rpc.full_name,
        tracing.RPC_STATUS: ended.status.name,
        tracing.REQUEST_ID: ended.request_id,
        tracing.DURATION: int(ended.duration * 1000),
        tracing.REQUEST_SIZE: ended.received,
        tracing.RESPONSE_SIZE: ended.sent,
    }
    return Line(ended.began, always | {name: value for name, value in told.items() if value})


def short(name: str) -> str:
    """Of a name that is written with many escapes little is left: a pipe takes no more than 4 KiB of a line at once."""
    name = name[: tracing.LONGEST]
    while len(json.dumps(name)) > tracing.LONGEST + 2:
        name = name[: len(name) * 3 // 4]
    return name
