"""What is left of a call. Law: whoever looks at calls from outside sees this, once for each, at its end.

It names callers, grants, models and versions, and holds nothing else that a caller has sent: no token, claim or tensor.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import grpc

from gateway.rpcs import Rpc


class Ended(NamedTuple):
    """A call that Python has answered, or had when it ended.

    `began` is in nanoseconds since the epoch, durations in seconds: `upstream` is for how much of it a worker had the
    call. Empty is what was not known: `caller` before the token was found good, `grant` before a permit was given,
    `version_served` but for ModelInfer. Of a stream `model` and `version_asked` are those of its last message. Names
    that callers have chosen are as they chose them. `trace_id`: of a trace that the caller, once known, has begun, or
    of spans that are `kept`. `received` and `sent` are bytes of messages, with the five that gRPC puts before each.
    `reason` is empty where a worker's own status was passed on.
    """

    rpc: Rpc
    status: grpc.StatusCode
    reason: str
    model: str
    version_asked: str
    version_served: str
    caller: str
    grant: str
    request_id: str
    trace_id: str
    kept: bool
    peer: str
    began: int
    duration: float
    upstream: float
    received: int
    sent: int
    messages_received: int
    messages_sent: int


Observer = Callable[[Ended], None]
"""Looks at a call that has ended; never blocks, and never raises."""
