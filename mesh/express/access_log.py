"""The access log of the Envoy in front. Law: it writes what Python cannot: calls that were carried or never got there.

What a line says is said by the lane's script, or by Envoy itself, never by a caller: of a call that was not carried no
header is written. Source: https://www.envoyproxy.io/docs/envoy/latest/configuration/advanced/substitution_formatter
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mesh.envoy.proto import Json, named
from mesh.express.traced import TRACE_KEY
from protos import tracing
from protos.contract import PEER_KEY

CARRIED: Final = "carried"
"""The route that only the script can choose."""

_FILE: Final = "envoy.extensions.access_loggers.file.v3.FileAccessLog"
_CEL: Final = "envoy.extensions.access_loggers.filters.cel.v3.ExpressionFilter"
TO_METADATA: Final = "envoy.extensions.filters.http.header_to_metadata.v3.Config"
NOTED: Final = "headrace.log"
"""The namespace of what is noted for lines."""
_PEER: Final = "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%"
_LEFT: Final = ("http2.remote_reset", "http2.remote_refuse", "downstream_remote_disconnect")
"""How it is said that the caller has gone."""
_NO_ID: Final[Json] = {"header_filter": {"header": {"name": tracing.REQUEST_ID_KEY, "present_match": False}}}
"""What the script sends has one."""
_NOT_THERE: Final = ["UF", "UC", "UH"]
"""Flags of what Python was meant to get, and did not, or did not live to answer."""
_SAME: Final[Mapping[str, str]] = {
    tracing.TIME: "%START_TIME%",
    tracing.DURATION: "%DURATION%",
    tracing.REQUEST_SIZE: "%BYTES_RECEIVED%",
    tracing.RESPONSE_SIZE: "%BYTES_SENT%",
    tracing.PEER_ADDRESS: _PEER,
}


@dataclass(frozen=True)
class AccessLog:
    """Where lines go, and what they say of carried calls; a line may go there in parts.

    `fixed`: names -> values; `of_metadata`: names -> keys of the worker's metadata; `reasons`: the status of each
    refusal -> its reason. `python`: values of all other calls; `methods`: their paths -> names, other paths are no
    calls. `slow`: milliseconds from which a call is part of a trace though nobody sampled it, as one is that fails;
    None: there are no traces.
    """

    path: Path
    fixed: Mapping[str, str]
    of_metadata: Mapping[str, str]
    reasons: Mapping[int, str]
    python: Mapping[str, str]
    methods: Mapping[str, str]
    slow: int | None = None


def loggers(log: AccessLog | None) -> list[Json]:
    """envoy.config.accesslog.v3.AccessLog, of each kind of call; none without a log."""
    if log is None:
        return []
    carried = only(f"xds.route_name == '{CARRIED}'")
    others = only(f"xds.route_name != '{CARRIED}' && request.path in {_literal(list(log.methods))}")
    unseen = [only("upstream.request_attempt_count == 0"), {"response_flag_filter": {"flags": _NOT_THERE}}]
    well: Json = {"grpc_status_filter": {"statuses": ["OK"]}}
    # What takes time comes last, and of calls that went well nothing is asked that they all have in common.
    if log.slow is None:
        of_well = [logger(log.path, [well, carried], _of_well(log))]
    else:
        quick, slow = _duration("LE", log.slow - 1), slow_from(log.slow)
        of_well = [
            logger(log.path, [well, quick, carried], _of_well(log)),
            logger(log.path, [well, slow, carried], {**_of_well(log), tracing.TRACE_ID: _kept()}),
        ]
    return [
        *of_well,
        logger(log.path, [{"grpc_status_filter": {"statuses": ["OK"], "exclude": True}}, carried], _of_failed(log)),
        logger(log.path, [_NO_ID, others, {"or_filter": {"filters": unseen}}], _of_others(log)),
    ]


def filters(log: AccessLog | None, script: Json) -> list[Json]:
    """The script, and around it what notes a call's trace: its caller's, or that which begins at the traced hop."""
    if log is None:
        return [script]
    return [_noting("request_rules", "traceparent"), script, _noting("response_rules", TRACE_KEY)]


def peer_told(log: AccessLog | None) -> Json:
    """Fields of a route to Python, which sees no other peer than this Envoy."""
    if log is None:
        return {}
    header = {"header": {"key": PEER_KEY, "value": _PEER}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
    return {"request_headers_to_add": [header]}


def logger(path: Path, all_of: Sequence[Json], words: Mapping[str, str]) -> Json:
    """A line of these words for what passes all these filters."""
    log_format = {"json_format": words, "omit_empty_values": True}
    made = named("envoy.access_loggers.file", _FILE, path=str(path), log_format=log_format)
    return {**made, "filter": {"and_filter": {"filters": all_of}}}


def only(expression: str) -> Json:
    """A filter by an expression of CEL."""
    return {"extension_filter": named("envoy.access_loggers.extension_filters.cel", _CEL, expression=expression)}


def slow_from(milliseconds: int) -> Json:
    """A filter for what takes so long, or longer."""
    return _duration("GE", milliseconds)


def _duration(op: str, milliseconds: int) -> Json:
    value = {"default_value": milliseconds, "runtime_key": "headrace.none"}
    return {"duration_filter": {"comparison": {"op": op, "value": value}}}


def _of_well(log: AccessLog) -> Mapping[str, str]:
    metadata = {name: f"%REQ({key}):{tracing.LONGEST}%" for name, key in log.of_metadata.items()}
    trace = f"%DYNAMIC_METADATA({NOTED}:{tracing.TRACE_ID})%"
    return {**_SAME, **metadata, tracing.RPC_STATUS: "OK", tracing.TRACE_ID: trace, **log.fixed}


def _of_failed(log: AccessLog) -> Mapping[str, str]:
    told = {tracing.RPC_STATUS: status(), tracing.REASON: reason_of(log.reasons)}
    return {**_of_well(log), **told, **({} if log.slow is None else {tracing.TRACE_ID: _kept()})}


def _kept() -> str:
    """The noted trace; one that begins here and that nobody sampled has the request's id."""
    noted = {"command": "DYNAMIC_METADATA", "param": f"{NOTED}:{tracing.TRACE_ID}"}
    begun = f"{{true: request.headers['{tracing.REQUEST_ID_KEY}']}}['traceparent' in request.headers]"
    return f"%COALESCE({json.dumps({'operators': [noted, {'command': 'CEL', 'param': begun}]})})%"


