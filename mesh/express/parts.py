"""What an Envoy at the public address does, whoever starts it. Law: what callers say to the lane it never reads.

Parts of an Envoy configuration: `front` puts them into a bootstrap, `mesh.render.express` into Istio's EnvoyFilter.
"""

from __future__ import annotations

from typing import Final

from mesh.envoy.proto import ROUTER, ROUTER_FILTER, Json, named, typed
from mesh.express.clusters import WINDOWS
from mesh.express.rules import (
    MESSAGE_WITHIN,
    PYTHON,
    Rules,
    script,
    script_of_answers,
)
from mesh.express.traced import TO_KEY
from protos.contract import GENERATION_KEY, LEARN_KEY, LESSON_KEY, PEER_KEY, SAMPLED_KEY

LUA_FILTER: Final = "envoy.filters.http.lua"
LANE_KEY: Final = "x-headrace-lane"
"""By which lane a call goes, once the script knows: EXPRESS or PYTHON."""
CLUSTER_KEY: Final = "x-headrace-cluster"
EXPRESS: Final = "express"
IDLE: Final = f"{MESSAGE_WITHIN}s"
"""How long Python is waited for while a message may not have come in full."""

_LUA: Final = "envoy.extensions.filters.http.lua.v3.Lua"
_LUA_OF_ROUTE: Final = "envoy.extensions.filters.http.lua.v3.LuaPerRoute"
_EARLY: Final = "envoy.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation"
_ANSWERS: Final = "answers"
_OURS: Final = (LANE_KEY, CLUSTER_KEY, LEARN_KEY, LESSON_KEY, GENERATION_KEY, TO_KEY, SAMPLED_KEY, PEER_KEY)
_STREAMS: Final = 1000  # calls at a time on one connection, as of the Python lane's own door
_UPDATES_OF: Final = "max_inbound_window_update_frames_per_data_frame_sent"
_UPDATES: Final = (
    100  # gRPC's callers are generous with these, too, but are no peers of ours (mesh/express/clusters.py)
)
_HEADERS: Final = 32  # KiB, as the Python lane takes
_TAKEN: Final = "30s"  # in which a caller must take some of its answer
_MARGIN: Final = 1024 * 1024  # bytes over the largest request in which Python can tell TOO_LARGE


def held(largest: int) -> int:
    """Bytes of a message that may be held back until it is decided."""
    return largest + _MARGIN


def manager() -> Json:
    """Fields of the HttpConnectionManager."""
    return {
        "codec_type": "HTTP2",
        "http2_protocol_options": {"max_concurrent_streams": _STREAMS, _UPDATES_OF: _UPDATES, **WINDOWS},
        "max_request_headers_kb": _HEADERS,
        "use_remote_address": True,
        "skip_xff_append": True,
        "early_header_mutation_extensions": [named("ours", _EARLY, mutations=_gone(*_OURS, "x-request-id"))],
        "generate_request_id": False,
        "stream_idle_timeout": "0s",
        "stream_flush_timeout": _TAKEN,
        "server_header_transformation": "PASS_THROUGH",
        "local_reply_config": {"mappers": [_too_large(), _unanswered()]},
    }


def lua(rules: Rules) -> Json:
    """The filter with the lane's script; on the routes of carried calls, that of their answers."""
    scripts = {_ANSWERS: {"inline_string": script_of_answers(rules)}}
    return named(LUA_FILTER, _LUA, default_source_code={"inline_string": script(rules)}, source_codes=scripts)


def router() -> Json:
    """The last filter; what Envoy says about itself does not reach callers and workers."""
    return named(ROUTER_FILTER, ROUTER, suppress_envoy_headers=True)


def carried() -> Json:
    """Fields of a route that carried calls take: their answers' script, and what of the headers is only ours."""
    request_id = {"key": "x-request-id", "value": "%REQ(X-REQUEST-ID)%"}
    return {
        "typed_per_filter_config": {LUA_FILTER: typed(_LUA_OF_ROUTE, name=_ANSWERS)},
        "request_headers_to_remove": [LANE_KEY, CLUSTER_KEY, "x-forwarded-proto", "x-forwarded-for", "user-agent"],
        "response_headers_to_add": [{"header": request_id, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}],
    }


def _too_large() -> Json:
    """A message that is over what is held back here gets the status that gRPC itself would give it."""
    status = {"header": {"key": "grpc-status", "value": "8"}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
    too_large = {"comparison": {"op": "EQ", "value": {"default_value": 413, "runtime_key": "headrace.none"}}}
    return {"filter": {"status_code_filter": too_large}, "headers_to_add": [status]}


def _unanswered() -> Json:
    """What Envoy says where Python does not answer is for us; of carried calls the script tells what it means."""
    by_python = {"name": LANE_KEY, "string_match": {"exact": PYTHON}}
    words = {"text_format_source": {"inline_string": "the gateway does not answer"}}
    return {"filter": {"header_filter": {"header": by_python}}, "body_format_override": words}


def _gone(*names: str) -> list[Json]:
    return [{"remove": name} for name in names]
