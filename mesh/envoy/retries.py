"""Retries. Law: a route that says nothing is retried twice, where that is safe; attempts 0 turns retries off.

A call whose copy is chosen by a hash goes to the same copy again; any other call goes to a copy that it was not at.
Source: Istio's retry.ConvertPolicy.
"""

from __future__ import annotations

from typing import Final

from mesh.envoy.proto import Json, duration, message, named
from mesh.istio.http_route import HTTPRetry

_ATTEMPTS: Final = 2
_RETRY_ON: Final = ("connect-failure", "refused-stream", "unavailable", "cancelled", "retriable-status-codes")
_OTHER_HOST_ATTEMPTS: Final = "5"
_BY_STATUS: Final = "retriable-status-codes"

_PREVIOUS_HOSTS: Final = named(
    "envoy.retry_host_predicates.previous_hosts",
    "envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate",
)
_PREVIOUS_PRIORITIES: Final = named(
    "envoy.retry_priorities.previous_priorities",
    "envoy.extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig",
    update_frequency=2,
)


def retry_policy(retries: HTTPRetry | None, *, hashed: bool) -> Json | None:
    """envoy.config.route.v3.RetryPolicy; None: no retries. `hashed`: a hash chooses the one destination's copy."""
    if retries is None:
        return _policy(",".join(_RETRY_ON), other_hosts=not hashed)
    if retries.attempts == 0:
        return None
    ignore_previous = retries.retry_ignore_previous_hosts
    return _policy(
        _retry_on(retries),
        other_hosts=not hashed if ignore_previous is None else ignore_previous,
        num_retries=retries.attempts,
        retriable_status_codes=list(retries.status_codes) or None,
        per_try_timeout=duration(retries.per_try_timeout),
        retry_priority=_PREVIOUS_PRIORITIES if retries.retry_remote_localities else None,
        retry_back_off=message(base_interval=duration(retries.backoff)) if retries.backoff else None,
    )


def _policy(retry_on: str, *, other_hosts: bool, num_retries: int = _ATTEMPTS, **rest: object) -> Json:
    return message(
        retry_on=retry_on,
        num_retries=num_retries,
        retry_host_predicate=[_PREVIOUS_HOSTS] if other_hosts else None,
        host_selection_retry_max_attempts=_OTHER_HOST_ATTEMPTS,
        **rest,
    )


def _retry_on(retries: HTTPRetry) -> str:
    if not retries.retry_on:
        return ",".join(_RETRY_ON)
    conditions = ",".join(retries.conditions)
    # As Istio does, also where no condition stands before it: Envoy passes over what is empty.
    return f"{conditions},{_BY_STATUS}" if retries.status_codes and _BY_STATUS not in conditions else conditions