def reason_of(reasons: Mapping[int, str]) -> str:
    """The reason of a refusal, by its status."""
    return f"%CEL({_literal(reasons)}[response.grpc_status])%"


def _of_others(log: AccessLog) -> Mapping[str, str]:
    method = f"%CEL({_literal(log.methods)}[request.path])%"
    return {**_SAME, tracing.RPC_METHOD: method, tracing.RPC_STATUS: status(), **log.python}


def status() -> str:
    """What the caller was told; where it has gone meanwhile, Envoy alone would guess at something."""
    left = f"{_literal(dict.fromkeys(_LEFT, 'CANCELLED'))}[response.code_details]"
    operators = [{"command": "CEL", "param": left}, {"command": "GRPC_STATUS", "param": "SNAKE_STRING"}]
    return f"%COALESCE({json.dumps({'operators': operators})})%"


def _noting(rules: str, header: str) -> Json:
    """A filter that notes the id in the header, and nothing where there is none."""
    rewrite: Json = {
        "pattern": {"regex": "^(?:(?:00-)?([0-9a-f]{32})(?:-.*)?|.*)$"},
        "substitution": "\\1",
    }
    value: Json = {"metadata_namespace": NOTED, "key": tracing.TRACE_ID, "regex_value_rewrite": rewrite}
    rule: Json = {"header": header, "on_header_present": value}
    return named("envoy.filters.http.header_to_metadata", TO_METADATA, **{rules: [rule]})


def _literal(value: Mapping[int, str] | Mapping[str, str] | Sequence[str]) -> str:
    """As CEL has it, which has no parentheses: these would end a command of Envoy's."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key!r}: {text!r}" for key, text in value.items()) + "}"
    return "[" + ", ".join(map(repr, value)) + "]"
