"""Faults that a route injects. Law: a fault says what it does and to what share of the calls."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Final

import grpc
from pydantic import AfterValidator, Field

from mesh.istio.message import Message, Mistake, Unimplemented
from mesh.istio.values import Int32, PercentDouble, PercentInt, PositiveDuration

GRPC_STATUSES: Final = {code.name: int(code.value[0]) for code in grpc.StatusCode}


class Percent(Message):
    """A share of calls, 0 to 100."""

    value: PercentDouble = 0.0


def _not_too_small(value: float) -> float:
    if 0 < value < 0.0001:
        raise ValueError(f"{value:g} is neither 0 nor in 0.0001..100")
    return value


class FaultPercent(Percent):
    """A share of calls as fine as Envoy can draw it."""

    value: Annotated[PercentDouble, AfterValidator(_not_too_small)] = 0.0


def _grpc_status(value: str) -> str:
    if value not in GRPC_STATUSES:
        raise ValueError(f"{value!r} is no gRPC status, as UNAVAILABLE is")
    return value


class Delay(Message):
    """A wait before a call is forwarded; `percentage` wins over the older `percent`; with neither it hits none."""

    percentage: FaultPercent | None = None
    percent: PercentInt = 0
    fixed_delay: PositiveDuration | None = None
    exponential_delay: Unimplemented = None


class Abort(Message):
    """An answer instead of forwarding; without a percentage it hits no call, as in Envoy."""

    oneofs = (("http_status", "grpc_status", "http2_error"),)

    percentage: FaultPercent | None = None
    http_status: Annotated[Int32, Field(ge=200, le=600)] | None = None
    grpc_status: Annotated[str, AfterValidator(_grpc_status)] | None = None
    http2_error: Unimplemented = None


class HTTPFaultInjection(Message):
    """A delay, an abort, or both."""

    delay: Delay | None = None
    abort: Abort | None = None

    def mistakes(self) -> Iterator[Mistake]:
        """No fault at all."""
        if self.delay is None and self.abort is None:
            yield (), "needs a delay or an abort"
