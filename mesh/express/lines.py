"""Lines that the Envoy in front writes of calls. Law: it writes what Python cannot: what it carried or never got there.

What a line says is said by the lane's script, or by Envoy itself, never by a caller: of a call that was not carried no
header is written. Source: https://www.envoyproxy.io/docs/envoy/latest/configuration/advanced/substitution_formatter
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from mesh.envoy.proto import Json, named
from mesh.express.commands import first_of, literal
from mesh.express.traced import TRACE_KEY
from protos import tracing
from protos.contract import PEER_KEY

CARRIED: Final = "carried"
"""The route that only the script can choose."""
_LEFT: Final = ("http2.remote_reset", "http2.remote_refuse", "downstream_remote_disconnect")
"""How it is said that the caller has gone."""

_FILE: Final = "envoy.extensions.access_loggers.file.v3.FileAccessLog"
_CEL: Final = "envoy.extensions.access_loggers.filters.cel.v3.ExpressionFilter"
TO_METADATA: Final = "envoy.extensions.filters.http.header_to_metadata.v3.Config"
NOTED: Final = "headrace.log"
"""The namespace of what is noted for lines."""
_PEER: Final = "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%"
NO_ID: Final[Json] = {"header_filter": {"header": {"name": tracing.REQUEST_ID_KEY, "present_match": False}}}
"""What the script sends has one."""
HAS_ID: Final[Json] = {"header_filter": {"header": {"name": tracing.REQUEST_ID_KEY, "present_match": True}}}
"""Of calls that go well nobody but the script gives it to one; what callers say is in those that Envoy turns away."""
_NOT_THERE: Final = ["UF", "UC", "UH"]
OK: Final[Json] = {"grpc_status_filter": {"statuses": ["OK"]}}
NOT_OK: Final[Json] = {"grpc_status_filter": {"statuses": ["OK"], "exclude": True}}
"""Filters: calls that ended well, and all others."""
_AT_ALL: Final[Mapping[str, str]] = {tracing.TIME: "%START_TIME%", tracing.PEER_ADDRESS: _PEER}


class Lines(Protocol):
    """Lines of one kind, which go into a pipe of their own, and may go there in parts."""

    @property
    def path(self) -> Path:
        """The pipe."""

    def loggers(self) -> list[Json]:
        """envoy.config.accesslog.v3.AccessLog, of each kind of call."""


@dataclass(frozen=True)
class Said:
    """What lines of every kind say in the same words.

    Of carried calls: `fixed`: names -> values; `of_metadata`: names -> keys of the worker's metadata; `reasons`: the
    status of each refusal -> its reason; `slow`: milliseconds from which one is part of a trace though nobody sampled
    it, as one that fails is (None: there are no traces). Of all others: `python`: names -> values; `methods`: their
    paths -> names, other paths are no calls.
    """

    fixed: Mapping[str, str]
    of_metadata: Mapping[str, str]
    reasons: Mapping[int, str]
    python: Mapping[str, str]
    methods: Mapping[str, str]
    slow: int | None

    def carried(self) -> Iterator[tuple[list[Json], Mapping[str, str]]]:
        """Filters and words of each kind of carried call. What takes time comes last."""
        # Of calls that went well nothing is asked that they all have in common.
        if self.slow is None:
            yield [OK, HAS_ID], self._well()
        else:
            yield [OK, _duration("LE", self.slow - 1), HAS_ID], self._well()
            yield [OK, slow_from(self.slow), HAS_ID], self._well() | {tracing.TRACE_ID: _kept()}
        yield [NOT_OK, only(f"xds.route_name == '{CARRIED}'")], self._failed()

    def _well(self) -> dict[str, str]:
        metadata = {name: f"%REQ({key}):{tracing.LONGEST}%" for name, key in self.of_metadata.items()}
        trace = f"%DYNAMIC_METADATA({NOTED}:{tracing.TRACE_ID})%"
        return {**_AT_ALL, **metadata, tracing.RPC_STATUS: "OK", tracing.TRACE_ID: trace, **self.fixed}

    def _failed(self) -> Mapping[str, str]:
        told = {tracing.RPC_STATUS: status(), tracing.REASON: reason_of(self.reasons)}
        return self._well() | told | ({} if self.slow is None else {tracing.TRACE_ID: _kept()})

    def others(self) -> Mapping[str, str]:
        """Words of a call that was not carried."""
        return {**_AT_ALL, tracing.RPC_METHOD: method_of(self.methods), tracing.RPC_STATUS: status(), **self.python}

    def unseen(self) -> list[Json]:
        """Filters: of those, what Python has not got."""
        return [NO_ID, not_carried(self.methods), UNSEEN]

    def unanswered(self) -> list[Json]:
        """Filters: what Python was meant to get, and may have got."""
        return [NO_ID, not_carried(self.methods), only("upstream.request_attempt_count != 0"), UNANSWERED]


def logger(path: Path, all_of: Sequence[Json], *words: Mapping[str, str]) -> Json:
    """envoy.config.accesslog.v3.AccessLog: a line with these words of each call that passes all these filters."""
    log_format = {
        "json_format": {name: word for some in words for name, word in some.items()},
        "omit_empty_values": True,
    }
    made = named("envoy.access_loggers.file", _FILE, path=str(path), log_format=log_format)
    return {**made, "filter": {"and_filter": {"filters": all_of}}}


def only(expression: str) -> Json:
    """A filter: calls of which that is true, in CEL."""
    return {"extension_filter": named("envoy.access_loggers.extension_filters.cel", _CEL, expression=expression)}


UNSEEN: Final = only("upstream.request_attempt_count == 0")
"""A filter: calls that went nowhere."""
UNANSWERED: Final[Json] = {"response_flag_filter": {"flags": _NOT_THERE}}
"""A filter: calls that Python was meant to get, and did not, or did not live to answer."""


def not_carried(methods: Mapping[str, str]) -> Json:
    """A filter: calls of these methods (paths -> names) that are Python's."""
    return only(f"xds.route_name != '{CARRIED}' && request.path in {literal(list(methods))}")


