"""Calls whose spans are made afterwards. Law: a line for each carried call that nobody sampled, but failed or was slow.

The lane has told its worker under which span it is (`lane.lua`); the line says the rest, and whoever reads it makes the
spans. What it says is said by the script or by Envoy itself, never by a caller, but for the trace that it has begun.
Source: https://www.envoyproxy.io/docs/envoy/latest/configuration/advanced/substitution_formatter
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mesh.envoy.proto import Json, named
from mesh.express.lines import CARRIED, NOT_OK, NOTED, TO_METADATA, logger, only, reason_of, slow_from, status
from protos import tracing

PARENT: Final = "parent"
"""The traceparent with which the call came, where it had one."""
TOLD: Final = "told"
"""The traceparent that the worker has."""
BEGAN: Final = "began"
"""Seconds since the epoch."""
TOOK: Final = "took"
"""Microseconds: of the call, of the worker's part of it, and before that."""
UPSTREAM: Final = "upstream"
BEFORE: Final = "before"

_UNSAMPLED: Final = ".*[02468ace]"  # the script has read it, or has written it


@dataclass(frozen=True)
class Late:
    """Where lines go, from how many milliseconds on a call is slow, and what lines say as those of the access log do.

    `of_metadata`: names -> keys of the worker's metadata; `reasons`: the status of each refusal -> its reason.
    """

    path: Path
    slow: int
    of_metadata: Mapping[str, str]
    reasons: Mapping[int, str]


def loggers(late: Late | None) -> list[Json]:
    """envoy.config.accesslog.v3.AccessLog."""
    if late is None:
        return []
    unsampled: Json = {"name": "traceparent", "string_match": {"safe_regex": {"regex": _UNSAMPLED}}}
    of_what: list[Json] = [
        {"or_filter": {"filters": [NOT_OK, slow_from(late.slow)]}},
        {"header_filter": {"header": unsampled}},
        only(f"xds.route_name == '{CARRIED}'"),
    ]
    return [logger(late.path, of_what, _words(late))]


def filters(late: Late | None) -> list[Json]:
    """What notes, before the script, in which trace a call comes."""
    if late is None:
        return []
    value: Json = {"metadata_namespace": NOTED, "key": PARENT}
    rule: Json = {"header": "traceparent", "on_header_present": value}
    return [named("parent", TO_METADATA, request_rules=[rule])]


def _words(late: Late) -> Mapping[str, str]:
    metadata = {name: f"%REQ({key}):{tracing.LONGEST}%" for name, key in late.of_metadata.items()}
    return {
        **metadata,
        BEGAN: "%START_TIME(%s.%6f)%",
        TOOK: "%COMMON_DURATION(DS_RX_BEG:DS_TX_END:us)%",
        BEFORE: "%COMMON_DURATION(DS_RX_BEG:US_TX_BEG:us)%",
        UPSTREAM: "%COMMON_DURATION(US_TX_BEG:US_RX_END:us)%",
        PARENT: f"%DYNAMIC_METADATA({NOTED}:{PARENT})%",
        TOLD: "%REQ(traceparent)%",
        tracing.RPC_STATUS: status(),
        tracing.REASON: reason_of(late.reasons),
    }
