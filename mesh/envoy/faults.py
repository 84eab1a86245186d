"""Faults that a route injects. Law: a fault without a percentage hits no call; that is Istio's rule.

Source: Istio's TranslateFault.
"""

from __future__ import annotations

from typing import Final

from mesh.envoy.proto import Json, duration, message, typed
from mesh.envoy.shares import in_hundredths, in_millionths
from mesh.istio.fault import GRPC_STATUSES, Abort, Delay, HTTPFaultInjection

FAULT_FILTER: Final = "envoy.filters.http.fault"


def fault(injection: HTTPFaultInjection) -> Json:
    """envoy.extensions.filters.http.fault.v3.HTTPFault, packed, for a route's typed_per_filter_config."""
    return typed(
        "envoy.extensions.filters.http.fault.v3.HTTPFault",
        delay=_delay(injection.delay) if injection.delay else None,
        abort=_abort(injection.abort) if injection.abort else None,
    )


def _delay(delay: Delay) -> Json:
    share = in_millionths(delay.percentage) if delay.percentage else in_hundredths(delay.percent)
    return message(fixed_delay=duration(delay.fixed_delay), percentage=share)


def _abort(abort: Abort) -> Json:
    return message(
        percentage=in_millionths(abort.percentage) if abort.percentage else None,
        http_status=abort.http_status,
        grpc_status=None if abort.grpc_status is None else GRPC_STATUSES[abort.grpc_status],
    )