def slow_from(milliseconds: int) -> Json:
    """A filter: calls that take so long, or longer."""
    return _duration("GE", milliseconds)


def filters(lines: Sequence[Lines], script: Json) -> list[Json]:
    """The script, and around it what notes a call's trace: its caller's, or that which begins at the traced hop."""
    if not lines:
        return [script]
    return [_noting("request_rules", "traceparent"), script, _noting("response_rules", TRACE_KEY)]


def peer_told(lines: Sequence[Lines]) -> Json:
    """Fields of a route to Python, which sees no other peer than this Envoy."""
    if not lines:
        return {}
    header = {"header": {"key": PEER_KEY, "value": _PEER}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
    return {"request_headers_to_add": [header]}


def if_left(word: str) -> tuple[str, str]:
    """For `first_of`: the word, where the caller has gone."""
    return "CEL", f"{literal(dict.fromkeys(_LEFT, word))}[response.code_details]"


def reason_of(reasons: Mapping[int, str]) -> str:
    """A command: the reason of a refusal, by its status."""
    return f"%CEL({literal(reasons)}[response.grpc_status])%"


def method_of(methods: Mapping[str, str]) -> str:
    """A command: the name of the method, by its path."""
    return f"%CEL({literal(methods)}[request.path])%"


def status(left: str = "CANCELLED") -> str:
    """What the caller was told, or `left`: where it has gone meanwhile, Envoy alone would guess at something."""
    return first_of(if_left(left), ("GRPC_STATUS", "SNAKE_STRING"))


def _kept() -> str:
    """The noted trace; one that begins here and that nobody sampled has the request's id."""
    begun = f"{{true: request.headers['{tracing.REQUEST_ID_KEY}']}}['traceparent' in request.headers]"
    return first_of(("DYNAMIC_METADATA", f"{NOTED}:{tracing.TRACE_ID}"), ("CEL", begun))


def _duration(op: str, milliseconds: int) -> Json:
    value = {"default_value": milliseconds, "runtime_key": "headrace.none"}
    return {"duration_filter": {"comparison": {"op": op, "value": value}}}


def _noting(rules: str, header: str) -> Json:
    """A filter that notes the id in the header, and nothing where there is none."""
    rewrite: Json = {
        "pattern": {"regex": "^(?:(?:00-)?([0-9a-f]{32})(?:-.*)?|.*)$"},
        "substitution": "\\1",
    }
    value: Json = {"metadata_namespace": NOTED, "key": tracing.TRACE_ID, "regex_value_rewrite": rewrite}
    rule: Json = {"header": header, "on_header_present": value}
    return named("envoy.filters.http.header_to_metadata", TO_METADATA, **{rules: [rule]})
